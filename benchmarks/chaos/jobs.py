"""Jobs and callbacks of the trees. Each call records its start in the history."""

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


class FailsOnPurpose(Exception):
    """Exception of a job that fails on purpose."""


def work(seconds: float) -> None:
    record_start()
    time.sleep(seconds)


def fail(seconds: float) -> None:
    record_start()
    time.sleep(seconds)
    raise FailsOnPurpose("always")


def fail_first(times: int) -> None:
    """Fail in the first attempts of each run, this many times."""
    call = record_start()
    if call.attempts < times:
        raise FailsOnPurpose(f"failed attempt {call.attempts + 1} of {times}")


def fail_runs(count: int) -> None:
    """Fail in the first runs of the batch, this many times."""
    run = record_start().run
    if run <= count:
        raise FailsOnPurpose(f"failed run {run} of {count}")


def kill_horse(times: int) -> None:
    """Kill the work-horse, this many times."""
    link = record_start().link
    if sum(call.link == link for call in history.calls()) <= times:
        os.kill(os.getpid(), signal.SIGKILL)


def load(count: int) -> None:
    """Add jobs and a chain to the batch; append them to a chain."""
    record_start()
    added = [*(bus.job(work, 0.02) for _ in range(count)), [bus.job(work, 0.02)] * 2]
    batch = current_batch()
    if batch.kind == Kind.CHAIN:
        current_job().append(*added)
    else:
        batch.add(added)


def extend(count: int) -> None:
    """Insert jobs after this one in its lane."""
    record_start()
    current_job().prepend(*(bus.job(work, 0.02) for _ in range(count)))


def write(seconds: float) -> None:
    """Write one row; a `transactional` job writes it exactly once."""
    link = record_start().link
    CallbackCall.objects.create(batch_id=current_batch().pk, role=written_role(link))
    time.sleep(seconds)


def written_role(link: int) -> str:
    """Return the role of the row that the job of this link writes."""
    return f"link {link}"


def added(token: str) -> None:
    """Do nothing, as a job that was added under this token."""
    record_start()


def foreign() -> None:
    """Do nothing, as a job of another app that belongs to no batch."""


def callback(batch: JobBatch, seconds: float) -> None:
    record_start()
    time.sleep(seconds)


def failure_callback(batch: JobBatch, failure: FailedJob, seconds: float) -> None:
    record_start()
    time.sleep(seconds)


def progress(batch: JobBatch, number: int) -> None:
    """Do nothing."""


def dying_callback(batch: JobBatch, times: int) -> None:
    kill_horse(times)


def failing_callback(batch: JobBatch) -> None:
    record_start()
    raise FailsOnPurpose("a callback")


def record_start() -> Call:
    """Record the start of the call in the history, and return it."""
    link = current_job()
    run = link.run if link.is_callback else current_batch().run
    call = Call(link.pk, run, link.attempts, os.getpid())
    history.record(call)
    return call
