"""A heartbeat that ticks during a block of a test."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django_jobbatch.runner.heartbeat import Heartbeat
from django_jobbatch.runner.heartbeats import Heartbeats, ticking


@contextmanager
def beating(heartbeat: Heartbeat) -> Iterator[None]:
    """Have the heartbeat tick during the block, as a session does."""
    with ticking(Heartbeats()) as heartbeats, heartbeats.beating(heartbeat):
        yield
