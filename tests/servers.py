"""Real servers for the tests: Redis, worker processes on the test database, and waiting for them."""

from __future__ import annotations

import itertools
import os
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

from django.db import connection
from redis import Redis

from sandbox.servers import Server, Valkey, manage, stop_all
from tests.launcher import Launcher
from tests.settings import ROOT

#: Seconds that a worker has for its shutdown at the end of a test: more where it is measured, since
#: what is killed writes no figures.
GRACE = 5 if "COVERAGE_PROCESS_CONFIG" in os.environ else 0.5

#: Worker names are unique in Redis, and a killed worker's name stays taken for a while.
_numbers = itertools.count(1)


class RedisServer:
    """The Redis of the tests: a Valkey of our own, or a foreign one from REDIS_URL.

    A foreign one is never stopped, and must be an empty database when the tests start. What is
    deleted there is what RQ and this package have written, key by key.
    """

    PREFIXES = ("rq:*", "jobbatch:*")

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        # Any, because its answers are typed as those of every protocol and decoding at once.
        self.client: Any = Redis.from_url(url)
        self._valkey = Valkey(folder) if url == f"unix://{folder / 'valkey.sock'}" else None
        self._dump = folder / "valkey" / "dump.rdb"

    @property
    def is_ours(self) -> bool:
        return self._valkey is not None

    def start(self) -> None:
        if self._valkey is not None:
            self._valkey.start()
        elif self.client.dbsize():
            raise RuntimeError(f"REDIS_URL={self.url} is not empty; name a database for the tests")

    def listen(self, workers: int, queue: str = "default") -> None:
        """Let RQ know of so many workers that listen on this queue and take nothing."""
        key = f"rq:workers:{queue}"
        self.client.delete(key)
        if workers:
            self.client.sadd(key, *(f"rq:worker:idle-{number}" for number in range(workers)))

    def stop(self) -> None:
        """Stop our own server, as a test of an outage does too; `start` brings it back, empty."""
        if self._valkey is not None:
            self._valkey.stop()

    def restart(self, *, keep: bool) -> None:
        """Restart our own server, with what is in it or, as one without persistence, empty."""
        if keep:
            self.client.save()
        self.stop()
        self.start()
        self._dump.unlink(missing_ok=True)

    def ensure_running(self) -> None:
        if self._valkey is not None and not self._valkey.is_running:
            self._valkey.start()

    def clear(self) -> None:
        if self._valkey is not None:
            self.client.flushdb()
            return
        for prefix in self.PREFIXES:
            for key in self.client.scan_iter(prefix):
                self.client.delete(key)


class Worker(Server):
    """A worker that the launcher forks."""

    def __init__(
        self, name: str, arguments: Sequence[str], *, launcher: Launcher, folder: Path
    ) -> None:
        self._launcher = launcher
        super().__init__(name, arguments, env={}, folder=folder)

    def launch(self, command: Sequence[str], **named: Any) -> subprocess.Popen[bytes]:
        return cast("subprocess.Popen[bytes]", self._launcher.start(command, self.log))


class Workers:
    """Starts real workers on the current test database: `workers(2, "default", "slow")`.

    Those are RQ's own, which know nothing of batches, unless a `--worker-class` is named.
    """

    PLAIN = "rq.Worker"
    SIMPLE = "rq.SimpleWorker"
    BATCH = "django_jobbatch.worker.BatchWorker"

    def __init__(self, launcher: Launcher, env: Mapping[str, str], folder: Path) -> None:
        self.servers: list[Server] = []
        self._launcher = launcher
        self._env = env
        self._folder = folder

    def __call__(self, count: int = 1, *arguments: str, ready: bool = True) -> list[Server]:
        """Start `count` forking workers; `arguments` are queues (default: default) and options."""
        started = [self._start(arguments or ("default",)) for _ in range(count)]
        if ready:
            for server in started:
                server.wait_for_log("Listening on")
        return started

    def simple(self, count: int = 1, *arguments: str, ready: bool = True) -> list[Server]:
        """Start workers that run jobs in their own process, without a work-horse."""
        queues = arguments or ("default",)
        return self(count, *queues, "--worker-class", self.SIMPLE, ready=ready)

    def batch(self, count: int = 1, *arguments: str, ready: bool = True) -> list[Server]:
        """Start workers of the class that this package has for them."""
        queues = arguments or ("default",)
        return self(count, *queues, "--worker-class", self.BATCH, ready=ready)

    def pool(self, size: int, *queues: str) -> Server:
        """Start `rqworker-pool`, with workers of the class that the settings name."""
        server = self._manage("rqworker-pool", *queues, "--num-workers", str(size))
        server.wait_for_log("Listening on")
        return server

    def _start(self, arguments: tuple[str, ...]) -> Server:
        name = f"worker-{next(_numbers)}"
        if "--worker-class" not in arguments:
            arguments = (*arguments, "--worker-class", self.PLAIN)
        return self._manage("rqworker", *arguments, "--name", name, name=name)

    def _manage(self, *arguments: str, name: str = "pool") -> Server:
        server: Server
        if "--settings" in arguments:
            server = manage(name, *arguments, env=self._env, folder=self._folder)
        else:
            server = Worker(name, arguments, launcher=self._launcher, folder=self._folder)
        self.servers.append(server)
        return server

    def stop(self) -> None:
        stop_all(self.servers, grace=GRACE)

    def logs(self) -> str:
        return "\n".join(f"--- {server.name}\n{server.tail(200)}" for server in self.servers)


def worker_env(redis_url: str) -> dict[str, str]:
    """The environment variables of a worker, beside those of the tests."""
    return {
        "DJANGO_SETTINGS_MODULE": "tests.settings",
        "DATABASE_URL": database_url(),
        "REDIS_URL": redis_url,
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
        # The Redis database of this xdist worker is in the address already.
        "PYTEST_XDIST_WORKER": "",
    }


def database_url() -> str:
    """The address of the database that the running test uses."""
    values = connection.settings_dict
    if connection.vendor == "sqlite":
        return f"sqlite:///{values['NAME']}"
    # The test database stands beside the configured one, on the same server.
    return urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{values['NAME']}").geturl()


def wait_until(
    predicate: Callable[[], object], *, timeout: float = 30, interval: float = 0.02
) -> None:
    """Wait for what other processes do to the database or to Redis."""
    deadline = time.monotonic() + timeout
    while not predicate():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not so after {timeout} seconds: {predicate}")
        time.sleep(interval)
