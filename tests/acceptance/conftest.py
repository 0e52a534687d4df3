from __future__ import annotations

from collections.abc import Callable

import pytest

from sandbox.servers import Server
from tests.servers import RedisServer, Workers

Start = Callable[..., list[Server]]


@pytest.fixture(params=["forking", "simple"])
def start(request: pytest.FixtureRequest, workers: Workers) -> Start:
    """Start workers of either kind: `start(2, "default", "slow")`."""
    return workers if request.param == "forking" else workers.simple


@pytest.fixture
def tickets(redis_server: RedisServer) -> Callable[[], list[str]]:
    """The keys of the package in Redis: tickets, and the sets that remember them."""

    def keys() -> list[str]:
        found = [
            *redis_server.client.keys("rq:job:jb-*"),
            *redis_server.client.keys(f"jobbatch:{'?' * 32}:*"),
        ]
        return sorted(key.decode() for key in found)

    return keys
