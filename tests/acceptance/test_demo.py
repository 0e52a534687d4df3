"""The demo: its last line, and its processes after an interrupt."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from unittest import mock

import psutil
import pytest
from demo import summary

from airports.importing import dispatch_import
from airports.models import Country, Report
from airports.rows import Rows
from django_jobbatch.runner.session import TicketSession
from tests.settings import ROOT


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("redis_server")
def test_the_last_line_counts_the_jobs_of_the_tree_and_the_callbacks_of_its_root() -> None:
    countries = {"JO": 7, "KP": 4}
    with mock.patch.object(Rows, "counts", countries):
        batch = dispatch_import()

        TicketSession("default", "default", "ticket").run(batch)

    batch.refresh_from_db()
    assert summary(batch) == (
        "outcome=partial total=15 succeeded=11 failed=4 cancelled=0 skipped=0 progress=100"
        " then=1 catch=0 finally=1 batches=3 chains=3"
    )
    assert list(Country.objects.order_by("code").values_list()) == [("JO", 7, 5), ("KP", 4, 2)]
    assert list(Report.objects.values_list("batch_id", "rows", "airports")) == [(batch.pk, 11, 7)]


#: Some 5,600 airports: seconds of work, to be interrupted in the midst of it.
COUNTRIES = ("AU", "BR", "CA")


@pytest.fixture
def demo() -> Iterator[psutil.Popen]:
    """The demo, just when its first line of progress has come."""
    process = psutil.Popen(
        [sys.executable, str(ROOT / "sandbox" / "demo.py"), *COUNTRIES],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline().startswith("Import airports: ")
    yield process
    with suppress(psutil.NoSuchProcess):
        process.terminate()
    process.communicate(timeout=30)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_no_process(demo: psutil.Popen, number: signal.Signals) -> None:
    started = demo.children(recursive=True)

    demo.send_signal(number)
    code = demo.wait(timeout=30)

    assert len(started) >= 2
    assert code == 130
    assert [process for process in started if runs(process)] == []


@pytest.mark.slow
def test_a_worker_that_dies_ends_the_demo_with_its_log(demo: psutil.Popen) -> None:
    started = demo.children(recursive=True)
    worker = next(process for process in started if "rqworker" in process.cmdline())

    worker.kill()
    code = demo.wait(timeout=30)

    assert code == 1
    assert "exited with code -9:" in demo.stderr.read()
    assert [process for process in started if runs(process)] == []


@pytest.fixture
def sandbox() -> Iterator[psutil.Popen]:
    """The sandbox, as it starts."""
    process = psutil.Popen(
        [sys.executable, str(ROOT / "sandbox" / "serve.py")],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    yield process
    with suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGINT)
    process.communicate(timeout=30)


@pytest.mark.slow
def test_the_sandbox_prints_a_command_for_a_second_terminal(sandbox: psutil.Popen) -> None:
    printed = [sandbox.stdout.readline() for _ in range(2)]

    what, _, command = printed[1].partition(": ")
    answer = subprocess.run(command, shell=True, check=True, capture_output=True, text=True)  # noqa: S602 - what a user copies

    assert what == "In a second terminal"
    assert "Import airports" in answer.stdout


def runs(process: psutil.Process) -> bool:
    """Whether it is more than an entry that its parent has not read yet."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
