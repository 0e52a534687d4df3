"""Builders of batches: `bus.batch(bus.job(func, pk) for pk in pks).then(report).dispatch()`.

Builders are immutable: each call returns a new builder. Only `dispatch()` uses the database and
calls functions.
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
