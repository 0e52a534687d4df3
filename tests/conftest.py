from __future__ import annotations

import os
import shutil
from collections.abc import Generator, Iterator
from pathlib import Path

import pytest
from django.db import connection, connections

from tests import thoroughness  # noqa: F401 - its profiles are there before options name one
from tests.clock import Clock, fake_clock
from tests.event_log import EventLog
from tests.launcher import Launcher
from tests.second_database import second_database
from tests.servers import RedisServer, Workers, worker_env
from tests.settings import REDIS_URL, RUN_DIR
from tests.tuning import Tuning
from tests.wheels import build_wheel

LOGS: pytest.StashKey[Workers] = pytest.StashKey()


def pytest_configure(config: pytest.Config) -> None:
    RUN_DIR.mkdir(exist_ok=True)


def pytest_unconfigure(config: pytest.Config) -> None:
    shutil.rmtree(RUN_DIR, ignore_errors=True)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the slow tests, so that no process runs them when all others are done.

    pytest-xdist gives each of its processes an equal part of the list at first.
    """
    slow = [item for item in items if item.get_closest_marker("slow")]
    others = [item for item in items if not item.get_closest_marker("slow")]
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    shares = [slow[number::processes] for number in range(processes)]
    sizes = [len(items) // processes + (n < len(items) % processes) for n in range(processes)]
    items[:] = [
        item
        for share, size in zip(shares, sizes, strict=True)
        for item in [*share, *(others.pop() for _ in range(size - len(share)))]
    ]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A failed test shows what its workers have logged."""
    report = yield
    workers = item.stash.get(LOGS, None)
    if report.failed and workers is not None:
        report.sections.append(("worker logs", workers.logs()))
    return report


@pytest.fixture(scope="session")
def wheel_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of this checkout."""
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def redis_session() -> Iterator[RedisServer]:
    server = RedisServer(REDIS_URL, RUN_DIR)
    server.start()
    yield server
    server.clear()
    server.stop()
    server.client.close()


@pytest.fixture
def redis_server(redis_session: RedisServer) -> Iterator[RedisServer]:
    """A running Redis with nothing in it."""
    redis_session.clear()
    yield redis_session
    redis_session.ensure_running()


@pytest.fixture
def our_redis(redis_server: RedisServer) -> RedisServer:
    """One that the test may stop and flush."""
    if not redis_server.is_ours:
        pytest.skip("the Redis in REDIS_URL is not ours to stop or flush")
    return redis_server


@pytest.fixture
def tuning(monkeypatch: pytest.MonkeyPatch) -> Tuning:
    return Tuning(monkeypatch)


@pytest.fixture(autouse=True)
def clock() -> Iterator[Clock]:
    """The clock of time budgets, which stands still: no slow machine changes what a call does."""
    with fake_clock() as clock:
        yield clock


@pytest.fixture
def event_log(tmp_path: Path) -> EventLog:
    return EventLog(tmp_path / "event_log")


@pytest.fixture
def other() -> Iterator[str]:
    """The alias of a second connection to the test database."""
    connections["other"] = connection.copy("other")
    yield "other"
    connections["other"].close()
    del connections["other"]


@pytest.fixture
def second(transactional_db: None) -> Iterator[str]:
    """The alias of a second database with our tables. Processes find it by `tests.two_databases`."""
    with second_database() as alias:
        yield alias


@pytest.fixture(scope="session")
def launcher(django_db_setup: None, redis_session: RedisServer) -> Iterator[Launcher]:
    """The launcher of the workers of all tests."""
    launcher = Launcher(worker_env(redis_session.url))
    yield launcher
    launcher.close()


@pytest.fixture
def workers(
    request: pytest.FixtureRequest,
    transactional_db: None,
    redis_server: RedisServer,
    launcher: Launcher,
    tmp_path: Path,
) -> Iterator[Workers]:
    """Real worker processes on the test database: `workers(2)`, `workers.simple()`."""
    pool = Workers(launcher, worker_env(redis_server.url), tmp_path)
    request.node.stash[LOGS] = pool
    yield pool
    pool.stop()
