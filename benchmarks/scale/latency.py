"""Measurements of waits: for a callback, behind a large batch, and for jobs that sleep."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final

import django_rq

from benchmarks import jobs
from benchmarks.crew import Crew
from benchmarks.rows import all_at_rest, delete_all, refreshed
from benchmarks.scale.missing import missing
from benchmarks.scale.sizes import Sizes
from benchmarks.stage import QUEUE, QUEUES
from benchmarks.waiting import wait_for
from django_jobbatch import bus

JOBS: Final = 10
OTHER: Final = QUEUES[1]
#: Seconds in which a large batch runs before the small one is dispatched.
AHEAD_SECONDS: Final = 1.0
SLEEP: Final = 0.2
MIXED_WORKERS: Final = 4


def callbacks(sizes: Sizes) -> dict[str, Any]:
    """Measure from the end of the last job to the start of `then`, on its queue and on another.

    An idle job of RQ is measured on the other queue, from its call to its start.
    """
    with ExitStack() as stack:
        path = stack.enter_context(_log())
        for queue in QUEUES:
            stack.enter_context(Crew(queue=queue))

        def wait_for_then(queue: str) -> float:
            path.write_text("")
            numbers = range(JOBS)
            (
                bus.batch(bus.job(jobs.log_time, str(path), "job") for _ in numbers)
                .then(jobs.log_callback, path=str(path), name="then")
                .callback_options(queue=queue)
                .dispatch()
            )
            wait_for(all_at_rest)
            times = _times(path)
            return min(times["then"]) - max(times["job"])

        def wait_for_rq_job() -> float:
            path.write_text("")
            started = time.monotonic()
            django_rq.get_queue(OTHER).enqueue(jobs.log_time, str(path), "job")
            wait_for(lambda: bool(path.read_text()))
            return _times(path)["job"][0] - started

        found = {
            "then_same_queue_ms": _median_ms(lambda: wait_for_then(QUEUE), sizes.repeats),
            "then_other_queue_ms": _median_ms(lambda: wait_for_then(OTHER), sizes.repeats),
            "idle_rq_job_ms": _median_ms(wait_for_rq_job, sizes.repeats),
        }
    delete_all()
    return found


def after_large(sizes: Sizes) -> dict[str, Any]:
    """Dispatch a small batch while a large one runs on the same queue, in one worker."""
    with _log() as path, Crew():
        numbers = range(sizes.ahead)
        if sizes.ahead_seconds:
            large = bus.batch(bus.job(jobs.sleep, sizes.ahead_seconds) for _ in numbers).dispatch()
        else:
            large = bus.batch(bus.job(jobs.noop, number) for number in numbers).dispatch()
        running = time.monotonic() + AHEAD_SECONDS
        wait_for(lambda: refreshed(large).is_finished or time.monotonic() > running)
        # At least the ticket that works on the large batch, which is in line again afterwards.
        others = max(len(django_rq.get_queue(QUEUE)), 1)
        started = time.monotonic()
        bus.batch(bus.job(jobs.log_time, str(path), "job") for _ in range(JOBS)).dispatch()
        wait_for(lambda: path.stat().st_size > 0)
        was_running = not refreshed(large).is_finished
        seconds = min(_times(path)["job"]) - started
        large.cancel()
    delete_all()
    if not was_running:
        return missing("the large batch finished before the small one started", "after_large_s")
    return {"after_large_s": seconds, "after_large_others": others}


def mixed(sizes: Sizes) -> dict[str, Any]:
    """Run a batch of long and short jobs in random order, and compare it with the ideal time."""
    seconds = [
        each
        for each, count in zip(sizes.mixed_seconds, sizes.mixed, strict=True)
        for _ in range(count)
    ]
    random.Random(1).shuffle(seconds)  # noqa: S311 - the order is the same in each run
    with Crew(MIXED_WORKERS):
        started = time.perf_counter()
        bus.batch(bus.job(jobs.sleep, each) for each in seconds).dispatch()
        took = wait_for(all_at_rest) - started
    delete_all()
    return {"mixed_s": took, "mixed_ideal_s": math.fsum(seconds) / MIXED_WORKERS}


def idle_workers(sizes: Sizes) -> dict[str, Any]:
    """Run as many jobs of 0.2 s as there are idle workers."""
    with Crew(sizes.idle_workers):

        def run() -> float:
            started = time.perf_counter()
            numbers = range(sizes.idle_workers)
            bus.batch(bus.job(jobs.sleep, SLEEP) for _ in numbers).dispatch()
            return wait_for(all_at_rest) - started

        run()
        found = {"idle_workers_s": median(run() for _ in range(max(sizes.repeats // 3, 1)))}
    delete_all()
    return found


@contextmanager
def _log() -> Iterator[Path]:
    with TemporaryDirectory(prefix="jobbatch-") as folder:
        path = Path(folder) / "times"
        path.touch()
        yield path


def _times(path: Path) -> dict[str, list[float]]:
    """Return the logged times by name."""
    found: dict[str, list[float]] = {}
    for line in path.read_text().splitlines():
        name, at = line.split()
        found.setdefault(name, []).append(float(at))
    return found


def _median_ms(measure: Callable[[], float], repeats: int) -> float:
    measure()  # the first call is a warm-up
    return 1000 * median(measure() for _ in range(repeats))
