"""The life of a run as one JSON text: the part of its document that stores keep whole and filter by nothing of."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

from runyard_server.domain.run import (
    Cut,
    ForkPoint,
    HistoryPart,
    RunDocument,
    RunException,
    RunKey,
    StopStage,
    StopStatus,
)


def life_to_json(document: RunDocument) -> str:
    """Returns the text; what is not set is left out, so that it is `{}` for most runs."""
    fields: dict[str, Any] = {
        "exception": asdict(document.exception) if document.exception else None,
        "stop": asdict(document.stop) if document.stop else None,
        "stalled_since": document.stalled_since_unix_ns,
        "fork": asdict(document.fork) if document.fork else None,
        "history_parts": [asdict(part) for part in document.history_parts],
        "preemption_notice": document.preemption_notice,
        "past_active_ns": document.past_active_ns or None,
        "attempt_start": document.attempt_start_unix_ns,
        "delete_time": document.delete_time_unix_ns,
    }
    kept = {name: value for name, value in fields.items() if value not in (None, "", [])}
    return json.dumps(kept, ensure_ascii=False, separators=(",", ":"))


def with_life(document: RunDocument, text: str) -> RunDocument:
    """Returns the document with what the text tells."""
    fields = json.loads(text or "{}")
    stop = fields.get("stop")
    fork = fields.get("fork")
    exception = fields.get("exception")
    return replace(
        document,
        exception=RunException(**exception) if exception else None,
        stop=StopStatus(**{**stop, "stage": StopStage(stop["stage"])}) if stop else None,
        stalled_since_unix_ns=fields.get("stalled_since"),
        fork=ForkPoint(**{**fork, "run_key": RunKey(fork["run_key"])}) if fork else None,
        history_parts=tuple(_part(part) for part in fields.get("history_parts", ())),
        preemption_notice=fields.get("preemption_notice", ""),
        past_active_ns=fields.get("past_active_ns", 0),
        attempt_start_unix_ns=fields.get("attempt_start"),
        delete_time_unix_ns=fields.get("delete_time"),
    )


def history_of(text: str) -> tuple[HistoryPart, ...]:
    """Returns where the history lies, of the text alone; most texts tell of none and are not parsed."""
    if '"history_parts"' not in text:
        return ()
    return tuple(_part(part) for part in json.loads(text).get("history_parts", ()))


def _part(fields: dict[str, Any]) -> HistoryPart:
    return HistoryPart(
        run_key=RunKey(fields["run_key"]),
        last_step=fields["last_step"],
        writer_max=fields["writer_max"],
        cuts=tuple(Cut(**cut) for cut in fields["cuts"]),
    )
