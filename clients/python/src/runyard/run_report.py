"""What is printed when a run ends: history, summary, links, receipt, where the local folder is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from runyard import terminal as term
from runyard.metric_log import MetricLog
from runyard.run_end import Outcome, outcome_lines, shown_path
from runyard.run_folder import RunFolder
from runyard.run_receipt import dropped_line

if TYPE_CHECKING:
    from runyard.active_run import Run

HISTORY_COUNT_MAX = 2000
"""Metrics whose histories are looked at for the table; more would take long, and ten rows are shown."""


def print_end(
    run: Run,
    metrics: MetricLog,
    terminal: term.Terminal,
    folder: RunFolder | None,
    outcome: Outcome | int,
) -> None:
    """Prints the end of the run, in a notebook as HTML too; `outcome` of an offline run is how many records were lost."""
    if not terminal.is_quiet:
        for table in _tables(run, metrics):
            for line in ["", *table]:
                terminal.line(line)
        terminal.line()
    if run.url is not None:
        terminal.line(f"🚀 View run {terminal.strong(run.name)} at: {terminal.link(run.url)}")
        if run.project_url is not None and not terminal.is_quiet:
            terminal.line(f"⭐️ View project at: {terminal.link(run.project_url)}")
    if folder is None:
        return
    if isinstance(outcome, Outcome):
        for line in outcome_lines(outcome, folder.path):
            terminal.line(line)
    else:
        receipt = run.receipt()
        sent = f", {receipt.records_durable:,} of them durable" if receipt.records_durable else ""
        terminal.line(f"{receipt.records_written:,} records are on this disk{sent}")
        if outcome:
            terminal.line(dropped_line(outcome))
        terminal.line(f"To send this run to the server: runyard sync {shown_path(folder.path)}")
    terminal.line(f"Find logs at: {shown_path(folder.logs_path)}")
    if not terminal.is_silent:
        run.display()


def _tables(run: Run, metrics: MetricLog) -> list[list[str]]:
    settings = run.settings
    logged = metrics.last_values()
    names = [name for name in sorted(logged) if not name.startswith("_")][:HISTORY_COUNT_MAX]
    histories = metrics.histories(names)
    history = term.history_table(histories, settings.max_end_of_run_history_metrics)
    summary = term.summary_table(run.summary.as_dict(), settings.max_end_of_run_summary_metrics)
    hidden = len(logged) - len(names)
    if history and hidden > 0 and history[-1].startswith("+"):
        history[-1] = f"+{hidden + len(names) - settings.max_end_of_run_history_metrics} ..."
    return [table for table in (history, summary) if table]
