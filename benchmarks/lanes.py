"""Measurements of lanes. Each part fails if its jobs have not the expected outcome."""

from __future__ import annotations

import resource
import time
from itertools import cycle, islice
from typing import Any, Final

import django_rq
from django.db import connection
from django.db.models import Max
from django.test.utils import CaptureQueriesContext

from airports.callbacks import import_finished
from airports.models import CallbackCall
from benchmarks import jobs
from benchmarks.stage import QUEUE, QUEUES, Worked, work
from benchmarks.worker import megabytes
from django_jobbatch import bus, dispatch, transport
from django_jobbatch.bus import Builder
from django_jobbatch.models import JobBatch
from sandbox.servers import ServerFailed

WORKER: Final = "rq.Worker"
STEPS: Final = 3


def many_chains(files: int) -> dict[str, Any]:
    """Run a batch of chains of three steps, and a flat batch of as many jobs."""
    started = time.perf_counter()
    batch = (
        bus.batch(
            [
                bus.job(jobs.noop, number),
                bus.job(jobs.noop_but_one, number),
                bus.job(jobs.noop, number),
            ]
            for number in range(files)
        )
        .allow_failures()
        .finally_(import_finished)
        .dispatch()
    )
    dispatched = time.perf_counter() - started
    dispatcher_mb = megabytes(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    failures = len(range(0, files, 100))
    links = files * STEPS
    worked = _run(batch, succeeded=links - 2 * failures, failed=failures, skipped=failures)
    rate = (links - failures) / worked.seconds
    flat_rate = _flat_rate(links)
    return {
        "links_per_s": round(rate, 1),
        "flat_jobs_per_s": round(flat_rate, 1),
        "links_vs_flat": round(rate / flat_rate, 3),
        "dispatched_links_per_s": round(links / dispatched, 1),
        **_finally_latency(batch),
        "peak_mb": round(max(dispatcher_mb, worked.peak_mb), 1),
        "dispatcher_peak_mb": round(dispatcher_mb, 1),
        "worker_peak_mb": round(worked.peak_mb, 1),
        **_steps(batch),
    }


def long_chains(links: int, *, hops: int) -> dict[str, Any]:
    """Run one chain on one queue, and one whose links alternate between queues."""
    numbers = range(links)
    received, seconds = _received(bus.chain(*(bus.job(jobs.noop, number) for number in numbers)))
    alternating = (
        bus.job(jobs.noop, number).on_queue(queue)
        for number, queue in enumerate(islice(cycle(QUEUES), hops))
    )
    received_changing, _ = _received(bus.chain(*alternating))
    return {
        "bytes_per_hop": round(received / links, 1),
        "chain_links_per_s": round(links / seconds, 1),
        "bytes_per_hop_changing_queues": round(received_changing / hops, 1),
        "sent_per_hop_changing_queues": _sent_for_a_ticket(),
    }


def _run(batch: JobBatch, **expected: int) -> Worked:
    """Run the batch in one worker, and check its counters."""
    worked = work(WORKER, *QUEUES)
    batch.refresh_from_db()
    found = {name: getattr(batch, f"{name}_jobs") for name in expected}
    if not batch.is_settled or found != expected:
        raise ServerFailed(f"a batch has {found} instead of {expected}")
    return worked


def _flat_rate(count: int) -> float:
    batch = bus.batch(bus.job(jobs.noop, number) for number in range(count)).dispatch()
    worked = _run(batch, succeeded=count)
    batch.delete()
    return count / worked.seconds


def _finally_latency(batch: JobBatch) -> dict[str, Any]:
    """Return the number of `finally_` calls, and the seconds from the last link to the first call."""
    calls = CallbackCall.objects.filter(batch_id=batch.pk, role="finally")
    last = batch.jobs.jobs_only().aggregate(at=Max("ended_at"))["at"]
    latency = (calls.earliest("called_at").called_at - last).total_seconds()
    return {"finally_latency_s": round(latency, 3), "finally_count": calls.count()}


def _steps(batch: JobBatch) -> dict[str, Any]:
    """Return the time and queries of `steps()`."""
    with CaptureQueriesContext(connection) as captured:
        started = time.perf_counter()
        batch.steps()
        seconds = time.perf_counter() - started
    return {"steps_s": round(seconds, 4), "steps_queries": len(captured)}


def _received(builder: Builder) -> tuple[int, float]:
    """Return the bytes that Redis received while a worker ran the batch, and the seconds."""
    batch = builder.dispatch()
    before = _received_so_far()
    worked = _run(batch, succeeded=batch.total_jobs)
    received = _received_so_far() - before
    batch.delete()
    return received, worked.seconds


def _sent_for_a_ticket() -> int:
    """Return the bytes that the app sends when a link is due on another queue."""
    batch = bus.chain(bus.job(jobs.noop, 1)).dispatch()
    transport.discard(batch.pk, batch.queues)
    before = _received_so_far()
    overhead = _received_so_far() - before  # of the INFO command
    before = _received_so_far()
    dispatch.ensure_tickets(batch, QUEUE)
    sent = _received_so_far() - before - overhead
    batch.delete()
    return sent


def _received_so_far() -> int:
    return int(django_rq.get_connection(QUEUE).info("stats")["total_net_input_bytes"])
