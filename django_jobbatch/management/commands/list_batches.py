"""list_batches: list batches, the newest first."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from json import dumps
from typing import Any, Final, TypeVar

from django.core.management.base import CommandParser
from django.db import router

from django_jobbatch import db, snapshot, tuning
from django_jobbatch.management.base import BatchCommand
from django_jobbatch.management.formatting import minute, table, truncate, whole_number
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus, Outcome
from django_jobbatch.text import escape

T = TypeVar("T")

#: The values of `--outcome`.
OUTCOMES: Final = [outcome.value for outcome in Outcome if outcome]
COLUMNS: Final = ("ID", "NAME", "STATE", "PROGRESS", "JOBS", "FAILED", "CREATED")


class Command(BatchCommand):
    """Lists batches."""

    help = "Lists batches, the newest first, without child batches."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--status",
            action="append",
            choices=BatchStatus.values,
            help="Only batches in this status. Can be repeated.",
        )
        parser.add_argument(
            "--outcome",
            action="append",
            choices=OUTCOMES,
            help="Only batches with this outcome. Can be repeated.",
        )
        parser.add_argument(
            "--name", metavar="TEXT", help="Only batches whose names contain TEXT, in any case."
        )
        parser.add_argument(
            "--limit",
            type=list_length,
            default=tuning.DEFAULT_LIST_LENGTH,
            metavar="N",
            help=f"At most N batches; default: {tuning.DEFAULT_LIST_LENGTH}.",
        )
        parser.add_argument("--json", action="store_true", help="Print a JSON list of snapshots.")

    def handle(
        self,
        *,
        database: str | None,
        status: list[str] | None,
        outcome: list[str] | None,
        name: str | None,
        limit: int,
        json: bool,
        **options: Any,
    ) -> None:
        using = database or router.db_for_write(JobBatch)
        batches = JobBatch.objects.using(using).roots().order_by("-created_at", "pk")
        if status:
            batches = batches.filter(status__in=status)
        if outcome:
            batches = batches.filter(outcome__in=outcome)
        if name:
            batches = batches.filter(name__icontains=escape(name))  # as names are stored
        page = batches[: min(limit, tuning.MAX_LIST_LENGTH)]
        listed = db.read_rows(page, self.report_unreadable).rows
        if json:
            self.stdout.write(dumps(list(self._each(listed, snapshot.summary)), indent=2))
        elif rows := list(self._each(listed, _cells)):
            self.stdout.write(table([COLUMNS, *rows]))
        elif not self._has_errors:
            self.stdout.write("There are no batches.")

    def _each(self, batches: Iterable[JobBatch], show: Callable[[JobBatch], T]) -> Iterator[T]:
        """Yield `show(batch)` for each batch, and report the batches for which it raises."""
        for batch in batches:
            with self.reporting_errors(batch):
                yield show(batch)


def list_length(text: str) -> int:
    """Return the length of a list that this text is."""
    return whole_number(text, 1, tuning.MAX_LIST_LENGTH)


def _cells(batch: JobBatch) -> tuple[str, ...]:
    jobs = batch.tree_jobs
    return (
        snapshot.short_id(batch.pk),
        truncate(batch.name, tuning.MAX_NAME_SHOWN),
        snapshot.state(batch),
        f"{batch.progress} %",
        f"{jobs.total:,}",
        f"{jobs.failed:,}",
        minute(batch.created_at),
    )
