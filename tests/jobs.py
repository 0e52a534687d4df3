"""Functions that the tests use as jobs and callbacks. Module-level, as they must be."""

from __future__ import annotations

import ctypes
import faulthandler
import os
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import django_rq
from django.db import OperationalError, connection, transaction
from rq import Retry, get_current_job

from airports.models import CallbackCall
from django_jobbatch import (
    BatchFinished,
    DoNotRetry,
    bus,
    current_batch,
    current_job,
    transport,
)
from django_jobbatch.runner import timed_calls
from tests.settings import TASKS_MODULE

if TYPE_CHECKING:
    from django_jobbatch.models import FailedJob, JobBatch

#: Seconds a job waits for what a test does, before it gives the test up.
TIMEOUT = 30

_TASKS = import_module(TASKS_MODULE)


class JobFailed(Exception):
    """The error that `fail` raises."""


def add(a: int, b: int) -> int:
    return a + b


#: A job of which a test wants no more than that it is one.
ADD = bus.job(add, 1, 2)


def fail(message: str = "failed on purpose") -> None:
    raise JobFailed(message)


def record(path: str, text: str = "run") -> None:
    """Leave a line that says that this ran; a line at a time, also from several processes."""
    with Path(path).open("a") as lines:
        lines.write(f"{text}\n")


def flaky(path: str, failures: int) -> None:
    """Raise the first `failures` times; the file counts the calls."""
    record(path)
    calls = len(Path(path).read_text().splitlines())
    if calls <= failures:
        raise JobFailed(f"call {calls} of {failures} that fail")


def sleep(seconds: float) -> None:
    """Keep a worker busy."""
    time.sleep(seconds)


# Records


def record_and_sleep(path: str, text: str, seconds: float) -> None:
    record(path, text)
    time.sleep(seconds)


def stamp(path: str, seconds: float = 0) -> None:
    """Record when it started."""
    record(path, repr(time.time()))
    time.sleep(seconds)


def stamp_and_fail_once(path: str) -> None:
    stamp(path)
    if len(Path(path).read_text().splitlines()) == 1:
        raise JobFailed("the first call")


def record_pid(path: str) -> None:
    record(path, str(os.getpid()))


def record_origin(path: str) -> None:
    """Record the queue of the ticket that runs it."""
    job = get_current_job()
    record(path, job.origin if job else "no ticket")


def record_and_return(path: str, text: str) -> str:
    record(path, text)
    return text


def shown(*args: Any, **kwargs: Any) -> str:
    """Return the arguments as they arrive, as text."""
    return f"{args!r} {kwargs!r}"


async def add_later(a: int, b: int) -> int:
    return a + b


@django_rq.job("slow", timeout=60)
def add_slowly(a: int, b: int) -> str:
    job = get_current_job()
    return f"{a + b} on {job.origin if job else ''}"


@_TASKS.task(queue_name="other", takes_context=True)  # type: ignore[untyped-decorator]
def add_in_task(context: Any, a: int, b: int) -> str:
    job = get_current_job()
    return f"{a + b} on {job.origin if job else ''}, attempt {context.attempt}"


@_TASKS.task(takes_context=True)  # type: ignore[untyped-decorator]
def result_id(context: Any) -> str:
    return str(context.task_result.id)


class Adder:
    @staticmethod
    def add(a: int, b: int) -> int:
        return a + b


# Waits


