"""retry_batch: take up again what failed."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_jobbatch import operations
from django_jobbatch.exceptions import BatchCancelled
from django_jobbatch.management.base import ID_HELP, BatchCommand
from django_jobbatch.management.formatting import pluralize
from django_jobbatch.models import BatchedJob, JobBatch


class Command(BatchCommand):
    """Retries batches, or some jobs of one."""

    help = (
        "Takes up again the jobs of batches that failed, and what those failures stopped. "
        "A finished batch begins its next run, and its callbacks are called again at its end."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """Add ids, of batches and of jobs."""
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="+", metavar="ID", help=ID_HELP)
        parser.add_argument(
            "--job",
            action="append",
            type=int,
            dest="jobs",
            metavar="JOB",
            help="The id of a failed job or callback of the batch: only this one. Can be repeated.",
        )
        parser.add_argument(
            "--include-cancelled",
            action="store_true",
            help="Also what somebody has cancelled.",
        )

    def handle(
        self,
        *,
        ids: list[str],
        database: str | None,
        jobs: list[int] | None,
        include_cancelled: bool,
        verbosity: int,
        **options: Any,
    ) -> None:
        """Retry one after another."""
        if jobs and len(ids) > 1:
            raise CommandError("--job takes the jobs of one batch; name one batch.", returncode=2)
        for batch in self.batches(ids, database):
            with self.reporting_errors(batch):
                chosen = self._found(batch, jobs, include_cancelled=include_cancelled)
                count = _retry(batch, chosen, include_cancelled=include_cancelled)
                if verbosity > 0:
                    self.stdout.write(f"{batch.pk}: {_result(batch, count)}")

    def _found(
        self, batch: JobBatch, jobs: list[int] | None, *, include_cancelled: bool
    ) -> list[int] | None:
        """Those of the jobs that can be retried; the others are refused. None is all."""
        if jobs is None:
            return None
        known = batch.jobs.filter(pk__in=jobs).retryable(include_cancelled=include_cancelled)
        found = set(known.values_list("pk", flat=True))
        for job in dict.fromkeys(jobs):
            if job not in found:
                self.report_error(
                    f"{batch.pk}: {job} is not a failed job of this batch{_elsewhere(batch, job)}."
                )
        return sorted(found)


def _elsewhere(batch: JobBatch, job: int) -> str:
    """The batch that a job is of, if it is another one, such as one inside this."""
    others = BatchedJob.objects.using(batch._state.db).filter(pk=job).exclude(batch_id=batch.pk)
    batch_id = others.values_list("batch_id", flat=True).first()
    return f", but one of {batch_id}" if batch_id else ""


def _retry(batch: JobBatch, jobs: list[int] | None, *, include_cancelled: bool) -> int:
    try:
        return operations.retry(batch, jobs, include_cancelled=include_cancelled)
    except BatchCancelled:
        raise BatchCancelled(
            "The batch was cancelled; --include-cancelled takes up its cancelled jobs too."
        ) from None


def _result(batch: JobBatch, count: int) -> str:
    if not count:
        return "nothing to retry."
    return f"{pluralize(count, 'job')} retried, in run {batch.run}."
