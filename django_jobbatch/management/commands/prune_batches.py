"""prune_batches: remove what is old."""

from __future__ import annotations

import time
from argparse import ArgumentTypeError
from datetime import timedelta
from typing import Any, Final

from django.core.management.base import CommandParser

from django_jobbatch import operations
from django_jobbatch.management.base import BatchCommand
from django_jobbatch.management.formatting import pluralize
from django_jobbatch.operations import Pruned, RetainedRow

#: A century: beyond some more, no date is that old.
MAX_HOURS: Final = 876_600


class Command(BatchCommand):
    """Removes old batches, and old failures."""

    help = (
        "Removes finished batches that are a day old, with their jobs. Other batches, and "
        "failures, only if asked; what is asked for adds up. A batch that is still open is "
        "cancelled first, and removed by the next call if it has anything left to do."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add the ages."""
        super().add_arguments(parser)
        parser.add_argument(
            "--hours",
            type=whole_hours,
            default=24,
            metavar="H",
            help="Batches that finished (finished_at), however they ended, at least H hours ago; default: 24.",
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
            help="Also the records of jobs that failed (failed_at) at least H hours ago.",
        )
        parser.add_argument(
            "--dry-run", action="store_true", help="Say what would be removed, and change nothing."
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
        """Prune, and say what that has done."""
        began = time.perf_counter()
        pruned = operations.prune(
            database,
            finished=timedelta(hours=hours),
            unfinished=_age(unfinished),
            cancelled=_age(cancelled),
            failures=_age(failed_jobs),
            dry_run=dry_run,
        )
        seconds = time.perf_counter() - began
        for kept in pruned.protected:
            self.report_error(f"{_name(kept)} stays: {kept.reason}")
        if verbosity > 0:
            self._print_result(pruned, dry_run=dry_run)
            if pruned.total and not dry_run:
                rate = round(pruned.total / seconds)
                rows = pluralize(pruned.total, "row")
                self.stdout.write(f"{rows} in {seconds:.1f} s, {rate:,} rows a second.")

    def _print_result(self, pruned: Pruned, *, dry_run: bool) -> None:
        removed = [
            pluralize(pruned.batches, "batch", "batches"),
            pluralize(pruned.jobs, "job or callback", "jobs and callbacks"),
            pluralize(pruned.failures, "failure"),
        ]
        if pruned.others:
            removed.append(pluralize(pruned.others, "row of other apps", "rows of other apps"))
        verb, cancelled = ("Would remove", "would be") if dry_run else ("Removed", "is")
        self.stdout.write(self.style.SUCCESS(f"{verb} {', '.join(removed)}."))
        for kept in pruned.cancelled:
            self.stdout.write(f"{_name(kept)} {cancelled} cancelled; the next call removes it.")
        for kept in pruned.unsettled:
            self.stdout.write(f"{_name(kept)} stays: its callbacks or last jobs are not settled.")
        if pruned.unreported:
            untold = pluralize(pruned.unreported, "failure stays", "failures stay")
            self.stdout.write(f"{untold}: a callback is still to be told.")


def whole_hours(text: str) -> int:
    """An age in whole hours; 0 is one."""
    if not text.isdecimal() or int(text) > MAX_HOURS:
        raise ArgumentTypeError(f"{text!r} is not a number of whole hours, from 0 to {MAX_HOURS}")
    return int(text)


def _age(hours: int | None) -> timedelta | None:
    return None if hours is None else timedelta(hours=hours)


def _name(kept: RetainedRow) -> str:
    return f"{kept.id} ({kept.name})"
