"""How batches and chains are built: `bus.batch(bus.job(func, pk) for pk in pks).then(report).dispatch()`.

Builders do not change: each call returns a new one. Nothing touches the database, and no function
is called, before `dispatch()`.
"""

from __future__ import annotations

from django_jobbatch.bus.builders import BatchBuilder, Builder, ChainBuilder, JobBuilder
from django_jobbatch.bus.construction import batch, chain, job

__all__ = [
    "BatchBuilder",
    "Builder",
    "ChainBuilder",
    "JobBuilder",
    "batch",
    "chain",
    "job",
]
