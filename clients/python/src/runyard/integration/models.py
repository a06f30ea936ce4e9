"""Logs what a training saved as a version of the run's model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runyard.integration.open_run import plain_settings

if TYPE_CHECKING:
    from runyard.active_run import Run


def log_model_file(
    run: Run, path: Path, aliases: Sequence[str], metadata: Mapping[str, Any], *, name: str = ""
) -> None:
    """Logs a file or folder as a version of the artifact `model-RUN_ID`; it may be removed or changed at once."""
    from runyard.artifacts.artifact import Artifact

    artifact = Artifact(f"model-{run.id}", type="model", metadata=plain_settings(metadata))
    if path.is_dir():
        artifact.add_dir(str(path))
    else:
        artifact.add_file(str(path), name=name or path.name)
    run.log_artifact(artifact, aliases=list(aliases))
