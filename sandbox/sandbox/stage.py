"""Servers of the demo and the sandbox: a new database, Redis and two workers."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

import django
from django.core.management import call_command

from sandbox.display import display
from sandbox.servers import MANAGE, Server, ServerFailed, manage, redis_url, stop_all

if TYPE_CHECKING:
    from django_jobbatch.models import JobBatch

WORKERS = 2
POLL_SECONDS = 0.25
#: Must exceed the lease of a dead worker: its jobs run again only after that.
STALL_SECONDS = 180


class Interrupts:
    """Signal handler that raises KeyboardInterrupt, except while interrupts are held."""

    def __init__(self) -> None:
        self._held = False
        self._received = False
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self._arrived)

    def _arrived(self, number: int, frame: FrameType | None) -> None:
        self._received = True
        if not self._held:
            raise KeyboardInterrupt

    def hold(self) -> None:
        self._held = True

    def release(self) -> None:
        self._held = False
        if self._received:
            raise KeyboardInterrupt


class Stage:
    """Folder with the database and the logs, and the running servers."""

    def __init__(self, folder: Path, url: str, interrupts: Interrupts) -> None:
        self.folder = folder
        self.servers: list[Server] = []
        self.env = {
            "DJANGO_SETTINGS_MODULE": "sandbox.settings",
            "DATABASE_URL": f"sqlite:///{folder / 'db.sqlite3'}",
            "REDIS_URL": url,
        }
        self._interrupts = interrupts

    def set_up_django(self) -> None:
        os.environ.update(self.env)
        django.setup()
        call_command("migrate", verbosity=0)

    def command_line(self, *arguments: str) -> str:
        """Return the shell command that runs `manage.py` with these arguments on these servers."""
        env = [f"{name}={shlex.quote(value)}" for name, value in self.env.items()]
        return " ".join([*env, shlex.join([sys.executable, str(MANAGE), *arguments])])

    def start(self, name: str, *arguments: str) -> Server:
        """Start `manage.py` with these arguments, and hold interrupts until it is in the list."""
        self._interrupts.hold()
        server = manage(name, *arguments, env=self.env, folder=self.folder)
        self.servers.append(server)
        self._interrupts.release()
        return server

    def start_workers(self) -> None:
        for number in range(1, WORKERS + 1):
            name = f"worker-{number}-{os.getpid()}"
            self.start(name, "rqworker", "default", "--name", name)

    def check(self) -> None:
        """Raise an error if a server has exited."""
        for server in self.servers:
            if not server.is_alive:
                code = server.process.returncode
                raise ServerFailed(f"{server.name} exited with code {code}:\n{server.tail()}")

    def follow(self, batch: JobBatch) -> None:
        """Show the progress of the batch until it is settled, its callbacks included."""
        last, changed_at = batch.snapshot(), time.monotonic()
        with display(batch) as show:
            show(last)
            while not batch.is_settled:
                time.sleep(POLL_SECONDS)
                self.check()
                batch.refresh_from_db()
                snapshot = batch.snapshot()
                show(snapshot)
                if snapshot != last:
                    last, changed_at = snapshot, time.monotonic()
                if time.monotonic() - changed_at > STALL_SECONDS:
                    raise ServerFailed(f"no progress for {STALL_SECONDS} s\n{self.logs()}")

    def logs(self) -> str:
        return "\n".join(f"--- {server.name}\n{server.tail()}" for server in self.servers)


@contextlib.contextmanager
def stage() -> Iterator[Stage]:
    """Start the servers, set up Django, and stop the servers afterwards."""
    interrupts = Interrupts()
    with (
        tempfile.TemporaryDirectory(prefix="jobbatch-", ignore_cleanup_errors=True) as folder,
        redis_url(Path(folder)) as url,
    ):
        built = Stage(Path(folder), url, interrupts)
        try:
            built.set_up_django()
            built.start_workers()
            yield built
        finally:
            interrupts.hold()
            stop_all(built.servers, grace=1)


def run(main: Callable[[], None]) -> None:
    """Run a script of the sandbox; exit with a code after an interrupt or a failed server."""
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
    except ServerFailed as failure:
        sys.exit(f"failed: {failure}")
