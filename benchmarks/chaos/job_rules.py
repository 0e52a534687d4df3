"""Rules about single jobs: when each may succeed, and with which exceptions it may fail."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Container, Iterator
from typing import Any, Final

from airports.models import CallbackCall
from benchmarks.chaos import history, hostile, jobs
from benchmarks.chaos.history import Call
from benchmarks.chaos.record import Record
from benchmarks.chaos.violation import Violation
from django_jobbatch import tuning
from django_jobbatch.exceptions import WorkerLost
from django_jobbatch.models import BatchedJob, FailedJob
from django_jobbatch.states import LinkStatus, Role

WORKER_LOST: Final = f"{WorkerLost.__module__}.{WorkerLost.__qualname__}"
#: Functions that never succeed.
NEVER: Final = ("fail", "failing_callback", "leaving_callback")
#: Exception classes of functions that fail, beside hostile jobs.
ERRORS: Final = dict.fromkeys(
    ("fail", "fail_first", "fail_runs", "failing_callback"),
    (f"{jobs.FailsOnPurpose.__module__}.{jobs.FailsOnPurpose.__qualname__}",),
) | {"leaving_callback": hostile.LEFT_OPEN}
#: Faults after which a job that reads or writes rows may fail with an error of the database.
DATABASE_FAULTS: Final = ("connections_dropped", "database_restarted", "disk_full")
DATABASE_ERRORS: Final = (
    "django.db.utils.OperationalError",
    "django.db.utils.InterfaceError",
    "django_jobbatch.exceptions.OutcomeRejected",
)
#: Functions that write a row.
WRITERS: Final = frozenset({jobs.write.__name__})


def violations(previous: Record, kinds: Container[str]) -> Iterator[Violation]:
    """Yield the broken rules about single jobs, after faults of these kinds."""
    yield from _not_written_once()
    yield from _never_called(previous)
    yield from _succeeded_wrongly()
    yield from _failed_wrongly(kinds)
    yield from _failed_too_soon()


def _not_written_once() -> Iterator[Violation]:
    """Check that succeeded transactional jobs have written once, and others not at all."""
    written = Counter(CallbackCall.objects.values_list("role", flat=True))
    for link in BatchedJob.objects.filter(child=None):
        expected = int(_name(link) in WRITERS and link.status == LinkStatus.SUCCEEDED)
        if (times := written[jobs.written_role(link.pk)]) != expected:
            yield Violation(f"link {link.pk} ({link.status}) wrote {times} times", link.batch_id)


def _never_called(previous: Record) -> Iterator[Violation]:
    """Check that links which succeeded in this phase were called in it."""
    called = {call.link for call in history.calls()[previous.calls :]}
    for link in BatchedJob.objects.succeeded().filter(child=None).exclude(pk__in=previous.settled):
        # Another link may have reported the failures of an `each_failure` link.
        if link.pk not in called and link.role != Role.EACH_FAILURE:
            yield Violation(f"link {link.pk} has succeeded and was never called", link.batch_id)


def _succeeded_wrongly() -> Iterator[Violation]:
    """Check that a link which succeeded had a call that may succeed."""
    calls: dict[int, list[Call]] = defaultdict(list)
    for call in history.calls():
        calls[call.link].append(call)
    for link in BatchedJob.objects.succeeded().filter(child=None).select_related("batch"):
        known = calls[link.pk]
        if known and not any(_may_succeed(link, call) for call in known):
            text = f"link {link.pk} ({_name(link)}) has succeeded and had to fail"
            yield Violation(text, link.batch_id)


def _failed_wrongly(kinds: Container[str]) -> Iterator[Violation]:
    """Check that no other exception than that of the call itself is stored.

    So a hostile job fails alone, and with an exception that names the reason.
    """
    general = {WORKER_LOST}
    if any(kind in kinds for kind in DATABASE_FAULTS):
        general.update(DATABASE_ERRORS)
    for failure in FailedJob.objects.all():
        if failure.exception_class not in general | {*_errors(_name(failure))}:
            text = f"{failure.func} failed with {failure.exception_class}: {failure.message[:200]}"
            yield Violation(f"link {failure.job_id}: {text}", failure.batch_id)


def _failed_too_soon() -> Iterator[Violation]:
    """Check that links failed with `WorkerLost` only after `MAX_LOSSES` losses."""
    losses = dict(BatchedJob.objects.values_list("pk", "worker_losses"))
    for failure in FailedJob.objects.filter(exception_class=WORKER_LOST, retried_at=None):
        if losses.get(failure.job_id, tuning.MAX_LOSSES) < tuning.MAX_LOSSES:
            yield Violation(f"link {failure.job_id} failed too soon", failure.batch_id)


def _may_succeed(link: BatchedJob, call: Call) -> bool:
    name = _name(link)
    if name == jobs.fail_first.__name__:
        return bool(call.attempts >= link.args[0])
    if name == jobs.fail_runs.__name__:
        return bool(call.run > link.args[0])
    job = hostile.JOBS.get(name)
    if job is None:
        return name not in NEVER
    is_harmless = job.fails_by_result and not link.batch.options.get("store_results")
    return bool(job.may_succeed or is_harmless or call.run > link.args[0])


def _errors(name: str) -> tuple[str, ...]:
    job = hostile.JOBS.get(name)
    return job.errors if job else ERRORS.get(name, ())


def _name(call: Any) -> str:
    """Return the name of the function of a link or a failure."""
    return str(call.func).rpartition(".")[2]