def await_that(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the test did not continue")
        time.sleep(0.01)


def hold(path: str, text: str, gate: str, linger: float = 0) -> None:
    """Record its start, wait at the gate, and record its end."""
    record(path, f"{text} began")
    await_that(Path(gate).exists)
    time.sleep(linger)
    record(path, f"{text} done")


def hold_or_exit(path: str, text: str, gate: str) -> None:
    """Hold, after a note of the process under its name; exit with 0 at SIGUSR1."""
    signal.signal(signal.SIGUSR1, lambda *args: os._exit(os.EX_OK))
    record(str(Path(path).with_name(f"{text} pid")), str(os.getpid()))
    hold(path, text, gate)


def require(path: str, gate: str) -> None:
    """Fail while the gate is closed."""
    name = Path(gate).name
    record(path, name)
    if not Path(gate).exists():
        raise JobFailed(f"{name} is closed")


def hold_and_require(path: str, wait_at: str, gate: str) -> None:
    hold(path, Path(gate).name, wait_at)
    require(path, gate)


def hold_until_cancelled(path: str) -> None:
    record(path, "began")
    await_that(lambda: current_batch().is_cancelled)
    record(path, "saw the cancel")


def hold_until_helped() -> None:
    """Wait for another ticket of the same batch."""
    link = current_job()
    await_that(lambda: transport.waiting_tickets(link.batch_id, link.queue).queued)


def record_others_wait(path: str, queue: str) -> None:
    """Put a job into another queue, and record twice whether it comes before the present one."""
    django_rq.get_queue(queue).enqueue(add, 1, 2)
    for _ in range(2):
        record(path, str(transport.others_wait("default", ())))


def hold_until_renewed(key: str) -> None:
    """Let this key of Redis never expire, and wait until it shall again."""
    redis = django_rq.get_connection("default")
    assert redis.persist(key)
    await_that(lambda: redis.ttl(key) > 0)


def hold_until_settled(others: int) -> None:
    """Wait until so many other jobs of the same batch are settled."""
    await_that(lambda: current_batch().succeeded_jobs >= others)


def hold_until_released() -> None:
    """Wait until no ticket holds another job of the same batch."""
    me = current_job()
    await_that(lambda: not current_batch().jobs.running().exclude(pk=me.pk).exists())


# Errors and writes


def fail_for_good(path: str) -> None:
    record(path, "gave up")
    raise DoNotRetry("it will never work")


def record_and_fail_first(path: str, text: str) -> None:
    record(path, text)
    if _is_first(path, text):
        raise JobFailed("the first time")


def record_and_return_retry_first(path: str, text: str) -> Retry | None:
    """Ask RQ for another attempt, as a job that it runs by itself may."""
    record(path, text)
    return Retry(max=1) if _is_first(path, text) else None


def interrupt(path: str) -> None:
    """Be interrupted by Ctrl-C, the first time."""
    record(path, "began")
    if len(Path(path).read_text().splitlines()) == 1:
        raise KeyboardInterrupt


def write_row(name: str, gate: str = "") -> None:
    """Write to the database, and add a job; then fail while the gate is closed."""
    batch = current_batch()
    CallbackCall.objects.create(batch_id=batch.pk, role=name)
    batch.add(bus.job(write_added_row, f"added by {name}"))
    if gate and not Path(gate).exists():
        raise JobFailed(f"{name} wrote and failed")


def write_added_row(name: str) -> None:
    CallbackCall.objects.create(batch_id=current_batch().pk, role=name)


def write_and_fail_once(name: str) -> None:
    """Write, and fail at the first attempt."""
    link = current_job()
    CallbackCall.objects.create(batch_id=link.batch_id, role=f"{name} {link.attempts + 1}")
    if not link.attempts:
        raise JobFailed(name)


def query_slowly(path: str) -> None:
    """Run into a timeout after a statement, with an open cursor."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        record(path, "began")
        time.sleep(TIMEOUT)


#: MariaDB's error for a connection that is no longer there.
UNKNOWN_THREAD = 1094


def drop_connections() -> None:
    """Have the server end every connection to this database."""
    helper = connection.copy("helper")
    listed, end = {
        "postgresql": (
            "SELECT pid FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()",
            "SELECT pg_terminate_backend(%s, 10000)",
        ),
        "mysql": (
            "SELECT id FROM information_schema.processlist"
            " WHERE db = DATABASE() AND id <> CONNECTION_ID()",
            "KILL %s",
        ),
    }[helper.vendor]
    with helper.cursor() as cursor:
        cursor.execute(listed)
        for (number,) in cursor.fetchall():
            try:
                cursor.execute(end, [number])
            except OperationalError as error:
                if error.args[0] != UNKNOWN_THREAD:  # it ended by itself in between
                    raise
    helper.close()


def drop_connections_and_record(*arguments: object, path: str, text: str) -> None:
    """Drop the connections as a job or as a callback, with any arguments, and record it."""
    drop_connections()
    record(path, text)


def write_and_drop_connections(path: str, name: str, times: int) -> None:
    """Write to the database and add a job; so many times the connection does not live to the end."""
    write_row(name)
    record(path, name)
    if len(Path(path).read_text().splitlines()) <= times:
        drop_connections()


# Deaths


def die(exit_code: int | None = None) -> None:
    """End this process at once: by that exit code, else as one that is killed."""
    if exit_code is not None:
        os._exit(exit_code)
    os.kill(os.getpid(), signal.SIGKILL)


def die_first(path: str, text: str, exit_code: int | None = None) -> None:
    """Run, but the first time the process dies of it."""
    record(path, text)
    if _is_first(path, text):
        die(exit_code)


def crash() -> None:
    """End this process by a segmentation fault."""
    faulthandler.disable()  # pytest has it print where that happened
    ctypes.string_at(0)


DEATHS: dict[str, Callable[[], None]] = {
    "SIGKILL": die,
    "exit code 0": partial(die, 0),
    "exit code 1": partial(die, 1),
    "a segmentation fault": crash,
}


def die_of(path: str, death: str) -> None:
    """Run, but the first time die in this way."""
    record(path, death)
    if _is_first(path, death):
        DEATHS[death]()


def crash_first(path: str, text: str) -> None:
    record(path, text)
    if _is_first(path, text):
        crash()


def die_always(path: str, text: str) -> None:
    record(path, text)
    die()


def record_call_and_die_first(batch: JobBatch, path: str, role: str) -> None:
    """Record the call, and die at the first one."""
    die_first(path, role)


def record_failure_and_die_first(
    batch: JobBatch, failure: FailedJob, path: str, role: str, deadly: str
) -> None:
    """Record each failure, and die at the first call with the deadly one."""
    record(path, f"{role} {failure.message}")
    if failure.message == deadly and _is_first(path, f"{role} {deadly}"):
        die()


def record_failure_and_die(
    batch: JobBatch, failure: FailedJob, path: str, role: str, deadly: str
) -> None:
    """Record each failure, and die at every call with the deadly one."""
    record(path, f"{role} {failure.message}")
    if failure.message == deadly:
        die()


def hold_first(path: str, text: str, gate: str) -> None:
    """Record its start, the first time wait at the gate, and record its end."""
    # Before the test hears of it, which may kill this process at once.
    is_first = _is_first(path, text)
    record(path, f"{text} began")
    if is_first:
        await_that(Path(gate).exists)
    record(path, f"{text} done")


def write_and_die_first(path: str, name: str, *, committed: bool) -> None:
    """Write to the database and add a job; the first time the process dies before or after the commit."""
    write_row(name)
    record(path, name)
    if not _is_first(path, name):
        return
    if committed:
        transaction.on_commit(die)
    else:
        connection.execute_wrappers.append(_die_at_settlement)


def _die_at_settlement(execute: Any, sql: str, *arguments: Any) -> Any:
    """Die once the batch is written and its link is not."""
    if sql.startswith("UPDATE") and "django_jobbatch_batchedjob" in sql:
        die()
    return execute(sql, *arguments)


def _is_first(path: str, text: str) -> bool:
    """Whether this is asked for the first time."""
    try:
        Path(f"{path} {text}").touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


# Dispatches and additions


def load(path: str, names: list[str], gate: str) -> None:
    """Add a job for every name, and stay until the gate opens."""
    for name in names:
        current_batch().add(bus.job(record, path, name))
    hold(path, "loader", gate)


def load_late(path: str, gate: str) -> None:
    """Wait at the gate, and only then add a job."""
    hold(path, "loader", gate)
    current_batch().add(bus.job(record, path, "added"))


def load_longer(path: str) -> None:
    """Note how long RQ lets the ticket run, and add a job that may run longer."""
    note_room(path)
    current_batch().add(bus.job(note_room, path).options(timeout=999))


def note_room(path: str) -> None:
    job = get_current_job()
    record(path, str(job.timeout if job else None))


def load_lanes(path: str, names: str) -> None:
    """Add a chain for each letter, and a batch."""
    record(path, "loader")
    lanes = [[bus.job(record, path, f"{name}{n}") for n in (1, 2)] for name in names]
    current_batch().add([*lanes, bus.batch([bus.job(record, path, "in a batch")])])


def extend_lane(path: str, name: str) -> None:
    """Insert a job and a batch right after this one, and others at the end of the lane."""
    record(path, name)
    link = current_job()
    first, last = bus.job(record, path, f"{name} first"), bus.job(record, path, f"{name} last")
    link.prepend(first, bus.batch([bus.job(record, path, f"{name} in a batch")]))
    link.append(last, bus.batch([bus.job(record, path, f"{name} in a last batch")]))


def add_to_previous(number: int) -> int:
    return int(current_job().previous_result) + number


def sum_of_previous() -> int:
    return sum(current_job().previous_result)


def nest(path: str, depth: int) -> None:
    """Dispatch a batch whose job dispatches a batch, `depth` of them."""
    if depth:
        bus.batch(bus.job(nest, path, depth - 1)).on_queue(current_job().queue).dispatch()
    else:
        record(path, "innermost")


# Callbacks


def record_call(batch: JobBatch, path: str, role: str) -> None:
    record(path, f"{role} {batch.outcome}".strip())


def record_counts(batch: JobBatch, path: str, role: str) -> None:
    """Record the finish of the batch; its time must be known."""
    assert batch.finished_at is not None
    counts = f"{batch.failed_jobs} failed of {batch.total_jobs}, {batch.pending_jobs} pending"
    record(path, f"{role} {batch.status} {batch.outcome}: {counts}")


def record_failure(batch: JobBatch, failure: FailedJob, path: str, role: str) -> None:
    record(path, f"{role} {failure.message}")


def record_failures(batch: JobBatch, path: str, role: str) -> None:
    record(path, f"{role} {batch.outcome}: {', '.join(each.message for each in batch.failures)}")


def record_results(batch: JobBatch, path: str) -> None:
    record(path, repr(list(batch.results())))


def record_and_require(batch: JobBatch, path: str, role: str, gate: str) -> None:
    """Fail while the gate is closed."""
    record(path, role)
    if not Path(gate).exists():
        raise JobFailed(f"{role} failed")


def hold_callback(*arguments: object, path: str, text: str, gate: str) -> None:
    """A callback of any kind that waits at the gate."""
    hold(path, text, gate)


def record_progress(batch: JobBatch, path: str) -> None:
    record(path, f"{batch.processed_jobs} of {batch.total_jobs}")


def linger(batch: JobBatch) -> None:
    await_that_never_comes()


def fail_callback(batch: JobBatch, failure: FailedJob | None = None) -> None:
    raise JobFailed("told badly")


def dispatch_another(batch: JobBatch, path: str, role: str) -> None:
    record(path, role)
    bus.batch(bus.job(record, path, f"dispatched by {role}")).dispatch()


def add_to_finished(batch: JobBatch, path: str) -> None:
    try:
        batch.add(bus.job(record, path, "added"))
    except BatchFinished as error:
        record(path, str(error))


def await_that_never_comes() -> None:
    """Wait in Python, where a timeout can interrupt it in any thread."""
    await_that(bool)


def stop_worker() -> None:
    """End the process as a program does, by itself."""
    raise SystemExit(3)


def raise_odd_text() -> None:
    """Raise what no database can store as it is."""
    raise JobFailed("a NUL \x00 and half a pair \ud800")


def fail_callback_for_good(batch: JobBatch, failure: FailedJob, path: str) -> None:
    record(path, failure.message)
    raise DoNotRetry("nobody to tell")


def cancel_and_fail(message: str) -> None:
    current_batch().cancel("enough")
    raise JobFailed(message)


def return_when_expired(seconds: float) -> None:
    """Return so many seconds after its timeout counts as ignored."""
    call = timed_calls.running_in(threading.get_ident())
    assert call is not None
    await_that(lambda: call.ignores_timeout)
    time.sleep(seconds)


# Databases


def extend_as_read_by_the_routers(path: str) -> None:
    """Add and append jobs through rows that come from wherever the routers read."""
    from django_jobbatch.models import BatchedJob, JobBatch  # noqa: PLC0415 - spawned: not before setup

    more = bus.job(record, path, "more")
    JobBatch.objects.get(pk=current_batch().pk).add(more)
    BatchedJob.objects.get(pk=current_job().pk).append(more)
    current_job().batch.add(more)


def delete_batch(batch: JobBatch) -> None:
    """A callback that deletes its own batch."""
    batch.delete()


def raise_named(name: str) -> None:
    """Raise an exception whose class has this name."""
    kind = type("Named", (Exception,), {})
    kind.__qualname__ = name
    raise kind


def hold_with_a_connection(path: str, gate: str) -> None:
    """Wait at the gate, with a database connection of its own work open."""
    current_batch()
    record(path, "held began")
    await_that(Path(gate).exists)
