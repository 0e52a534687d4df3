"""prune_batches: delete old batches and failures."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from django_jobbatch import operations
from django_jobbatch.management.base import BatchCommand
from django_jobbatch.management.formatting import pluralize, whole_number
from django_jobbatch.operations import Pruned, RetainedRow
from django_jobbatch.schedule import max_span


class Command(BatchCommand):
    """Deletes old batches and failures."""

    help = (
        "Deletes finished batches that are a day old, with their jobs. Options add other batches "
        "and failures. An open batch is cancelled first; if jobs or callbacks remain, the next call "
        "deletes it."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument(
            "--hours",
            type=whole_hours,
            default=24,
            metavar="H",
            help="Batches that finished (finished_at) at least H hours ago, with any outcome; default: 24.",
        )
        parser.add_argument(
            "--unfinished",
            type=whole_hours,
            metavar="H",
            help="Also batches that have not finished and were created (created_at) at least H hours ago.",
        )
        parser.add_argument(
            "--cancelled",
            type=whole_hours,
            metavar="H",
            help="Also batches that were cancelled (cancelled_at) at least H hours ago, finished or not.",
        )
        parser.add_argument(
            "--failed-jobs",
            type=whole_hours,
            metavar="H",
            help="Also failures (failed_at) that are at least H hours old.",
        )
        parser.add_argument(
            "--dry-run",
            action="store_true",
            help="Count what would be deleted, and change nothing.",
        )

    def handle(
        self,
        *,
        database: str | None,
        hours: int,
        unfinished: int | None,
        cancelled: int | None,
        failed_jobs: int | None,
        dry_run: bool,
        verbosity: int,
        **options: Any,
    ) -> None:
        started = time.perf_counter()
        pruned = operations.prune(
            database,
            finished=timedelta(hours=hours),
            unfinished=_age(unfinished),
            cancelled=_age(cancelled),
            failures=_age(failed_jobs),
            dry_run=dry_run,
        )
        seconds = time.perf_counter() - started
        for row in pruned.protected:
            self.report_error(f"{_name(row)} stays: {row.reason}")
        if verbosity > 0:
            self._print_result(pruned, dry_run=dry_run)
            if pruned.total and not dry_run:
                rate = round(pruned.total / seconds)
                rows = pluralize(pruned.total, "row")
                self.stdout.write(f"{rows} in {seconds:.1f} s, {rate:,} rows a second.")

    def _print_result(self, pruned: Pruned, *, dry_run: bool) -> None:
        deleted = [
            pluralize(pruned.batches, "batch", "batches"),
            pluralize(pruned.jobs, "job or callback", "jobs and callbacks"),
            pluralize(pruned.failures, "failure"),
        ]
        if pruned.related:
            deleted.append(pluralize(pruned.related, "row of other apps", "rows of other apps"))
        verb, cancelled = ("Would delete", "would be") if dry_run else ("Deleted", "is")
        self.stdout.write(self.style.SUCCESS(f"{verb} {', '.join(deleted)}."))
        for row in pruned.cancelled:
            self.stdout.write(f"{_name(row)} {cancelled} cancelled; the next call deletes it.")
        for row in pruned.unsettled:
            self.stdout.write(f"{_name(row)} stays: its callbacks or last jobs are not settled.")
        if pruned.unreported:
            failures = pluralize(pruned.unreported, "failure stays", "failures stay")
            self.stdout.write(f"{failures}: a callback must be called with them first.")


def whole_hours(text: str) -> int:
    """Return the number of hours that this text is, 0 included."""
    return whole_number(text, 0, int(max_span() / timedelta(hours=1)), "number of hours")


def _age(hours: int | None) -> timedelta | None:
    return None if hours is None else timedelta(hours=hours)


def _name(row: RetainedRow) -> str:
    return f"{row.id} ({row.name})"
