"""Rows of the ledger as a whole: whether all are at rest, and their deletion."""

from __future__ import annotations

from django.core.management.color import no_style
from django.db import connection

from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from sandbox.servers import ServerFailed

TABLES = [model._meta.db_table for model in (BatchedJob, FailedJob, JobBatch)]


def all_at_rest() -> bool:
    """Return whether every batch is finished and its callbacks are settled."""
    return not JobBatch.objects.not_at_rest().exists()


def check_all_succeeded(batches: int, jobs: int) -> None:
    """Check the number of batches that are at rest, and of their succeeded jobs."""
    rows = list(JobBatch.objects.filter(at_rest=True))
    succeeded = sum(batch.succeeded_jobs for batch in rows)
    if (len(rows), succeeded) != (batches, jobs):
        raise ServerFailed(
            f"{len(rows)} of {batches} batches are at rest, {succeeded} of {jobs} jobs succeeded"
        )


def delete_all() -> None:
    """Empty the tables, which is faster than to delete the rows of each batch."""
    statements = connection.ops.sql_flush(no_style(), TABLES, allow_cascade=True)
    connection.ops.execute_sql_flush(statements)


def refreshed(batch: JobBatch) -> JobBatch:
    """Return the batch after its row was read again."""
    batch.refresh_from_db()
    return batch
