"""Measurement of several workers that settle one batch job by job."""

from __future__ import annotations

from typing import Any, Final

from benchmarks import jobs
from benchmarks.crew import Crew
from benchmarks.parts import SIMPLE
from benchmarks.rows import all_at_rest, check_all_succeeded, delete_all
from benchmarks.scale.large import rate_of
from benchmarks.scale.sizes import Sizes
from benchmarks.scale.updates import rate_of_updates
from benchmarks.waiting import wait_for
from django_jobbatch import bus
from django_jobbatch.models import JobBatch

#: Jobs of each worker before the measurement.
WARM_UP: Final = 20


def writers(sizes: Sizes) -> dict[str, Any]:
    """Settle one batch job by job, in a few and in many workers; update one row as often.

    Each job has a transaction of its own, in which it is settled. The plain updates show how much of
    a difference is that of the processes: they too wait for the lock of one row.
    """
    few, many = sizes.writers
    return {
        "few_writers_per_s": _rate_of_writers(few, sizes.written),
        "many_writers_per_s": _rate_of_writers(many, sizes.written),
        "few_updates_per_s": _rate_of_updates(few, sizes.written),
        "many_updates_per_s": _rate_of_updates(many, sizes.written),
    }


def _rate_of_writers(workers: int, count: int) -> float:
    with Crew(workers, worker_class=SIMPLE):
        _dispatch(workers * WARM_UP)
        wait_for(all_at_rest)
        batch = _dispatch(count)
        wait_for(all_at_rest)
    rate = rate_of(batch)
    check_all_succeeded(2, workers * WARM_UP + count)
    delete_all()
    return rate


def _rate_of_updates(processes: int, count: int) -> float:
    rate = rate_of_updates(processes, _dispatch(1).pk, count)
    delete_all()
    return rate


def _dispatch(count: int) -> JobBatch:
    numbers = range(count)
    builder = bus.batch(bus.job(jobs.noop, number) for number in numbers)
    return builder.options(transactional=True).dispatch()
