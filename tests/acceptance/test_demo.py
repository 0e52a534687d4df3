"""The demo as a process: what it leaves behind when it is interrupted. `make demo` shows the rest."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress

import psutil
import pytest

from tests.settings import ROOT


@pytest.fixture
def demo() -> Iterator[psutil.Popen]:
    """The demo, just when its first line of progress has come."""
    process = psutil.Popen(
        [sys.executable, str(ROOT / "sandbox" / "demo.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("Import airports: ")
    yield process
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    process.communicate(timeout=30)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process_behind(
    demo: psutil.Popen, number: signal.Signals
) -> None:
    started = demo.children(recursive=True)

    demo.send_signal(number)
    code = demo.wait(timeout=30)

    assert len(started) >= 2
    assert code == 130
    assert [process for process in started if runs(process)] == []


def test_a_worker_that_dies_ends_the_demo_with_its_log(demo: psutil.Popen) -> None:
    started = demo.children(recursive=True)
    worker = next(process for process in started if "rqworker" in process.cmdline())

    worker.kill()
    code = demo.wait(timeout=30)

    assert code == 1
    assert "ended with code -9:" in demo.stderr.read()
    assert [process for process in started if runs(process)] == []


def runs(process: psutil.Process) -> bool:
    """Whether it is more than an entry that its parent has not read yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
