"""One ticket: its time slice, the batch it was sent for, and those that it makes due itself."""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager

from django.db import close_old_connections

from django_jobbatch import conf, db, dispatch, transport, tuning
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.batch_runner import BatchRunner
from django_jobbatch.states import BatchStatus

logger = logging.getLogger(__name__)


def work_on(batch_id: str, queue: str, using: str) -> None:
    """Work on the batch with one ticket, until nothing is due or the slice is used up.

    A ticket says where to look, not what to do, and whoever can write to Redis can make one. One
    that names what is not here is refused: it is logged and ends, and nothing is sent for it.
    """
    if why := transport.ticket_error(batch_id, queue, using):
        logger.error("A ticket is refused, and nothing was run for it: %s", why)
        return
    with _fresh_connections(queue):
        ticket, rq_timeout = transport.start_ticket(uuid.UUID(batch_id), queue)
        batch = db.retry_transient(using, JobBatch.objects.using(using).filter(pk=batch_id).first)
        if batch is None:
            return
        if batch.status == BatchStatus.STOPPING:
            dispatch.continue_cancel(using, batch)
            batch.refresh_from_db()
        longest = (
            batch.longest_timeout if rq_timeout is None else dispatch.max_job_timeout(rq_timeout)
        )
        TicketSession(queue, using, ticket, longest_timeout=longest).run(batch)
        dispatch.send_overdue(using)


class TicketSession:
    """Works on batches of one queue, one at a time, for one time slice.

    A batch that becomes due by what this ticket does on its queue, as a child that it begins or
    as a parent whose child ends here, needs no ticket: it is worked on next, before the one that
    made it due goes on. So small batches cost no trip through Redis, and a ticket that others
    would have to wait for goes out after a second, as for any other batch.

    A batch with jobs that may run longer than `longest_timeout` seconds is left to tickets that RQ
    gives more time; -1 is no limit.
    """

    def __init__(self, queue: str, using: str, ticket: str, *, longest_timeout: int = -1) -> None:
        self.queue = queue
        self.using = using
        self.ticket = ticket
        self._longest_timeout = longest_timeout
        self._ends = time.monotonic() + conf.current().SLICE
        # The last one is worked on; by the ids of their batches.
        self._stack: dict[uuid.UUID, BatchRunner] = {}

    def run(self, batch: JobBatch) -> None:
        """Work on the batch, and on what that makes due; leave the rest to other tickets.

        If the worker is being shut down, links that have not begun go back, and the shutdown
        takes its course.
        """
        self.push(batch)
        try:
            while self._stack and self.has_time:
                runner = self._current()
                runner.run()
                if self.is_current(runner):
                    self._pop()
                self.request_more_tickets()
        finally:
            while self._stack:
                self._pop()

    def push(self, batch: JobBatch, *, tickets: int = 1) -> BatchRunner:
        """Go on with this batch, in place of which `tickets` might be sent."""
        runner = self._stack[batch.pk] = BatchRunner(batch, self, tickets=tickets)
        return runner

    def take_over(self, batch: JobBatch, due: Collection[str]) -> str | None:
        """Take over what is due of this batch; the queue that needs no ticket for it, if any."""
        if batch.pk in self._stack:
            self._stack[batch.pk].batch = batch
            return self.queue
        if self.queue not in due or not self._accepts(batch):
            return None
        self.push(batch, tickets=tuning.MAX_TICKETS)
        return self.queue

    @property
    def has_time(self) -> bool:
        """Whether the slice is not used up."""
        return time.monotonic() < self._ends

    def allows(self, batch: JobBatch) -> bool:
        """Whether RQ gives the ticket enough time for the longest job of this batch."""
        return self._longest_timeout < 0 or 0 <= batch.longest_timeout <= self._longest_timeout

    def is_current(self, runner: BatchRunner) -> bool:
        """Whether no other batch comes first."""
        return self._current() is runner

    def request_more_tickets(self) -> None:
        """Send further tickets for those batches that have been on the way for long."""
        for runner in list(self._stack.values()):  # a copy: the watch calls this too
            runner.request_more_tickets()

    def _current(self) -> BatchRunner:
        return next(reversed(self._stack.values()))

    def _pop(self) -> None:
        _, runner = self._stack.popitem()
        runner.leave_tickets()

    def _accepts(self, batch: JobBatch) -> bool:
        """Whether there is room for this batch, and neither it nor the first one is isolated."""
        first = next(iter(self._stack.values())).batch
        if first.options.get("isolated") or batch.options.get("isolated"):
            return False
        return self.allows(batch)


@contextmanager
def _fresh_connections(queue: str) -> Iterator[None]:
    """Treat a worker's database connections as Django does those of a request."""
    if transport.is_sync(queue):
        yield  # these are the caller's, who may be reading from them
        return
    close_old_connections()
    try:
        yield
    finally:
        close_old_connections()
