"""What the trees call. Everything says in the diary that it began."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from airports.models import CallbackCall
from benchmarks.chaos import history
from benchmarks.chaos.history import Call
from django_jobbatch import bus, current_batch, current_job
from django_jobbatch.states import Kind

if TYPE_CHECKING:
    from django_jobbatch.models import FailedJob, JobBatch


class Unlucky(Exception):
    """What a job raises that is to fail."""


def work(seconds: float) -> None:
    _begin()
    time.sleep(seconds)


def fail(seconds: float) -> None:
    _begin()
    time.sleep(seconds)
    raise Unlucky("always")


def fail_first(times: int) -> None:
    """Fail in this many attempts of each run."""
    call = _begin()
    if call.attempts < times:
        raise Unlucky(f"attempt {call.attempts + 1} of {times} that fail")


def fail_runs(count: int) -> None:
    """Fail in this many runs of its batch."""
    run = _begin().run
    if run <= count:
        raise Unlucky(f"run {run} of {count} that fail")


def kill_horse(times: int) -> None:
    """Take the process along, this many times."""
    link = _begin().link
    if sum(call.link == link for call in history.calls()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def load(count: int) -> None:
    """Add jobs to its batch, and a chain; in a chain, at its end."""
    _begin()
    added = [*(bus.job(work, 0.02) for _ in range(count)), [bus.job(work, 0.02)] * 2]
    batch = current_batch()
    if batch.kind == Kind.CHAIN:
        current_job().append(*added)
    else:
        batch.add(added)


def extend(count: int) -> None:
    """Put jobs right behind itself in its lane."""
    _begin()
    current_job().prepend(*(bus.job(work, 0.02) for _ in range(count)))


def write(seconds: float) -> None:
    """Write to the database; to be run as `transactional`, so that it is there exactly once."""
    link = _begin().link
    CallbackCall.objects.create(batch_id=current_batch().pk, role=wrote(link))
    time.sleep(seconds)


def wrote(link: int) -> str:
    """What the job of this link leaves in the database."""
    return f"link {link}"


def told(batch: JobBatch, seconds: float) -> None:
    _begin()
    time.sleep(seconds)


def told_failure(batch: JobBatch, failure: FailedJob, seconds: float) -> None:
    _begin()
    time.sleep(seconds)


def told_and_dies(batch: JobBatch, times: int) -> None:
    kill_horse(times)


def told_badly(batch: JobBatch) -> None:
    _begin()
    raise Unlucky("a callback")


def _begin() -> Call:
    link = current_job()
    run = link.run if link.is_callback else current_batch().run
    call = Call(link.pk, run, link.attempts, os.getpid())
    history.write(call)
    return call
