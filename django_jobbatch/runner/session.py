"""The session of a ticket: the batches that it works on during its slice."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import copy_context

from django_jobbatch import conf, dispatch, ledger, transport, tuning
from django_jobbatch.connection_state import (
    check_connections,
    hold_open_transactions,
    renew_connections,
)
from django_jobbatch.exceptions import JobTimeout
from django_jobbatch.ledger import Change
from django_jobbatch.logs import get_logger
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.runner.batch_runner import BatchRunner
from django_jobbatch.runner.child_batches import ChildBatches
from django_jobbatch.runner.heartbeat import ExpiredCall
from django_jobbatch.runner.heartbeats import Heartbeats
from django_jobbatch.runner.next_ticket import (
    TakenTicket,
    forget_session,
    others_wait,
    renew_session,
    take_next,
)
from django_jobbatch.runner.stranded_claims import release_stranded
from django_jobbatch.runner.time_slice import Slice, Turn
from django_jobbatch.runner.timed_calls import TimedCall
from django_jobbatch.runner.watchdog import Watchdog, watching
from django_jobbatch.states import BatchStatus
from django_jobbatch.transport import UNKNOWN_TICKETS, OtherTickets

logger = get_logger(__name__)


def work_on(batch_id: str, queue: str, using: str) -> None:
    """Work on the batch with one ticket, until no link is due or the slice is used up.

    Anyone with write access to Redis can forge a ticket. A ticket that names an unknown batch,
    queue or database runs nothing, and no other ticket is sent for it.
    """
    if error := transport.ticket_error(batch_id, queue, using):
        logger.error("A ticket was rejected, and it ran no job: %s", error)
        return
    with _fresh_connections(queue):
        pk = uuid.UUID(batch_id)
        ticket, rq_timeout, others = transport.start_ticket(pk, queue)
        batch = ledger.read_batch(using, pk)
        if batch is None:
            if description := transport.ticket_description():
                _warn_of_unknown_batch(ticket, description, batch_id, using)
            return
        if batch.status == BatchStatus.STOPPING or ledger.has_more_to_reset(batch):
            if _continue(batch, queue):
                return
            batch = ledger.read_batch(using, pk)
            if batch is None:
                return  # deleted meanwhile
        max_job_timeout = (
            batch.longest_timeout if rq_timeout is None else dispatch.max_job_timeout(rq_timeout)
        )
        session = TicketSession(queue, using, ticket, max_job_timeout=max_job_timeout)
        session.run(batch, others=others)
        dispatch.check_overdue(using, queue)


def _continue(batch: JobBatch, queue: str) -> bool:
    """Continue the cancel of a stopping batch, or an unfinished retry.

    Return whether the next ticket must continue the retry. This ticket runs no jobs before that, or
    each of them would wait for a slice.
    """
    if batch.status == BatchStatus.STOPPING:
        dispatch.continue_cancel(batch)
        return False
    return dispatch.continue_retry(batch, queue)


def _warn_of_unknown_batch(ticket: str, description: str, batch_id: str, using: str) -> None:
    """Log that this project does not have the batch of a ticket.

    The ticket is gone for the project that sent it. Its own reconcile sends another one.
    """
    logger.warning(
        "Ticket %s (%s) ran no job, because database %r of this project has no batch %s. The batch"
        " was deleted, or the ticket belongs to another project on this Redis. Projects that share a"
        " Redis need queues of their own.",
        ticket,
        description,
        using,
        batch_id,
        extra={"batch_id": batch_id},
    )


class TicketSession:
    """The batches of one queue that one ticket works on during its slice, one at a time.

    They form a stack. If the current batch makes another one due on this queue, that one is pushed:
    a child batch that starts here, or a parent whose child finishes here. It needs no ticket, and
    the current batch is suspended meanwhile. So a small child batch costs no request to Redis. After
    HELP_AFTER_SECONDS a suspended batch gets tickets, like any other.

    In a work-horse of a `BatchWorker` the session then takes over the next ticket of its queue, and
    works on its batch, as long as the slice has time. `run` may also be called for one batch after
    another.

    A batch with jobs longer than `max_job_timeout` seconds is left to tickets with a longer timeout
    of RQ; -1 is no bound.
    """

    def __init__(self, queue: str, using: str, ticket: str, *, max_job_timeout: int = -1) -> None:
        hold_open_transactions()
        self.heartbeats = Heartbeats()
        self._turn = (
            None if transport.is_sync(queue) else Turn(lambda: others_wait(queue, set(self._stack)))
        )
        self.slice = Slice(
            ticket=ticket,
            queue=queue,
            using=using,
            deadline=time.monotonic() + conf.current().SLICE,
            max_job_timeout=max_job_timeout,
            turn=self._turn,
        )
        self._stack: dict[uuid.UUID, BatchRunner] = {}  # the last one is current
        self._children = ChildBatches(
            self.slice, self._stack, push=self.push, may_accept=self._may_accept
        )
        # When Redis was asked last to keep the list of what it has taken over; None without a list.
        self._renewed_at: float | None = None

    def run(self, batch: JobBatch, *, others: OtherTickets = UNKNOWN_TICKETS) -> None:
        """Work on the batch and on the batches that it makes due; leave tickets for the remaining.

        `others` are its other tickets, if they are known. A shutdown of the worker releases the
        unstarted links and is raised again.
        """
        with self._watched():
            while True:
                self.push(batch, others=others)
                # What code around the jobs sets, such as a language, ends with the batch.
                copy_context().run(self._run_stack)
                following = self._take_next(batch)
                if following is None:
                    break
                batch, others = following
                if self._renewed_at is None:
                    self._renewed_at = time.monotonic()
                check_connections()
                if self._turn is not None:
                    self._turn.start()
        if self._renewed_at is not None:
            forget_session(self.slice)

    def _take_next(self, batch: JobBatch) -> TakenTicket | None:
        """Take over the next ticket after this batch; a work-horse with an isolated job ends."""
        if batch.options.get("isolated"):
            return None
        has_given_way = self._turn is not None and self._turn.has_given_way
        return take_next(self.slice, after=batch if has_given_way else None)

    def _run_stack(self) -> None:
        try:
            while self._stack and self.slice.has_time:
                runner = self._current()
                runner.run()
                if self._current() is runner:
                    self._pop()
                self.request_more_tickets()
        except BaseException:
            release_stranded(self._stack.values(), self._children.starting)
            raise
        finally:
            self._leave_all()

    def push(self, batch: JobBatch, *, others: OtherTickets = UNKNOWN_TICKETS) -> BatchRunner:
        """Make the batch the current one; `others` are its other tickets, if they are known."""
        if self._stack:
            self._current().suspend()
        runner = BatchRunner(batch, self.slice, session=self, others=others)
        self._stack[batch.pk] = runner
        return runner

    def start_child(self, link: BatchedJob, *, claims: bool) -> Iterator[Change]:
        """Start the child batch of a stand-in; with `claims`, claim its first jobs, if it may run here."""
        yield from self._children.start(link, claims=claims)

    def settle_stand_in(self, child: JobBatch) -> Change | None:
        """Settle the stand-in of a settled child batch.

        The settlement claims the next links of the parent, if this session runs it next.
        """
        return self._children.settle(child)

    def accept(self, batch: JobBatch, due: Collection[str]) -> str | None:
        """Return the queue on which this session runs the due links itself; None if it does not.

        `due` are the queues with due links of the batch. The row of a batch on the stack is
        replaced, another batch may be pushed.
        """
        queue = self.slice.queue
        if batch.pk in self._stack:
            runner = self._stack[batch.pk]
            runner.refresh(batch)
            if queue in due:
                runner.tickets.note_due()
            return queue
        if queue not in due or not self._may_accept(batch):
            return None
        self.push(batch)
        return queue

    def has_no_tickets(self, batch: JobBatch) -> bool:
        """Return whether no ticket of this finished batch waits, as far as the session knows."""
        runner = self._stack.get(batch.pk)
        return runner is not None and runner.tickets.none_waits(batch)

    def request_more_tickets(self) -> None:
        """Send tickets for each batch on the stack that takes long, and keep the list of a long session."""
        for runner in list(self._stack.values()):  # a copy: the heartbeat calls this too
            runner.tickets.request_more(runner.batch)
        if self._renewed_at is not None:
            self._renew(self._renewed_at)

    def _renew(self, renewed_at: float) -> None:
        now = time.monotonic()
        if now - renewed_at >= tuning.SESSION_TTL.total_seconds() / 4:
            self._renewed_at = now
            renew_session(self.slice)

    def _watched(self) -> AbstractContextManager[None]:
        # An inline queue has no heartbeat that could settle.
        sync = transport.is_sync(self.slice.queue)
        return nullcontext() if sync else watching(Watchdog(self._expire), self.heartbeats)

    def _expire(self, call: TimedCall, error: JobTimeout) -> ExpiredCall | None:
        """Have a call that ignores its timeout settled; called by the watchdog.

        Between two batches no call runs any more.
        """
        runners = list(self._stack.values())  # a copy: the session may be at its next batch
        return runners[-1].expire(call, error, self._leave_all_tickets) if runners else None

    def _leave_all_tickets(self) -> None:
        for runner in list(self._stack.values()):  # a copy: the heartbeat calls this
            runner.tickets.leave(runner.batch)

    def _current(self) -> BatchRunner:
        return next(reversed(self._stack.values()))

    def _leave_all(self) -> None:
        """Pop all batches, whatever an earlier one raises."""
        errors: list[BaseException] = []
        while self._stack:
            try:
                self._leave_current()
            except BaseException as error:  # noqa: BLE001 - raised below, after the others are left
                errors.append(error)
        if errors:
            raise errors[0]

    def _leave_current(self) -> None:
        """Pop the current batch, which may not have run: then its claimed jobs are released."""
        try:
            self._current().release()
        finally:
            self._pop()

    def _pop(self) -> None:
        _, runner = self._stack.popitem()
        runner.tickets.leave(runner.batch)
        if ledger.has_more_to_reset(runner.batch):
            # Its caller may have counted on the ticket that this session has taken over.
            dispatch.leave_retry_to_ticket(runner.batch, self.slice.queue)

    def _may_accept(self, batch: JobBatch) -> bool:
        """Return whether the session may run the batch: not with isolated jobs, nor long ones."""
        first = next(iter(self._stack.values())).batch
        if first.options.get("isolated") or batch.options.get("isolated"):
            return False
        return self.slice.allows(batch)


@contextmanager
def _fresh_connections(queue: str) -> Iterator[None]:
    """Renew the database connections before and after the block, as Django does for a request."""
    if transport.is_sync(queue):
        yield  # the caller's connections, which may be in use
        return
    renew_connections()
    try:
        yield
    finally:
        renew_connections()
