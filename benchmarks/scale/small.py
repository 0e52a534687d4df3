"""Measurements of small batches: ten jobs that do nothing, `then` and `finally_`."""

from __future__ import annotations

import time
from typing import Any, Final

from benchmarks import jobs
from benchmarks.crew import Crew
from benchmarks.parts import BATCH, enqueue, flush
from benchmarks.rows import all_at_rest, check_all_succeeded, delete_all
from benchmarks.scale.counting import (
    can_count,
    logged_statements,
    others_statements,
    own_statements,
    redis_commands,
    redis_writes,
)
from benchmarks.scale.missing import NO_LOG, missing
from benchmarks.scale.sizes import Sizes
from benchmarks.stage import Worked, work
from benchmarks.waiting import wait_for
from django_jobbatch import bus
from django_jobbatch.models import JobBatch

JOBS: Final = 10
#: Batches between the first and the last one of a row.
FURTHER: Final = 10
#: Dispatches that are not measured, because the first ones import modules.
WARM_UP: Final = 20


def dispatch_small() -> JobBatch:
    """Dispatch one small batch."""
    numbers = range(JOBS)
    builder = bus.batch(bus.job(jobs.noop, number) for number in numbers)
    return builder.then(jobs.finish).finally_(jobs.finish).dispatch()


def small_batches(sizes: Sizes) -> dict[str, Any]:
    """Run a row of small batches in one worker that has run one before."""
    with Crew() as crew:
        dispatch_small()
        wait_for(all_at_rest)
        crew.pause()
        for _ in range(sizes.small_batches):
            dispatch_small()
        crew.resume()
        started = time.perf_counter()
        seconds = wait_for(all_at_rest) - started
    _check_and_delete(1 + sizes.small_batches)
    return {"small_per_s": sizes.small_batches / seconds}


def small_costs(sizes: Sizes) -> dict[str, Any]:
    """Count statements and commands to Redis of the first batch of a row, and of each further one."""
    ticket = (_rq_commands(1 + FURTHER) - _rq_commands(1)) / FURTHER
    empty = redis_commands(lambda: work(BATCH))
    first, further = _our_commands(1, ticket), _our_commands(1 + FURTHER, ticket)
    flush()
    found = {
        "redis_rq_ticket": ticket,
        "redis_first": first - empty,
        "redis_further": (further - first) / FURTHER,
    }
    if not can_count():
        return found | missing(NO_LOG, "small_statements", "small_transactions")
    with logged_statements():
        none, one, row = (_statements_of_row(count) for count in (0, 1, 1 + FURTHER))
    return found | {
        "small_first_statements": one.whole - none.whole,
        "small_first_transactions": one.transactions - none.transactions,
        "small_statements": (row.whole - one.whole) / FURTHER,
        "small_transactions": (row.transactions - one.transactions) / FURTHER,
    }


def small_dispatch(sizes: Sizes) -> dict[str, Any]:
    """Measure the caller of `dispatch()`: processor time, statements, and Redis."""
    for _ in range(WARM_UP):
        dispatch_small()
    started = time.process_time()
    for _ in range(sizes.small_batches):
        dispatch_small()
    found: dict[str, Any] = {
        "dispatch_small_cpu_ms": 1000 * (time.process_time() - started) / sizes.small_batches,
        "dispatch_small_round_trips": redis_writes(dispatch_small),
        "redis_dispatch": redis_commands(dispatch_small),
    }
    if can_count():
        with logged_statements():
            found["dispatch_small_statements"] = own_statements(dispatch_small).statements
    else:
        found |= missing(NO_LOG, "dispatch_small_statements")
    flush()
    delete_all()
    return found


def _our_commands(count: int, ticket: float) -> float:
    """Return the commands of a worker that runs so many batches, without RQ's for its tickets."""
    for _ in range(count):
        dispatch_small()
    ran: list[Worked] = []
    commands = redis_commands(lambda: ran.append(work(BATCH)))
    _check_and_delete(count)
    return commands - ticket * ran[0].rq_jobs


def _rq_commands(count: int) -> int:
    """Return the commands of a worker that runs so many jobs of RQ alone."""
    enqueue(jobs.noop, count)
    return redis_commands(lambda: work(BATCH))


def _statements_of_row(count: int) -> Any:
    for _ in range(count):
        dispatch_small()
    found = others_statements(lambda: work(BATCH))
    _check_and_delete(count)
    return found


def _check_and_delete(count: int) -> None:
    check_all_succeeded(count, JOBS * count)
    delete_all()
