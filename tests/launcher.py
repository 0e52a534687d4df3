"""Starts worker processes by forking one that has imported everything already.

A worker is a process of its own as ever: in a session of its own, with its own log and exit code.
What it is spared is half a second of imports, which was most of what a test with workers took.
"""

from __future__ import annotations

import gc
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

PRELOADED = (
    "django_rq.management.commands.rqworker",
    "django_jobbatch.worker",
    "tests.jobs",
    "tests.worker_classes",
)


class Launcher:
    """The process that is forked; it ends with us."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._exits: dict[int, int] = {}
        self._unread = b""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.launcher"],
            env={**os.environ, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )

    def start(self, arguments: Sequence[str], log: Path) -> LaunchedProcess:
        """Run `manage.py` with these arguments in a new process that writes to this log."""
        assert self._process.stdin is not None
        request = {"arguments": list(arguments), "log": str(log)}
        self._process.stdin.write(f"{json.dumps(request)}\n".encode())
        while not (started := self._read(None)):
            pass
        return LaunchedProcess(self, started[0], arguments)

    def exit_code(self, pid: int, timeout: float | None) -> int | None:
        """How a process has ended, or None if it has not after so many seconds."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while pid not in self._exits:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            is_over = left == 0
            self._read(left)
            if is_over:
                break
        return self._exits.get(pid)

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()

    def _read(self, timeout: float | None) -> list[int]:
        """Read the reported exits, and return what was started."""
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], timeout)[0]:
            return []
        read = os.read(self._process.stdout.fileno(), 65536)
        if not read:
            raise RuntimeError(f"the launcher ended with code {self._process.wait()}")
        *lines, self._unread = (self._unread + read).split(b"\n")
        messages = [json.loads(line) for line in lines]
        self._exits.update({each["ended"]: each["code"] for each in messages if "ended" in each})
        return [each["started"] for each in messages if "started" in each]


class LaunchedProcess:
    """The used part of `subprocess.Popen`, for a process that is a child of the launcher."""

    def __init__(self, launcher: Launcher, pid: int, arguments: Sequence[str]) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._launcher = launcher
        self._arguments = arguments

    def poll(self) -> int | None:
        if self.returncode is None:
            self.returncode = self._launcher.exit_code(self.pid, 0)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        if self.returncode is None:
            self.returncode = self._launcher.exit_code(self.pid, timeout)
        if self.returncode is None:
            assert timeout is not None
            raise subprocess.TimeoutExpired(list(self._arguments), timeout)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


# In the launcher itself


def serve() -> list[str] | None:
    """Fork at each request, and report each exit; return the arguments in a forked process."""
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, _ignore)
    unread = b""
    while True:
        ready, _, _ = select.select([0, read_end], [], [])
        if read_end in ready:
            os.read(read_end, 4096)
            _send_exits()
        if 0 not in ready:
            continue
        read = os.read(0, 65536)
        if not read:
            return None
        *lines, unread = (unread + read).split(b"\n")
        for line in lines:
            request = json.loads(line)
            if pid := os.fork():
                _send(started=pid)
                continue
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.close(read_end)
            os.close(write_end)
            _become_a_daemon(request["log"])
            arguments: list[str] = request["arguments"]
            return arguments


def _become_a_daemon(log: str) -> None:
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDONLY)
    output = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.dup2(nothing, 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    os.close(nothing)
    os.close(output)


def _send_exits() -> None:
    with suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            _send(ended=ended[0], code=os.waitstatus_to_exitcode(ended[1]))


def _send(**message: Any) -> None:
    os.write(1, f"{json.dumps(message)}\n".encode())


def _ignore(number: int, frame: FrameType | None) -> None:
    """Be woken by a signal, and no more."""


def main() -> None:
    import importlib  # noqa: PLC0415 - in the launcher alone

    import django  # noqa: PLC0415
    from django.core.management import execute_from_command_line  # noqa: PLC0415

    django.setup()
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    arguments = serve()
    if arguments is not None:
        execute_from_command_line(["manage.py", *arguments])


if __name__ == "__main__":
    main()
