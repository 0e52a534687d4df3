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
#: Environment variables with the log and the process id of the database server, if there is one.
DATABASE_LOG: Final = "BENCHMARK_DATABASE_LOG"
DATABASE_PID: Final = "BENCHMARK_DATABASE_PID"
DATABASES: Final = ("postgres", "mariadb", "sqlite")


class Stage(NamedTuple):
    """Running servers and the folder of their logs; `database` is None for SQLite."""

    folder: Path
    redis: Valkey
    database: DatabaseServer | None

    def environment(self, settings: str = "sandbox.settings") -> dict[str, str]:
        """Return the environment of a process that uses these servers."""
        database = self.database
        return {
            "DJANGO_SETTINGS_MODULE": settings,
            "DATABASE_URL": database.url if database else f"sqlite:///{self.folder / 'db.sqlite3'}",
            "REDIS_URL": self.redis.url,
            "QUEUES": ",".join(QUEUES),
            "DEBUG": "0",  # in debug mode Django stores all statements
            DATABASE_LOG: str(database.log) if database else "",
            DATABASE_PID: str(database.pid) if database else "",
        }


@contextmanager
def servers(database: str) -> Iterator[Stage]:
    """Start the servers, and stop them afterwards."""
    with (
        tempfile.TemporaryDirectory(prefix="jobbatch-", ignore_cleanup_errors=True) as name,
        _database(database, Path(name)) as server,
        _redis(Path(name)) as valkey,
    ):
        yield Stage(Path(name), valkey, server)


@contextmanager
def stage(database: str, *, settings: str = "sandbox.settings") -> Iterator[Stage]:
    """Start the servers, set up Django, and stop the servers afterwards."""
    with servers(database) as started:
        os.environ |= started.environment(settings)
        set_up()
        yield started


def set_up() -> None:
    """Set up Django with the settings of the environment, and migrate its database."""
    django.setup()
    call_command("migrate", verbosity=0)


def python_path() -> str:
    """Return the PYTHONPATH of a process that imports from the folders of this one.

    This checkout is the last folder, so a package in an earlier folder replaces its own.
    """
    folders = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([*filter(None, folders), str(ROOT)])


def child_environment() -> dict[str, str]:
    """Return the environment of a process that imports as this one does."""
    return {**os.environ, "PYTHONPATH": python_path()}


class Worked(NamedTuple):
    """Working time of a worker, with its work-horses: peak memory, processor time and RQ jobs."""

    seconds: float
    peak_mb: float
    processor_s: float
    rq_jobs: float


def work(worker_class: str, *queues: str, logs: bool = True) -> Worked:
    """Run a new worker of this class until these queues are empty; by default the first queue.

    Without `logs` its warnings and errors are not shown.
    """
    with subprocess.Popen(
        # -P: the working directory is no folder of modules.
        [sys.executable, "-P", "-m", "benchmarks.worker", worker_class, *(queues or (QUEUE,))],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=None if logs else subprocess.DEVNULL,
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
