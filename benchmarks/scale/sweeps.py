"""Measurements of failures, of a retry and of a cancel, beside one plain UPDATE of the same rows."""

from __future__ import annotations

import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Final

from django.db import connection

from benchmarks import jobs
from benchmarks.crew import Crew
from benchmarks.rows import all_at_rest, delete_all, refreshed
from benchmarks.scale.large import rate_of
from benchmarks.scale.sizes import Sizes
from benchmarks.waiting import wait_for
from django_jobbatch import bus
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import LinkStatus
from sandbox.servers import ServerFailed

LINKS: Final = BatchedJob._meta.db_table


def cancel(sizes: Sizes) -> dict[str, Any]:
    """Cancel a pending batch, and update the rows of an equal batch with one statement."""
    with Crew() as crew:
        _warm_up()
        crew.pause()
        twin, batch = _dispatch(sizes.large), _dispatch(sizes.large)
        plain = _plain_update(twin, LinkStatus.PENDING, LinkStatus.CANCELLED)
        started = time.perf_counter()
        batch.cancel()
        call = time.perf_counter() - started
        swept = 0.0
        if not refreshed(batch).is_settled:
            started = time.perf_counter()
            crew.resume()
            swept = wait_for(lambda: refreshed(batch).is_settled) - started
    _check(batch.cancelled_jobs, sizes.large, "cancelled")
    delete_all()
    return {"cancel_call_s": call, "cancel_whole_s": call + swept, "cancel_plain_s": plain}


def failures(sizes: Sizes) -> dict[str, Any]:
    """Run a batch whose jobs all fail, and one whose jobs succeed; then retry the failed jobs."""
    with TemporaryDirectory(prefix="jobbatch-") as folder, Crew() as crew:
        failing = Path(folder) / "failing"
        failing.touch()
        _warm_up()
        succeeding = _run(sizes.large, failing.with_name("none"))
        batch, twin = _run(sizes.large, failing), _run(sizes.large, failing)
        _check(refreshed(batch).failed_jobs, sizes.large, "failed")
        rates = rate_of(succeeding), rate_of(batch)
        plain = _plain_update(twin, LinkStatus.FAILED, LinkStatus.PENDING)
        failing.unlink()
        crew.pause()
        started = time.perf_counter()
        batch.retry()
        call = time.perf_counter() - started
        reset = 0.0
        if _failed(batch).exists():
            started = time.perf_counter()
            crew.resume()
            reset = wait_for(lambda: not _failed(batch).exists()) - started
    delete_all()
    return {
        "succeeding_per_s": rates[0],
        "failing_per_s": rates[1],
        "retry_call_s": call,
        "retry_whole_s": call + reset,
        "retry_plain_s": plain,
    }


def _dispatch(count: int) -> JobBatch:
    return bus.batch(bus.job(jobs.noop, number) for number in range(count)).dispatch()


def _warm_up() -> None:
    _dispatch(10)
    wait_for(all_at_rest)


def _run(count: int, failing: Path) -> JobBatch:
    """Run a batch whose jobs fail while this file exists."""
    numbers = range(count)
    builder = bus.batch(bus.job(jobs.fail_while, str(failing), number) for number in numbers)
    batch = builder.allow_failures().dispatch()
    wait_for(all_at_rest, timeout=1200)
    return refreshed(batch)


def _failed(batch: JobBatch) -> Any:
    return BatchedJob.objects.filter(batch=batch, status=LinkStatus.FAILED)


def _plain_update(batch: JobBatch, old: LinkStatus, new: LinkStatus) -> float:
    """Return the seconds of one UPDATE of the status and time of all these links."""
    key = BatchedJob._meta.get_field("batch").get_db_prep_value(batch.pk, connection)
    statement = (
        f"UPDATE {LINKS} SET status = %s, ended_at = CURRENT_TIMESTAMP"  # noqa: S608 - a constant
        " WHERE batch_id = %s AND status = %s"
    )
    started = time.perf_counter()
    with connection.cursor() as cursor:
        cursor.execute(statement, [str(new), key, str(old)])
        _check(cursor.rowcount, batch.total_jobs, "updated")
    return time.perf_counter() - started


def _check(found: int, expected: int, verb: str) -> None:
    if found != expected:
        raise ServerFailed(f"{found} of {expected} jobs {verb}")
