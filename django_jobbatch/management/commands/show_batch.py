"""show_batch: all there is to say about one batch."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from django.core.management.base import CommandParser
from django.utils.dateparse import parse_datetime

from django_jobbatch import snapshot
from django_jobbatch.management.batch_command import BatchCommand
from django_jobbatch.management.wording import counted, moment, one_line, table

#: Characters of what an exception says that are shown.
LONGEST_MESSAGE: Final = 80
#: In the order in which they are named.
ENDS: Final = ("succeeded", "failed", "cancelled", "skipped")


class Command(BatchCommand):
    """Shows a batch."""

    help = "Shows a batch: its jobs, dates and callbacks, and its failures by exception."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the id, and how."""
        super().add_arguments(parser)
        parser.add_argument("id", metavar="ID", help="The id of a batch.")
        parser.add_argument("--json", action="store_true", help="Print a JSON object.")

    def handle(self, *, id: str, database: str | None, json: bool, **options: Any) -> None:  # noqa: A002 - the name of the argument
        """Print it."""
        for batch in self.batches([id], database):
            # Whoever runs commands has the database and the settings too.
            shown = snapshot.in_full(batch, with_messages=True)
            self.stdout.write(_as_json(shown) if json else "\n".join(_lines(shown)))


def _as_json(shown: dict[str, Any]) -> str:
    return json.dumps(shown, indent=2)


def _lines(shown: dict[str, Any]) -> Iterator[str]:
    yield " ".join(shown["name"].split())
    yield from _indented(_facts(shown))
    if shown["steps"]:
        yield "Steps"
        yield from _indented(_step(step) for step in shown["steps"])
    if shown["callbacks"]:
        yield "Callbacks"
        yield from _indented(_callback(callback, shown["run"]) for callback in shown["callbacks"])
    if shown["failures"]["by_exception"]:
        yield _title_of_failures(shown["failures"])
        groups = shown["failures"]["by_exception"]
        yield from _indented(_group(group, shown["id"]) for group in groups)


def _facts(shown: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    jobs = shown["jobs"]
    yield "id", shown["id"]
    yield "state", shown["outcome"] or shown["status"]
    yield "progress", _progress(shown)
    yield "jobs", ", ".join(f"{jobs[state]:,} {state}" for state in ENDS)
    if shown["child_batches"]:
        yield "inside", counted(shown["child_batches"], "batch", "batches")
    yield "queues", ", ".join(shown["queues"])
    yield "run", f"{shown['run']}"
    if shown["late_outcomes"]:
        yield "too late", counted(shown["late_outcomes"], "outcome")
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
    return f"{shown['progress']} %, {done:,} of {counted(jobs['total'], 'job')}{now}"


def _step(step: dict[str, Any]) -> tuple[str, ...]:
    states = [f"{step[state]:,} {state}" for state in (*ENDS, "pending") if step[state]]
    return " ".join(step["name"].split()), f"{step['total']:,}", ", ".join(states)


def _callback(callback: dict[str, Any], run: int) -> tuple[str, ...]:
    failure = callback["failure"]
    state = callback["state"].replace("_", " ")
    return (
        callback["role"],
        callback["function"],
        state if callback["run"] == run else f"{state} in run {callback['run']}",
        f"job {callback['job']}" if callback["job"] else "",
        _raised(failure) if failure else "",
    )


def _title_of_failures(failures: dict[str, Any]) -> str:
    if failures["has_more"]:
        return f"Failures, of {failures['counted']:,} and more"
    return "Failures"


def _group(group: dict[str, Any], batch_id: str) -> tuple[str, ...]:
    newest = group["newest"]
    inside = "" if newest["batch"] == batch_id else f" of batch {newest['batch']}"
    retried = f"{group['retried']:,} retried since" if group["retried"] else ""
    return (
        f"{group['count']:,} x",
        _raised(newest),
        f"job {newest['job']}{inside}",
        newest["function"],
        retried,
    )


def _raised(failure: dict[str, Any]) -> str:
    return one_line(f"{failure['exception']}: {failure['message']}", LONGEST_MESSAGE)


def _moment(text: str | None) -> str:
    return moment(parse_datetime(text) if text else None)


def _indented(rows: Iterator[tuple[str, ...]]) -> Iterator[str]:
    return (f"  {line}" for line in table(list(rows)).splitlines())
