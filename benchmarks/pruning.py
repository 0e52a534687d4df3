"""Fast insertion of large batches, and measurement of `prune_batches`."""

from __future__ import annotations

import resource
import time
from datetime import timedelta
from typing import Any, Final

from django.core.management import call_command
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.payload import CallSigner
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.states import BatchStatus, LinkStatus, Outcome, Role

#: Rows that are inserted one by one. Further rows are copies.
FIRST_ROWS: Final = 1000
#: Rows of one INSERT.
INSERT_CHUNK: Final = 50_000
TABLE: Final = BatchedJob._meta.db_table


def fill(rows: int, *, finished: bool = True) -> JobBatch:
    """Insert a batch of succeeded jobs, finished two days ago if `finished`, and return it."""
    status = BatchStatus.FINISHED if finished else BatchStatus.RUNNING
    batch = JobBatch(name="a large batch", queue="default", queues=["default"], status=status)
    batch.total_jobs = rows
    batch.pending_jobs = 0 if finished else rows
    if finished:
        batch.outcome = Outcome.SUCCEEDED
        batch.finished_at = timezone.now() - timedelta(days=2)
    batch.save(force_insert=True)
    payload = CallSigner(batch.pk, Role.JOB).sign(
        JobSpec("benchmarks.jobs.nothing", (1, "two")), "a job"
    )
    BatchedJob.objects.bulk_create(
        BatchedJob(
            batch=batch,
            lane=lane,
            queue="default",
            status=LinkStatus.SUCCEEDED,
            payload=payload,
            fence=1,
            attempts=1,
            claimed_by=f"jb-{batch.pk.hex}-00000000",
            started_at=timezone.now(),
            ended_at=timezone.now(),
        )
        for lane in range(min(rows, FIRST_ROWS))
    )
    _copy_rows(batch, rows)
    return batch


def measure(rows: int) -> dict[str, Any]:
    """Run the command and return its time, statements and memory."""
    peak = _peak_kilobytes()
    started = time.perf_counter()
    with CaptureQueriesContext(connection) as captured:
        call_command("prune_batches", verbosity=0)
    seconds = time.perf_counter() - started
    longest = max(captured.captured_queries, key=_seconds)
    return {
        "rows": rows,
        "seconds": round(seconds, 2),
        "rows_per_s": round(rows / seconds),
        "statements": len(captured),
        "longest_statement_s": _seconds(longest),
        "longest_statement": longest["sql"][:60],
        "memory_growth_mb": round((_peak_kilobytes() - peak) / 1024, 1),
    }


def _copy_rows(batch: JobBatch, rows: int) -> None:
    """Copy the links of the batch to further lanes, up to this number of rows."""
    columns = [field.attname for field in BatchedJob._meta.concrete_fields if not field.primary_key]
    copied = ["lane + %s" if column == "lane" else column for column in columns]
    key = BatchedJob._meta.get_field("batch").get_db_prep_value(batch.pk, connection)
    statement = (
        f"INSERT INTO {TABLE} ({', '.join(columns)}) "  # noqa: S608 - column names of the model
        f"SELECT {', '.join(copied)} FROM {TABLE} WHERE batch_id = %s AND lane < %s"
    )
    count = min(rows, FIRST_ROWS)
    while count < rows:
        copies = min(count, rows - count, INSERT_CHUNK)
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(statement, [count, key, copies])
        count += copies


def _seconds(query: dict[str, str]) -> float:
    return float(query["time"])


def _peak_kilobytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
