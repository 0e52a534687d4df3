"""The tutorial, followed to the letter by a reader in an empty folder."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from sandbox.servers import Server, stop_all
from tests.servers import RedisServer
from tests.settings import ROOT

TUTORIAL = ROOT / "docs" / "tutorial" / "first-batch.md"
#: Seconds after which the reader is stopped, so that a missing line is a failure and not a wait.
TIMEOUT = 180
#: Where the tutorial installs the package from; the reader of the test is given the wheel.
CLONE = "../django-jobbatch"

BLOCK = re.compile(
    r"^```\{code-block\} (?P<kind>\w+)\n(:caption: (?P<caption>[^\n]+)\n)?\n?(?P<text>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """One piece of code on the page: what it is, where it belongs, and its text."""

    kind: str
    caption: str
    text: str


class Reader:
    """Does in a folder what a page says, in one shell, one `manage.py shell` and second terminals."""

    def __init__(self, folder: Path, wheel: Path, redis_url: str) -> None:
        self.servers: list[Server] = []
        self._folder = folder
        self._wheel = wheel
        foreign = ("PYTHON", "DJANGO", "DATABASE", "VIRTUAL_ENV", "PYTEST")
        self._env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(foreign)},
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "REDIS_URL": redis_url,
        }
        self._terminal = self._open(["bash"])
        self._shell: subprocess.Popen[str] | None = None

    def follow(self, block: Block) -> None:
        """Do what one block says, and see that what it shows comes of it."""
        if block.kind == "python":
            self._add_to(block.caption.partition(" ")[0], block.text)
        elif block.kind == "pycon":
            self._talk(block.text)
        elif block.caption:
            self._leave_running(block.text)
        else:
            self._type(block.text)

    def terminate(self) -> None:
        """Kill all processes and their children, so that the wait for the next line ends."""
        stop_all(self.servers)
        for process in filter(None, (self._terminal, self._shell)):
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

    def close(self) -> None:
        self.terminate()
        for process in filter(None, (self._terminal, self._shell)):
            process.communicate()

    def _add_to(self, name: str, text: str) -> None:
        with (self._folder / name).open("a") as file:
            file.write(f"\n{text}")

    def _type(self, text: str) -> None:
        for example in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, shown = example.partition("\n")
            printed = self._run(command.replace(CLONE, str(self._wheel)))
            assert [line for line in printed if line in shown.splitlines()] == shown.splitlines(), (
                f"{command}:\n" + "\n".join(printed)
            )

    def _run(self, command: str) -> list[str]:
        """The lines that a command prints in the first terminal."""
        _say(self._terminal, f"{command} </dev/null; echo ended: $?")
        printed = []
        while not (line := _hear(self._terminal)).startswith("ended: "):
            printed.append(line)
        assert line == "ended: 0", f"{command}: {line}\n" + "\n".join(printed)
        return printed

    def _talk(self, text: str) -> None:
        if self._shell is None:
            self._shell = self._open(
                [str(self._folder / ".venv/bin/python"), str(ROOT / "tests" / "shell_session.py")],
                DJANGO_SETTINGS_MODULE="shop.settings",
                PYTHONPATH=str(self._folder),
            )
        _say(self._shell, json.dumps(text))
        answer = _hear(self._shell)
        differences = json.loads(answer) if answer.startswith('"') else answer
        assert not differences, differences

    def _leave_running(self, text: str) -> None:
        *before, last = re.findall(r"^\$ (.+)$", text, re.MULTILINE)
        server = Server(
            f"terminal-{len(self.servers) + 2}",
            [
                *("env", "-i", *(f"{name}={value}" for name, value in self._env.items())),
                *("bash", "-c", "; ".join([f"cd {self._folder}", *before, f"exec {last}"])),
            ],
            env={},
            folder=self._folder,
        )
        self.servers.append(server)
        server.wait_for_log("Listening on")

    def _open(self, command: list[str], **env: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            command,
            cwd=self._folder,
            env={**self._env, **env},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            text=True,
        )


def _say(process: subprocess.Popen[str], line: str) -> None:
    assert process.stdin is not None
    process.stdin.write(f"{line}\n")
    process.stdin.flush()


def _hear(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line, "it has ended, or the reader has given up"
    return line.rstrip("\n")


@pytest.fixture
def reader(tmp_path: Path, wheel_path: Path, redis_server: RedisServer) -> Iterator[Reader]:
    reader = Reader(tmp_path, wheel_path, redis_server.url)
    timer = threading.Timer(TIMEOUT, reader.terminate)
    timer.start()
    yield reader
    timer.cancel()
    reader.close()


@pytest.mark.slow
def test_the_tutorial_leads_where_it_says(reader: Reader) -> None:
    page = TUTORIAL.read_text()
    blocks = [
        Block(found["kind"], found["caption"] or "", found["text"])
        for found in BLOCK.finditer(page)
    ]

    for block in blocks:
        reader.follow(block)

    assert len(blocks) == page.count("\n```\n") > 0
    assert CLONE in page
    assert [server.is_alive for server in reader.servers] == [True]
