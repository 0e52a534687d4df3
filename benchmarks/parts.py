"""Measured parts: batches, and the same jobs with RQ alone.

A part fails if one of its jobs has not run. It leaves an empty queue.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import Final, Self

import django_rq
from rq import Queue

from benchmarks import jobs
from benchmarks.stage import QUEUE, work
from django_jobbatch import bus
from sandbox.servers import ServerFailed

#: Jobs of one `enqueue_many`: the number of rows that a batch inserts at once.
CHUNK: Final = 1000
#: Workers of RQ, and the recommended worker for batches.
FORKING: Final = "rq.Worker"
SIMPLE: Final = "rq.SimpleWorker"
BATCH: Final = "django_jobbatch.worker.BatchWorker"

Job = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Number of jobs of each part: fewer of slow jobs, because only the rate counts."""

    batch: int
    simple: int
    forking: int

    @classmethod
    def of(cls, number: int) -> Self:
        """Return the sizes for batches of `number` jobs."""
        return cls(batch=number, simple=max(number // 10, 1), forking=max(number // 50, 1))


def measure(sizes: Sizes) -> dict[str, float]:
    """Return the rate of each part in jobs per second; compared parts run one after the other."""
    dispatched, run = run_batch(jobs.noop, sizes.batch, BATCH)
    enqueued = enqueue(jobs.noop, sizes.batch)
    flush()
    worker = run_alone(jobs.noop, sizes.forking, FORKING)
    simple_worker = run_alone(jobs.noop, sizes.simple, SIMPLE)
    _, run_simple = run_batch(jobs.noop, sizes.batch, SIMPLE)
    _, isolated = run_batch(jobs.query, sizes.forking, BATCH, isolated=True)
    worker_query = run_alone(jobs.query, sizes.forking, FORKING)
    simple_worker_query = run_alone(jobs.query, sizes.simple, SIMPLE)
    return {
        "dispatch_per_s": dispatched,
        "run_per_s": run,
        "run_simple_per_s": run_simple,
        "run_isolated_per_s": isolated,
        "rq_enqueue_many_per_s": enqueued,
        "rq_worker_per_s": worker,
        "rq_simple_worker_per_s": simple_worker,
        "rq_worker_query_per_s": worker_query,
        "rq_simple_worker_query_per_s": simple_worker_query,
    }


def warm_up() -> None:
    """Run one job of each kind, so that this process has its imports and connections."""
    run_batch(jobs.noop, 1, SIMPLE)
    enqueue(jobs.noop, 1)
    flush()


def run_batch(job: Job, count: int, worker: str, *, isolated: bool = False) -> tuple[float, float]:
    """Dispatch one batch and run it in one worker; return both rates."""
    started = time.perf_counter()
    builder = bus.batch(bus.job(job, number) for number in range(count))
    batch = (builder.isolated() if isolated else builder).dispatch()
    dispatched = time.perf_counter() - started
    worked = work(worker).seconds
    batch.refresh_from_db()
    if batch.succeeded_jobs != count:
        raise ServerFailed(f"{batch.succeeded_jobs} of {count} jobs of a batch succeeded")
    batch.delete()
    return count / dispatched, count / worked


def run_alone(job: Job, count: int, worker: str) -> float:
    """Run the jobs in one worker without a batch; return the rate."""
    enqueue(job, count)
    worked = work(worker).seconds
    finished = django_rq.get_queue(QUEUE).finished_job_registry.get_job_count()
    if finished != count:
        raise ServerFailed(f"{finished} of {count} jobs of RQ finished")
    flush()
    return count / worked


def enqueue(job: Job, count: int) -> float:
    """Enqueue the jobs with `enqueue_many`; return the rate."""
    queue = django_rq.get_queue(QUEUE)
    started = time.perf_counter()
    numbers = iter(range(count))
    while chunk := list(islice(numbers, CHUNK)):
        queue.enqueue_many([Queue.prepare_data(job, args=(number,)) for number in chunk])
    return count / (time.perf_counter() - started)


def flush() -> None:
    """Empty the Redis server, which only the benchmark uses."""
    django_rq.get_connection(QUEUE).flushdb()
