"""cancel_batch: close batches, so that what has not begun never will."""

from __future__ import annotations

from typing import Any, Final

from django.core.management.base import CommandParser

from django_jobbatch import operations
from django_jobbatch.management.base import ID_HELP, BatchCommand
from django_jobbatch.management.formatting import pluralize
from django_jobbatch.models import JobBatch
from django_jobbatch.states import BatchStatus

#: Who did it, as the batch keeps it.
BY: Final = "manage.py cancel_batch"


class Command(BatchCommand):
    """Cancels batches."""

    help = "Cancels batches: jobs that have not begun never will, those that run may end."

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ids, a reason, and what becomes of running jobs."""
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="+", metavar="ID", help=ID_HELP)
        parser.add_argument(
            "--reason", default="", help="Kept on the batch, for whoever looks at it."
        )
        parser.add_argument(
            "--stop-running",
            action="store_true",
            help="Cancel the jobs that run as well, and kill the processes that run them.",
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
        """Cancel one after another."""
        for batch in self.batches(ids, database):
            was_stopping = batch.status == BatchStatus.STOPPING
            closed = operations.cancel(batch, reason, by=BY, stop_running=stop_running)
            if not (closed or batch.is_cancelled or (was_stopping and stop_running)):
                self.report_error(f"{batch.pk} {_why_not(batch)}")
            elif verbosity > 0:
                self.stdout.write(f"{batch.pk} {_result(batch, closed=closed)}")


def _why_not(batch: JobBatch) -> str:
    if batch.is_finished:
        return f"has finished ({batch.outcome}); there is nothing to cancel."
    return "is being stopped by a failure; --stop-running cancels the jobs that still run."


def _result(batch: JobBatch, *, closed: bool) -> str:
    said = "is cancelled" if closed else "was being stopped already"
    jobs = batch.tree_jobs
    running = f", {jobs.pending:,} still running" if jobs.pending else ""
    return f"{said}: {pluralize(jobs.cancelled, 'job')} cancelled{running}."
