"""Servers of a benchmark, started for it alone, and their workers."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

import django
from django.core.management import call_command

from benchmarks.worker import READY
from sandbox.databases import SERVERS, DatabaseServer
from sandbox.servers import ServerFailed, Valkey

ROOT: Final = Path(__file__).resolve().parent.parent
QUEUE: Final = "default"
#: All queues; the second is for links that change their queue.
QUEUES: Final = (QUEUE, "other")
DATABASES: Final = ("postgres", "mariadb", "sqlite")


class Stage(NamedTuple):
    """Running servers and the folder of their logs; `database` is None for SQLite."""

    folder: Path
    redis: Valkey
    database: DatabaseServer | None


@contextmanager
def stage(database: str, *, settings: str = "sandbox.settings") -> Iterator[Stage]:
    """Start the servers, set up Django, and stop the servers afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="jobbatch-", ignore_cleanup_errors=True) as name,
        _database(database, Path(name)) as server,
        _redis(Path(name)) as valkey,
    ):
        os.environ |= {
            "DJANGO_SETTINGS_MODULE": settings,
            "DATABASE_URL": server.url if server else f"sqlite:///{Path(name) / 'db.sqlite3'}",
            "REDIS_URL": valkey.url,
            "QUEUES": ",".join(QUEUES),
            "DEBUG": "0",  # in debug mode Django stores all statements
        }
        django.setup()
        call_command("migrate", verbosity=0)
        yield Stage(Path(name), valkey, server)


class Worked(NamedTuple):
    """Working time of a worker, and the peak memory of its work-horses."""

    seconds: float
    peak_mb: float


def work(worker_class: str, *queues: str) -> Worked:
    """Run a new worker of this class until these queues are empty; by default the first queue."""
    with subprocess.Popen(
        [sys.executable, "-m", "benchmarks.worker", worker_class, *(queues or (QUEUE,))],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            ready = process.stdout.readline().strip()  # type: ignore[union-attr]  # it is a pipe
            output, _ = process.communicate("start\n")
        except BaseException:
            process.kill()
            raise
    if ready != READY or process.returncode:
        raise ServerFailed(f"a {worker_class} exited with code {process.returncode}: {output}")
    return Worked(*map(float, output.split()))


@contextmanager
def _database(name: str, folder: Path) -> Iterator[DatabaseServer | None]:
    if name == "sqlite":
        yield None
        return
    server = SERVERS[name](folder)
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextmanager
def _redis(folder: Path) -> Iterator[Valkey]:
    valkey = Valkey(folder)
    try:
        valkey.start()
        yield valkey
    finally:
        valkey.stop()
