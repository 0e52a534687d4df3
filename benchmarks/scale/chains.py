"""Measurements of a long chain, and of child batches of one job."""

from __future__ import annotations

from typing import Any, Final

from benchmarks import jobs
from benchmarks.parts import BATCH
from benchmarks.rows import delete_all
from benchmarks.scale.counting import Statements, can_count, logged_statements, others_statements
from benchmarks.scale.missing import NO_LOG, missing
from benchmarks.scale.sizes import Sizes
from benchmarks.stage import work
from django_jobbatch import bus
from django_jobbatch.bus import Builder
from sandbox.servers import ServerFailed

#: Lengths of two chains; their difference is the cost of hops alone.
SHORT: Final = 10


def chain(sizes: Sizes) -> dict[str, Any]:
    """Run one chain of jobs that do nothing, and count the statements of a hop."""
    _chain(sizes.links).dispatch()
    worked = work(BATCH)
    delete_all()
    found: dict[str, Any] = {
        "links_per_s": sizes.links / worked.seconds,
        "link_cpu_us": 1e6 * worked.processor_s / sizes.links,
    }
    if not can_count():
        return found | missing(NO_LOG, "hop_statements", "hop_transactions")
    statements, transactions = _difference(_chain(SHORT), _chain(3 * SHORT), 2 * SHORT)
    whole = statements + 2 * transactions
    return found | {"hop_statements": whole, "hop_transactions": transactions}


def children(sizes: Sizes) -> dict[str, Any]:
    """Run a batch of child batches of one job each, and count the statements of a child batch."""
    _parent(sizes.children).dispatch()
    worked = work(BATCH)
    delete_all()
    found: dict[str, Any] = {"children_per_s": sizes.children / worked.seconds}
    if not can_count():
        return found | missing(NO_LOG, "child_statements", "child_transactions")
    statements, transactions = _difference(_parent(SHORT), _parent(3 * SHORT), 2 * SHORT)
    return found | {"child_statements": statements, "child_transactions": transactions}


def _chain(links: int) -> Builder:
    return bus.chain(*(bus.job(jobs.noop, number) for number in range(links)))


def _parent(count: int) -> Builder:
    return bus.batch(bus.batch([bus.job(jobs.noop, number)]) for number in range(count))


def _difference(fewer: Builder, more: Builder, units: int) -> tuple[float, float]:
    """Return the statements and transactions of a worker for each unit that `more` has more."""
    with logged_statements():
        first, second = _statements(fewer), _statements(more)
    return (
        (second.statements - first.statements) / units,
        (second.transactions - first.transactions) / units,
    )


def _statements(builder: Builder) -> Statements:
    batch = builder.dispatch()
    found = others_statements(lambda: work(BATCH))
    batch.refresh_from_db()
    if batch.succeeded_jobs != batch.total_jobs:
        raise ServerFailed(f"{batch.succeeded_jobs} of {batch.total_jobs} links succeeded")
    delete_all()
    return found
