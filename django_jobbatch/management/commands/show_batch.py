"""show_batch: show one batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.core.management.base import CommandParser
from django.utils.dateparse import parse_datetime

from django_jobbatch import snapshot, tuning
from django_jobbatch.management.base import ID_HELP, BatchCommand, database_option
from django_jobbatch.management.formatting import moment, pluralize, table, truncate, wrapped
from django_jobbatch.models import JobBatch

#: The terminal states in the order of the output.
TERMINAL_STATUSES: Final = ("succeeded", "failed", "cancelled", "skipped")


class Command(BatchCommand):
    """Shows a batch."""

    help = "Shows a batch: its jobs, dates and callbacks, and its failures by exception."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("id", metavar="ID", help=ID_HELP)
        parser.add_argument("--json", action="store_true", help="Print a JSON object.")

    def handle(self, *, id: str, database: str | None, json: bool, **options: Any) -> None:  # noqa: A002 - the name of the argument
        for batch in self.batches([id], database):
            with self.reporting_errors(batch):
                # A person who runs commands has access to the database and the settings too.
                shown = snapshot.detail(batch, with_messages=True, with_calls=True)
                if json:
                    self.stdout.write(_as_json(shown))
                else:
                    self.stdout.write("\n".join(_lines(shown, batch)))


def _as_json(shown: dict[str, Any]) -> str:
    return json.dumps(shown, indent=2)


def _lines(shown: dict[str, Any], batch: JobBatch) -> Iterator[str]:
    children = snapshot.child_outline(batch)
    yield " ".join(shown["name"].split())
    yield from _indented(_facts(shown))
    if shown["steps"]:
        yield "Steps"
        yield from _indented(_step(step) for step in shown["steps"])
    if children.batches:
        yield "Child batches"
        yield from _indented(_child(depth, batch) for depth, batch in children.batches)
    if children.unnamed:
        yield f"  and {children.unnamed:,} more"
    if shown["callbacks"]:
        yield "Callbacks"
        yield from _callbacks(shown["callbacks"], shown["run"])
    if shown["failures"]["by_exception"]:
        yield _failures_heading(shown["failures"])
        for group in shown["failures"]["by_exception"]:
            yield from _group(group, shown["id"], database_option(batch.database))


def _facts(shown: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    jobs = shown["jobs"]
    yield "id", shown["id"]
    yield "state", shown["outcome"] or shown["status"]
    yield "progress", _progress(shown)
    yield "jobs", ", ".join(f"{jobs[state]:,} {state}" for state in TERMINAL_STATUSES)
    if shown["child_batches"]:
        yield "children", pluralize(shown["child_batches"], "batch", "batches")
    yield "queues", ", ".join(shown["queues"])
    yield "run", f"{shown['run']}"
    if shown["late_outcomes"]:
        yield "late", pluralize(shown["late_outcomes"], "outcome")
    yield "created", _moment(shown["created_at"])
    yield "started", _moment(shown["started_at"])
    if shown["cancelled_at"]:
        yield "cancelled", _moment(shown["cancelled_at"])
        yield "  by", shown["cancelled_by"] or "-"
        yield "  reason", truncate(shown["cancel_reason"], tuning.MAX_MESSAGE_SHOWN) or "-"
    yield "finished", _moment(shown["finished_at"])


def _progress(shown: dict[str, Any]) -> str:
    jobs, running = shown["jobs"], shown["running_jobs"]
    done = jobs["total"] - jobs["pending"]
    now = f", {running:,} running" if running else ""
    return f"{shown['progress']} %, {done:,} of {pluralize(jobs['total'], 'job')}{now}"


def _step(step: dict[str, Any]) -> tuple[str, ...]:
    states = [
        f"{step[state]:,} {state}" for state in (*TERMINAL_STATUSES, "pending") if step[state]
    ]
    return " ".join(step["name"].split()), f"{step['total']:,}", ", ".join(states)


def _child(depth: int, batch: JobBatch) -> tuple[str, ...]:
    failed = f", {batch.failed_jobs:,} failed" if batch.failed_jobs else ""
    links = pluralize(batch.total_jobs, "link" if batch.child_batches else "job")
    return (
        f"{'  ' * depth}{snapshot.short_id(batch.pk)}",
        batch.kind,
        truncate(batch.name, tuning.MAX_CHILD_NAME_SHOWN),
        snapshot.state(batch),
        f"{batch.processed_jobs:,} of {links}{failed}",
    )


def _callbacks(callbacks: list[dict[str, Any]], run: int) -> Iterator[str]:
    """Yield a row for each callback, followed by the message of its failure."""
    rows = _indented(_callback(callback, run) for callback in callbacks)
    for row, callback in zip(rows, callbacks, strict=True):
        yield row
        if failure := callback["failure"]:
            yield from wrapped(_message(failure), " " * 4)


def _callback(callback: dict[str, Any], run: int) -> tuple[str, ...]:
    state = callback["state"].replace("_", " ")
    return (
        callback["role"],
        callback["function"],
        state if callback["run"] == run else f"{state} in run {callback['run']}",
        f"job {callback['job']}" if callback["job"] else "",
    )


def _failures_heading(failures: dict[str, Any]) -> str:
    if failures["has_more"]:
        return f"Failures, the newest {failures['counted']:,}"
    return "Failures"


def _group(group: dict[str, Any], batch_id: str, database: str) -> Iterator[str]:
    newest = group["newest"]
    retried = f", {group['retried']:,} retried since" if group["retried"] else ""
    yield f"  {group['count']:,} x {group['exception']}{retried}"
    where = f"newest: job {newest['job']}{_of(newest['batch'], batch_id)}"
    yield from wrapped(f"{where}, {truncate(newest['call'], tuning.MAX_CALL_SHOWN)}", " " * 4)
    yield from wrapped(truncate(newest["message"], tuning.MAX_MESSAGE_SHOWN), " " * 4)
    yield from _retry_commands(group, database)


def _retry_commands(group: dict[str, Any], database: str) -> Iterator[str]:
    """Yield commands that can be called as they are, for jobs of this batch and its descendants."""
    by_batch: dict[str, list[int]] = {}
    for job in group["retryable"]:
        by_batch.setdefault(job["batch"], []).append(job["job"])
    for batch, jobs in by_batch.items():
        options = " ".join(f"--job {job}" for job in jobs)
        yield f"    retry_batch {snapshot.short_id(batch)} {options}{database}"
    if unlisted := group["count"] - group["retried"] - len(group["retryable"]):
        yield f"    and {unlisted:,} more"


def _of(batch: str, shown: str) -> str:
    return "" if batch == shown else f" of batch {snapshot.short_id(batch)}"


def _message(failure: dict[str, Any]) -> str:
    return truncate(f"{failure['exception']}: {failure['message']}", tuning.MAX_MESSAGE_SHOWN)


def _moment(text: str | None) -> str:
    return moment(parse_datetime(text) if text else None)


def _indented(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    return (f"  {line}" for line in table(list(rows)).splitlines())
