"""show_batch: all there is to say about one batch."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.core.management.base import CommandParser
from django.utils.dateparse import parse_datetime

from django_jobbatch import snapshot
from django_jobbatch.management.base import ID_HELP, BatchCommand, short_id
from django_jobbatch.management.formatting import moment, pluralize, table, truncate, wrapped
from django_jobbatch.models import JobBatch

#: Characters of what an exception says that are shown: all of what ours advise at their ends.
MAX_MESSAGE_LENGTH: Final = 1_000
#: Characters of a call that are shown.
MAX_CALL_LENGTH: Final = 200
#: Characters of the name of a batch inside that are shown.
MAX_NAME_LENGTH: Final = 30
#: In the order in which they are named.
TERMINAL_STATUSES: Final = ("succeeded", "failed", "cancelled", "skipped")


class Command(BatchCommand):
    """Shows a batch."""

    help = "Shows a batch: its jobs, dates and callbacks, and its failures by exception."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the id, and how."""
        super().add_arguments(parser)
        parser.add_argument("id", metavar="ID", help=ID_HELP)
        parser.add_argument("--json", action="store_true", help="Print a JSON object.")

    def handle(self, *, id: str, database: str | None, json: bool, **options: Any) -> None:  # noqa: A002 - the name of the argument
        """Print it."""
        for batch in self.batches([id], database):
            # Whoever runs commands has the database and the settings too.
            shown = snapshot.detail(batch, with_messages=True, with_calls=True)
            if json:
                self.stdout.write(_as_json(shown))
            else:
                self.stdout.write("\n".join(_lines(shown, snapshot.child_outline(batch))))


def _as_json(shown: dict[str, Any]) -> str:
    return json.dumps(shown, indent=2)


def _lines(shown: dict[str, Any], inside: snapshot.ChildOutline) -> Iterator[str]:
    yield " ".join(shown["name"].split())
    yield from _indented(_facts(shown))
    if shown["steps"]:
        yield "Steps"
        yield from _indented(_step(step) for step in shown["steps"])
    if inside.batches:
        yield "Batches inside"
        yield from _indented(_inside(depth, batch) for depth, batch in inside.batches)
    if inside.unnamed:
        yield f"  and {inside.unnamed:,} more"
    if shown["callbacks"]:
        yield "Callbacks"
        yield from _callbacks(shown["callbacks"], shown["run"])
    if shown["failures"]["by_exception"]:
        yield _title_of_failures(shown["failures"])
        for group in shown["failures"]["by_exception"]:
            yield from _group(group, shown["id"])


def _facts(shown: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    jobs = shown["jobs"]
    yield "id", shown["id"]
    yield "state", shown["outcome"] or shown["status"]
    yield "progress", _progress(shown)
    yield "jobs", ", ".join(f"{jobs[state]:,} {state}" for state in TERMINAL_STATUSES)
    if shown["child_batches"]:
        yield "inside", pluralize(shown["child_batches"], "batch", "batches")
    yield "queues", ", ".join(shown["queues"])
    yield "run", f"{shown['run']}"
    if shown["late_outcomes"]:
        yield "too late", pluralize(shown["late_outcomes"], "outcome")
    yield "created", _moment(shown["created_at"])
    yield "started", _moment(shown["started_at"])
    if shown["cancelled_at"]:
        yield "cancelled", _moment(shown["cancelled_at"])
        yield "  by", shown["cancelled_by"] or "-"
        yield "  reason", " ".join(shown["cancel_reason"].split()) or "-"
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


def _inside(depth: int, batch: JobBatch) -> tuple[str, ...]:
    failed = f", {batch.failed_jobs:,} failed" if batch.failed_jobs else ""
    links = pluralize(batch.total_jobs, "link" if batch.child_batches else "job")
    return (
        f"{'  ' * depth}{short_id(batch.pk)}",
        batch.kind,
        truncate(batch.name, MAX_NAME_LENGTH),
        snapshot.state(batch),
        f"{batch.processed_jobs:,} of {links}{failed}",
    )


def _callbacks(callbacks: list[dict[str, Any]], run: int) -> Iterator[str]:
    """A row for each, and below it what it has raised."""
    rows = _indented(_callback(callback, run) for callback in callbacks)
    for row, callback in zip(rows, callbacks, strict=True):
        yield row
        if failure := callback["failure"]:
            yield from wrapped(_raised(failure), " " * 4)


def _callback(callback: dict[str, Any], run: int) -> tuple[str, ...]:
    state = callback["state"].replace("_", " ")
    return (
        callback["role"],
        callback["function"],
        state if callback["run"] == run else f"{state} in run {callback['run']}",
        f"job {callback['job']}" if callback["job"] else "",
    )


def _title_of_failures(failures: dict[str, Any]) -> str:
    if failures["has_more"]:
        return f"Failures, of {failures['counted']:,} and more"
    return "Failures"


def _group(group: dict[str, Any], batch_id: str) -> Iterator[str]:
    newest = group["newest"]
    retried = f", {group['retried']:,} retried since" if group["retried"] else ""
    yield f"  {group['count']:,} x {group['exception']}{retried}"
    where = f"newest: job {newest['job']}{_of(newest['batch'], batch_id)}"
    yield from wrapped(f"{where}, {truncate(newest['call'], MAX_CALL_LENGTH)}", " " * 4)
    yield from wrapped(truncate(newest["message"], MAX_MESSAGE_LENGTH), " " * 4)
    yield from _to_retry(group)


def _to_retry(group: dict[str, Any]) -> Iterator[str]:
    """Lines to be called as they stand, for jobs of this batch and of those inside."""
    by_batch: dict[str, list[int]] = {}
    for job in group["retryable"]:
        by_batch.setdefault(job["batch"], []).append(job["job"])
    for batch, jobs in by_batch.items():
        options = " ".join(f"--job {job}" for job in jobs)
        yield f"    retry_batch {short_id(batch)} {options}"
    if unnamed := group["count"] - group["retried"] - len(group["retryable"]):
        yield f"    and {unnamed:,} more"


def _of(batch: str, shown: str) -> str:
    return "" if batch == shown else f" of batch {short_id(batch)}"


def _raised(failure: dict[str, Any]) -> str:
    return truncate(f"{failure['exception']}: {failure['message']}", MAX_MESSAGE_LENGTH)


def _moment(text: str | None) -> str:
    return moment(parse_datetime(text) if text else None)


def _indented(rows: Iterable[tuple[str, ...]]) -> Iterator[str]:
    return (f"  {line}" for line in table(list(rows)).splitlines())
