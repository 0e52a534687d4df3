"""Kinds of hostile jobs, callbacks and `progress` callbacks, and how each of them must end.

Their functions are in `hostile_jobs`. They are named here, because a command line needs the names of
the kinds before Django is set up.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

_OURS: Final = "django_jobbatch.exceptions."
_OF_JOBS: Final = "benchmarks.chaos.hostile_jobs."
#: Exception classes of functions that leave a transaction open.
LEFT_OPEN: Final = (f"{_OURS}TransactionLeftOpen", f"{_OURS}TransactionBroken")


@dataclass(frozen=True, kw_only=True)
class HostileJob:
    """Hostile job.

    Attributes:
        func: Name of its function.
        errors: Exception classes with which it fails.
        options: Options that it needs.
        may_succeed: Whether it may also succeed.
        fails_by_result: Whether it succeeds in a batch that stores no results.
        may_be_transactional: Whether it has the same end in a transaction of the worker.
    """

    func: str
    errors: tuple[str, ...] = ()
    options: dict[str, Any] = field(default_factory=dict)
    may_succeed: bool = False
    fails_by_result: bool = False
    may_be_transactional: bool = False


@dataclass(frozen=True, kw_only=True)
class HostileKind:
    """Hostile jobs of one kind, each with this weight among the jobs of a tree, and callbacks."""

    weight: float
    jobs: tuple[HostileJob, ...] = ()
    callbacks: tuple[str, ...] = ()
    progress: tuple[str, ...] = ()


#: Kinds of hostile jobs, by their name in a report.
HOSTILE: Final = {
    "transaction_left_open": HostileKind(
        weight=0.5,
        jobs=(
            HostileJob(func="leave_atomic", errors=LEFT_OPEN, may_be_transactional=True),
            # Django forbids it in a `transactional` job.
            HostileJob(
                func="leave_autocommit_off",
                errors=(*LEFT_OPEN, "django.db.transaction.TransactionManagementError"),
                may_be_transactional=True,
            ),
            HostileJob(func="leave_sql_transaction", errors=LEFT_OPEN),
        ),
        callbacks=("leaving_callback",),
        progress=("leaving_progress",),
    ),
    "transaction_spoiled": HostileKind(
        weight=0.7,
        jobs=(
            HostileJob(
                func="spoil_transaction",
                errors=LEFT_OPEN,
                options={"transactional": True},
            ),
        ),
    ),
    "connection_left_read_only": HostileKind(
        weight=0.7,
        jobs=(
            # SQLite accepts the outcome of a `transactional` one no more.
            HostileJob(
                func="leave_read_only",
                errors=("django.db.utils.OperationalError", f"{_OURS}OutcomeRejected"),
                may_succeed=True,
                may_be_transactional=True,
            ),
        ),
    ),
    "result_too_large": HostileKind(
        weight=1.0,
        jobs=(
            HostileJob(
                func="return_too_much",
                errors=(f"{_OURS}ResultTooLarge",),
                fails_by_result=True,
            ),
        ),
    ),
    "result_rejected": HostileKind(
        weight=1.0,
        jobs=(
            HostileJob(
                func="return_rejected",
                errors=(f"{_OURS}OutcomeRejected",),
                fails_by_result=True,
            ),
        ),
    ),
    "error_unprintable": HostileKind(
        weight=0.4,
        jobs=(
            HostileJob(func="raise_syntax_error", errors=("SyntaxError",)),
            HostileJob(func="raise_unprintable", errors=(f"{_OF_JOBS}UnprintableError",)),
            HostileJob(func="close_stderr", errors=(f"{_OF_JOBS}UnprintableError",)),
        ),
    ),
    "timeout_swallowed": HostileKind(
        weight=0.5,
        jobs=(
            HostileJob(
                func="swallow_timeout",
                errors=(f"{_OURS}JobTimeout",),
                options={"timeout": 1},
            ),
        ),
    ),
    "progress_exits": HostileKind(weight=0.3, progress=("exiting_progress",)),
}
#: Hostile jobs by the name of their function.
JOBS: Final = {job.func: job for kind in HOSTILE.values() for job in kind.jobs}


def weights(kinds: Sequence[str]) -> dict[str, float]:
    """Return the names of the functions of hostile jobs of these kinds, with their weights."""
    return {job.func: HOSTILE[kind].weight for kind in kinds for job in HOSTILE[kind].jobs}


def callbacks(kinds: Sequence[str]) -> list[str]:
    """Return the names of the hostile callbacks of these kinds."""
    return [func for kind in kinds for func in HOSTILE[kind].callbacks]


def progress(kinds: Sequence[str]) -> list[str]:
    """Return the names of the hostile `progress` callbacks of these kinds."""
    return [func for kind in kinds for func in HOSTILE[kind].progress]


def kinds_of(functions: Iterable[str]) -> Iterable[str]:
    """Yield the kind of each of these functions of jobs and callbacks that is hostile."""
    by_function = {
        func: name
        for name, kind in HOSTILE.items()
        for func in (*(job.func for job in kind.jobs), *kind.callbacks)
    }
    return (by_function[name] for name in functions if name in by_function)
