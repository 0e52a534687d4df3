"""cancel_batch: cancel batches."""

from __future__ import annotations

from typing import Any, Final

from django.core.management.base import CommandParser

from django_jobbatch import operations
from django_jobbatch.management.base import ID_HELP, BatchCommand
from django_jobbatch.management.formatting import pluralize
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus

#: The value of `cancelled_by`.
BY: Final = "manage.py cancel_batch"


class Command(BatchCommand):
    """Cancels batches."""

    help = "Cancels batches. Jobs that have not started never do; running jobs may finish."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="+", metavar="ID", help=ID_HELP)
        parser.add_argument("--reason", default="", help="Stored as the batch's cancel_reason.")
        parser.add_argument(
            "--stop-running",
            action="store_true",
            help="Also cancel running jobs, and kill the processes that run them.",
        )

    def handle(
        self,
        *,
        ids: list[str],
        database: str | None,
        reason: str,
        stop_running: bool,
        verbosity: int,
        **options: Any,
    ) -> None:
        for batch in self.batches(ids, database):
            with self.reporting_errors(batch):
                was_stopping = batch.status == BatchStatus.STOPPING
                is_new = operations.cancel(batch, reason, by=BY, stop_running=stop_running)
                if not (is_new or batch.is_cancelled or (was_stopping and stop_running)):
                    self.report_error(f"{batch.pk} {_rejection(batch)}")
                elif verbosity > 0:
                    self.stdout.write(f"{batch.pk} {_result(batch, is_new=is_new)}")


def _rejection(batch: JobBatch) -> str:
    if batch.is_finished:
        return f"has finished ({batch.outcome}), so it cannot be cancelled."
    return "is stopping because of a failure; --stop-running cancels its running jobs."


def _result(batch: JobBatch, *, is_new: bool) -> str:
    state = "is cancelled" if is_new else "was stopping or cancelled before"
    jobs = batch.tree_jobs
    running = f", {jobs.pending:,} still running" if jobs.pending else ""
    return f"{state}: {pluralize(jobs.cancelled, 'job')} cancelled{running}."
