"""Measurements of large batches: dispatch, run, isolated jobs, several workers."""

from __future__ import annotations

import resource
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from django.db import connection

from benchmarks import jobs
from benchmarks.crew import Crew
from benchmarks.parts import BATCH, FORKING, enqueue, flush, run_alone, run_batch
from benchmarks.rows import all_at_rest, check_all_succeeded, delete_all, refreshed
from benchmarks.scale.missing import missing
from benchmarks.scale.sizes import Sizes
from benchmarks.stage import work
from benchmarks.waiting import wait_for
from benchmarks.worker import megabytes
from django_jobbatch import bus
from django_jobbatch.models import JobBatch
from sandbox.servers import ServerFailed

SAMPLE_SECONDS: Final = 0.02
#: Sessions of PostgreSQL that wait for a lock, such as that of a batch row.
WAITING: Final = """\
SELECT count(*) FROM pg_stat_activity
WHERE wait_event_type = 'Lock' AND pid <> pg_backend_pid()
"""


def dispatch_large(sizes: Sizes) -> dict[str, Any]:
    """Dispatch a batch, and enqueue as many jobs with RQ alone."""
    _dispatch(100)
    dispatched = _rate_of_dispatch(sizes.large)
    enqueued = enqueue(jobs.noop, sizes.large)
    flush()
    return {"dispatch_per_s": dispatched, "enqueue_many_per_s": enqueued}


def dispatch_huge(sizes: Sizes) -> dict[str, Any]:
    """Dispatch a huge batch, and measure the memory that it needs beside a large one."""
    rate = _rate_of_dispatch(sizes.large)
    before = _peak_mb()
    huge_rate = _rate_of_dispatch(sizes.huge)
    return {
        "large_per_s": rate,
        "huge_per_s": huge_rate,
        "huge_memory_mb": _peak_mb() - before,
    }


def run_large(sizes: Sizes) -> dict[str, Any]:
    """Run a batch of jobs that do nothing in one `BatchWorker`."""
    _dispatch(sizes.large)
    worked = work(BATCH)
    check_all_succeeded(1, sizes.large)
    delete_all()
    return {
        "run_per_s": sizes.large / worked.seconds,
        "run_cpu_us": 1e6 * worked.processor_s / sizes.large,
    }


def isolated(sizes: Sizes) -> dict[str, Any]:
    """Run isolated jobs with one query, and as many jobs with RQ alone."""
    _, batch = run_batch(jobs.query, sizes.forking, BATCH, isolated=True)
    return {
        "isolated_per_s": batch,
        "rq_query_per_s": run_alone(jobs.query, sizes.forking, FORKING),
    }


def two_workers(sizes: Sizes) -> dict[str, Any]:
    """Run a batch in one worker, and an equal batch in two."""
    one, _ = _rate_of_crew(1, sizes.large)
    two, waiting = _rate_of_crew(2, sizes.large)
    found = {"one_worker_per_s": one, "two_workers_per_s": two}
    if waiting is None:
        return found | missing("its sessions do not show what they wait for", "lock_share")
    return found | {"lock_share": waiting}


def _dispatch(count: int) -> JobBatch:
    return bus.batch(bus.job(jobs.noop, number) for number in range(count)).dispatch()


def _rate_of_dispatch(count: int) -> float:
    started = time.perf_counter()
    _dispatch(count)
    rate = count / (time.perf_counter() - started)
    delete_all()
    flush()
    return rate


def _rate_of_crew(workers: int, count: int) -> tuple[float, float | None]:
    """Return the rate of these workers, and the share of their time in which they wait for locks."""
    with Crew(workers):
        _dispatch(100)
        wait_for(all_at_rest)
        with _lock_waits(workers) as share:
            batch = _dispatch(count)
            wait_for(all_at_rest)
    rate = rate_of(batch)
    check_all_succeeded(2, 100 + count)
    delete_all()
    return rate, share()


def rate_of(batch: JobBatch) -> float:
    """Return the jobs a second between the start and the finish of a batch."""
    refreshed(batch)
    if batch.started_at is None or batch.finished_at is None:
        raise ServerFailed(f"batch {batch.pk} is not finished")
    return batch.total_jobs / (batch.finished_at - batch.started_at).total_seconds()


@contextmanager
def _lock_waits(workers: int) -> Iterator[Any]:
    """Sample how many workers wait for a lock; yield a function that returns their share.

    The share is None on a database whose sessions do not show it.
    """
    samples: list[int] = []
    done = threading.Event()

    def sample() -> None:
        try:
            while not done.wait(SAMPLE_SECONDS):
                with connection.cursor() as cursor:
                    cursor.execute(WAITING)
                    samples.append(cursor.fetchone()[0])
        finally:
            connection.close()

    if connection.vendor != "postgresql":
        yield lambda: None
        return
    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        yield lambda: sum(samples) / max(len(samples), 1) / workers
    finally:
        done.set()
        sampler.join()


def _peak_mb() -> float:
    return megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
