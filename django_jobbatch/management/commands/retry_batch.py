"""retry_batch: retry failed jobs."""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandError, CommandParser

from django_jobbatch import operations, snapshot
from django_jobbatch.exceptions import BatchCancelled
from django_jobbatch.management.base import ID_HELP, BatchCommand, database_option
from django_jobbatch.management.formatting import pluralize, whole_number
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.specs.validation import MAX_ID, is_row_id


class Command(BatchCommand):
    """Retries batches, or some jobs of one."""

    help = (
        "Retries the failed jobs of batches, and those that were cancelled or skipped because of "
        "them. A finished batch starts its next run, and its callbacks are called again."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("ids", nargs="+", metavar="ID", help=ID_HELP)
        parser.add_argument(
            "--job",
            action="append",
            type=job_id,
            dest="jobs",
            metavar="JOB",
            help="Only this failed job or callback of the batch, by its id. Can be repeated.",
        )
        parser.add_argument(
            "--include-cancelled",
            action="store_true",
            help="Also jobs and batches that a person cancelled.",
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
        if jobs and len(ids) > 1:
            raise CommandError("--job needs exactly one batch.", returncode=2)
        for batch in self.batches(ids, database):
            with self.reporting_errors(batch):
                chosen = self._chosen(batch, jobs, include_cancelled=include_cancelled)
                if chosen == []:
                    continue
                was_finished = batch.is_finished
                count = _retry(batch, chosen, include_cancelled=include_cancelled)
                if verbosity > 0:
                    result = _result(batch, count, was_finished=was_finished)
                    self.stdout.write(f"{batch.pk}: {result}")

    def _chosen(
        self, batch: JobBatch, jobs: list[int] | None, *, include_cancelled: bool
    ) -> list[int] | None:
        """Return the jobs that can be retried, None for all; report those that cannot."""
        if jobs is None:
            return None
        known = batch.jobs.filter(pk__in=list(filter(is_row_id, jobs))).retryable(
            include_cancelled=include_cancelled
        )
        retryable = set(known.values_list("pk", flat=True))
        for job in dict.fromkeys(jobs):
            if job not in retryable:
                self.report_error(f"{batch.pk}: {_rejection(batch, job)}")
        return sorted(retryable)


def job_id(text: str) -> int:
    """Return the id of a job that this text is."""
    return whole_number(text, 1, MAX_ID)


def _rejection(batch: JobBatch, job: int) -> str:
    links = BatchedJob.objects.using(batch.database).filter(pk__in=list(filter(is_row_id, [job])))
    batch_id = links.values_list("batch_id", flat=True).first()
    if batch_id is None:
        return f"There is no job {job}."
    if batch_id == batch.pk:
        return f"Job {job} has not failed, so it cannot be retried."
    command = f"retry_batch {snapshot.short_id(batch_id)} --job {job}"
    return f"Job {job} belongs to batch {batch_id}: {command}{database_option(batch.database)}"


def _retry(batch: JobBatch, jobs: list[int] | None, *, include_cancelled: bool) -> int:
    try:
        return operations.retry(batch, jobs, include_cancelled=include_cancelled)
    except BatchCancelled as error:
        fact = str(error).rpartition(";")[0]
        raise BatchCancelled(
            f"{fact}; --include-cancelled retries its cancelled jobs too."
        ) from None


def _result(batch: JobBatch, count: int, *, was_finished: bool) -> str:
    if not count and was_finished and not batch.is_finished:
        return f"reopened in run {batch.run}, but no job runs again."
    if not count and batch.retry_cursor is not None:
        return "nothing more to retry; workers still reset the jobs of an earlier retry."
    if not count:
        return "nothing to retry."
    result = f"{pluralize(count, 'job')} will run again, in run {batch.run}."
    unfinished = " Workers reset those that remain." if batch.retry_cursor is not None else ""
    return f"{result}{unfinished}"
