"""Where a run continues or begins: the run and step of init(resume_from=…) and init(fork_from=…)."""

from __future__ import annotations

import dataclasses
import re

from runyard import naming
from runyard.errors import InvalidArgument
from runyard.settings import DEFAULT_ENTITY, DEFAULT_PROJECT

_FORM = re.compile(r"(.+)\?_step=(-?[0-9]{1,19})")


@dataclasses.dataclass(frozen=True)
class BranchPoint:
    """A step of a run; the run as it was named: its id, or its path."""

    run: str
    step: int

    @property
    def run_id(self) -> str:
        """Returns the run's id."""
        return self.run.rsplit("/", 1)[-1]

    def path(self, entity: str, project: str) -> str:
        """Returns entity/project/run_id; what was not named is that of the new run."""
        if self.run.count("/") == 2:
            return self.run
        return f"{entity or DEFAULT_ENTITY}/{project or DEFAULT_PROJECT}/{self.run}"


def read_branch_point(text: str, *, argument: str) -> BranchPoint:
    """Returns the step of a run that "RUN?_step=N" names, RUN being an id or entity/project/id; raises InvalidArgument."""
    found = _FORM.fullmatch(str(text).strip())
    if found is None or found[1].count("/") not in (0, 2) or abs(int(found[2])) >= 2**63:
        raise InvalidArgument(
            f"init({argument}={text!r}): it has the form RUN?_step=N, with the id or the path entity/project/id of a "
            f"run and a whole number, such as {argument}='abc123?_step=1000'",
            reason="FIELD_INVALID",
        )
    point = BranchPoint(found[1], int(found[2]))
    naming.check_run_id(point.run_id)
    return point
