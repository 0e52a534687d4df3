"""Rescue: a worker releases what a dead work-horse holds, at once and again a little later.

Models are imported inside the functions: a spawned work-horse imports this module before Django is
set up.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from django_jobbatch import transport, tuning
from django_jobbatch.logs import get_logger
from django_jobbatch.runner.timed_calls import SharedCall
from django_jobbatch.worker import processes
from django_jobbatch.worker.processes import logging_errors

logger = get_logger("django_jobbatch.worker")


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadSession:
    """The session of a ticket whose work-horse is dead, and the batches whose tickets it had taken over.

    `is_stopped` says that a person has asked RQ to kill it.
    """

    ticket: str
    queue: str
    using: str
    batch_id: uuid.UUID
    taken_over: tuple[uuid.UUID, ...]
    is_stopped: bool


def ended_call() -> SharedCall | None:
    """Return the call that ignored its timeout, if the work-horse was ended because of it."""
    call = SharedCall.read()
    return call if call is not None and (call.is_settled or call.ignores_timeout) else None


def message_of_end(call: SharedCall | None, *, is_stopped: bool) -> str:
    """Return the line of the log about the end of a work-horse, with a place for its ticket."""
    if call is not None:
        return "The work-horse of ticket %s was ended, because a job ignored its timeout"
    if is_stopped:
        return "The work-horse of ticket %s was stopped by a request"
    return "The work-horse of ticket %s died; its jobs run again"


def rescue(dead: DeadSession, call: SharedCall | None = None) -> None:
    """Release the links of a dead session, and log each repair.

    `call` is the call that ignored its timeout, if that was the cause of the death.
    """
    from django_jobbatch.reconcile import reconcile_ticket  # noqa: PLC0415 - see the docstring
    from django_jobbatch.runner.ignored_timeout import settle_after_death  # noqa: PLC0415

    if call is not None:
        with logging_errors("settle a job that ignored its timeout"):
            settle_after_death(dead.using, dead.ticket, call)
    for repair in reconcile_ticket(
        dead.using,
        dead.batch_id,
        dead.ticket,
        taken_over=dead.taken_over,
        is_stopped=dead.is_stopped,
    ):
        logger.info("Repaired batch %s", repair)


class RepeatedRescues:
    """The dead sessions that are rescued again, after each of RESCUE_PAUSES.

    A database completes a commit whose client is dead. If that was a claim, the first rescue may have
    come too early to find it, and its lease has a minute. `fork` starts a process and returns its id.
    There is one at a time, and the worker does not wait for it.
    """

    def __init__(self, fork: Callable[[Callable[[], None], int], int]) -> None:
        self._fork = fork
        self._sessions: list[DeadSession] = []
        self._pid: int | None = None

    def add(self, dead: DeadSession) -> None:
        """Have this session rescued again."""
        self._sessions.append(dead)
        self.start()

    def start(self) -> None:
        """Start a process for the sessions that wait for one, unless one runs."""
        if self._pid is not None and processes.has_exited(self._pid):
            self._pid = None
        if self._sessions and self._pid is None:
            seconds = tuning.RESCUE_TIMEOUT + round(sum(tuning.RESCUE_PAUSES))
            self._pid = self._fork(partial(_rescue_again, self._sessions), seconds)
            self._sessions = []

    def finish(self) -> bool:
        """Wait until all sessions are rescued; return whether there was one."""
        has_waited = self._pid is not None
        while self._pid is not None:
            processes.wait_for_exit(self._pid)
            self._pid = None
            self.start()
        return has_waited


def _rescue_again(sessions: Sequence[DeadSession]) -> None:
    for seconds in tuning.RESCUE_PAUSES:
        time.sleep(seconds)
        for dead in sessions:
            with logging_errors("rescue the jobs of a work-horse again"):
                # By hand, RQ can execute a failed ticket again.
                if dead.ticket not in transport.executing(dead.queue):
                    rescue(dead)
        processes.close_connections()
