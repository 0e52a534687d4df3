"""Jobs and callbacks that ignore their timeouts until a gate opens, or for good."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from django.db import transaction

from airports.models import CallbackCall
from django_jobbatch import bus, current_batch
from tests.jobs import TIMEOUT, add, record

if TYPE_CHECKING:
    from django_jobbatch.models import FailedJob, JobBatch


def catch_everything(path: str, text: str, gate: str) -> None:
    """Catch the timeout, and whatever else is raised, in a loop."""
    record(path, text)
    deadline = time.monotonic() + TIMEOUT
    while True:
        # The timeout may come anywhere, so nothing but the loop itself stands outside.
        try:
            while not Path(gate).exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            break
        except BaseException:  # noqa: BLE001, S112 - this is the error of the job
            continue
    record(path, f"{text} returned")


async def catch_every_cancellation(path: str, text: str, gate: str) -> None:
    record(path, text)
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        try:
            while not Path(gate).exists():
                await asyncio.sleep(0.01)
            break
        except asyncio.CancelledError:
            continue


def block_in_c(path: str, text: str, gate: str) -> None:
    """Wait in C code without the interpreter: no signal handler runs, other threads do."""
    record(path, text)
    _sleep_in(ctypes.CDLL(None))


def hold_interpreter(path: str, text: str, gate: str) -> None:
    """Wait in C code that holds the interpreter: no other thread of the process runs."""
    record(path, text)
    _sleep_in(ctypes.PyDLL(None))


def hold_interpreter_for(path: str, text: str, seconds: int) -> None:
    """Hold the interpreter for so long, and return to Python code."""
    record(path, text)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    ctypes.PyDLL(None).sleep(seconds)
    record(path, f"{text} returned")


def match_slowly(path: str, text: str, gate: str) -> None:
    """Match a regular expression that takes years."""
    import re  # noqa: PLC0415 - for this job alone

    record(path, text)
    re.match(r"(a+)+$", "a" * 60 + "b")


def _sleep_in(library: ctypes.CDLL) -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGALRM})
    library.sleep(TIMEOUT)


def write_and_catch_everything(path: str, text: str, gate: str) -> None:
    """Write in the transaction of the job, then ignore the timeout."""
    CallbackCall.objects.create(batch_id=current_batch().pk, role=text)
    catch_everything(path, text, gate)


def lock_and_catch_everything(path: str, text: str, gate: str) -> None:
    """Hold the row of the batch in a transaction, then ignore the timeout."""
    with transaction.atomic():
        current_batch().add(bus.job(add, 1, 2))
        catch_everything(path, text, gate)


def run_inline(path: str, text: str, gate: str) -> None:
    """Run a batch in this process, with a time limit of its own."""
    bus.batch([bus.job(catch_everything, path, text, gate)]).options(
        queue="sync", timeout=TIMEOUT
    ).dispatch()


# Callbacks


def hang(batch: JobBatch, path: str, text: str, gate: str) -> None:
    catch_everything(path, text, gate)


def hang_at(batch: JobBatch, failure: FailedJob, path: str, text: str, gate: str) -> None:
    """Ignore the timeout for the failure with this message."""
    record(path, f"each {failure.message}")
    if failure.message == text:
        catch_everything(path, text, gate)


def hang_once(batch: JobBatch, path: str, text: str, gate: str) -> None:
    """A progress callback that hangs at its first call."""
    if not Path(path).exists() or text not in Path(path).read_text():
        catch_everything(path, text, gate)


def record_process(path: str) -> None:
    record(path, str(os.getpid()))


HANGING: dict[str, Callable[..., object]] = {
    "Python code catches everything": catch_everything,
    "C code blocks": block_in_c,
    "a coroutine catches its cancellation": catch_every_cancellation,
}
