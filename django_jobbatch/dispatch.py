"""What the ledger has changed, carried to the queues after the commit."""

from __future__ import annotations

import logging
import math
import uuid
from collections import defaultdict
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from itertools import chain
from typing import Protocol

from django.db import transaction
from django.db.models import Count, Q
from django.utils import timezone

from django_jobbatch import conf, ledger, transport, tuning
from django_jobbatch.exceptions import TransportError, UnknownQueue, WorkerLost
from django_jobbatch.ledger import Change
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.tree import tree_of
from django_jobbatch.states import LIVE, BatchStatus

logger = logging.getLogger(__name__)
#: Where jobs that fail for good are logged, whoever found that out.
failures = logging.getLogger("django_jobbatch")


def after_commit(change: Change) -> None:
    """Act on `change` once the transaction of the caller, if there is one, has committed.

    Outside a transaction that is now. Nothing that goes wrong there reaches the caller: the
    ledger knows what should be, and what was not sent can be sent again.
    """

    def act_on_change() -> None:  # not a partial: Django logs the name of a hook that raises
        act(change)

    transaction.on_commit(act_on_change, using=change.using, robust=True)


class Here(Protocol):
    """A ticket at work, which can see to what becomes due itself."""

    def keep(self, batch: JobBatch, due: Collection[str]) -> str | None:
        """The queue of the batch that needs no other ticket, if any; `due` are those with due links."""


def act(change: Change, *, here: Here | None = None, in_full: bool = False) -> None:
    """Take tickets back, sweep, and send tickets, as `change` asks, and all that follows from that.

    What `here` keeps for itself needs no ticket. What is to be stopped is left to tickets after so many
    STEPS, unless it is to be done `in_full`.
    """
    steps = _Steps(math.inf if in_full else tuning.INLINE_STEPS)
    # A stack and not a recursion, since a tree may be deeper than Python calls; and each change is
    # acted on as it comes, since a sweep may have many.
    under_way = [_act(change, here, steps)]
    while under_way:
        following = next(under_way[-1], None)
        if following is None:
            under_way.pop()
        else:
            steps.take(following)
            under_way.append(_act(following, here, steps))


class _Steps:
    """How much may still be done in place."""

    def __init__(self, most: float) -> None:
        self._left = most

    def take(self, change: Change) -> None:
        """Count a change that is acted on."""
        self._left -= 1 + len(change.settled) // tuning.LINKS_PER_STEP

    @property
    def are_over(self) -> bool:
        """Whether the rest is to be left to tickets."""
        return self._left <= 0


def go_on_stopping(using: str, batch: JobBatch) -> None:
    """Stop what a stopping batch has not stopped yet: whoever closed it may have died over that."""
    act(_closed(using, batch))


def stop_in_full(using: str, batch: JobBatch) -> None:
    """Stop a stopping batch after the commit, to the last batch inside, however many they are."""

    def stop() -> None:
        act(_closed(using, batch), in_full=True)

    transaction.on_commit(stop, using=using, robust=True)


def stop_running(using: str, batch: JobBatch) -> None:
    """Cancel what a stopping batch is running, and all below it, after the commit; kill its horses."""

    def stop() -> None:
        # To the last batch inside: a ticket that goes on with a cancel ends no process.
        act(_closed(using, batch), in_full=True)
        for each in tree_of(batch).filter(status=BatchStatus.STOPPING):
            _stop(using, each)
        if batch.root_id is not None:
            _replace_tickets(using, batch.root_id)

    transaction.on_commit(stop, using=using, robust=True)


def replenish(batch: JobBatch, using: str, queue: str, tickets: int = 1) -> None:
    """Have up to `tickets` tickets wait in the queue, but no more than links are due."""

    def send_missing() -> None:
        count = missing(batch, using, queue, tickets)
        if count:
            transport.send(_ticket(batch, using, queue), count)

    _reach(batch, send_missing)


def send(batch: JobBatch, using: str, queue: str, tickets: int) -> None:
    """Send so many tickets."""
    _reach(batch, lambda: transport.send(_ticket(batch, using, queue), tickets))


def missing(
    batch: JobBatch,
    using: str,
    queue: str,
    tickets: int = 1,
    *,
    due: int | None = None,
    at_work: int = 0,
) -> int:
    """How many of up to `tickets` tickets neither wait in the queue nor are `at_work`.

    No more are wanted than links are due; these are counted here unless that is told.

    Raises:
        TransportError: Redis did not answer.
    """
    if due is None:
        due = ledger.patiently(using, lambda: _count_due(batch, using, queue, tickets))
    wanted = min(due, tickets) - at_work
    return max(0, wanted - transport.waiting(batch.pk, queue).queued) if wanted > 0 else 0


def count_due(batches: Iterable[JobBatch], using: str, queue: str) -> dict[uuid.UUID, int]:
    """How many links of each of these batches, which are small, are due on this queue."""
    alike: dict[tuple[tuple[str, int], ...], list[uuid.UUID]] = defaultdict(list)
    for batch in batches:
        alike[tuple(_with_work(batch, using).items())].append(batch.pk)
    found = {pk: 0 for pks in alike.values() for pk in pks}
    for runs, pks in alike.items():
        links = BatchedJob.objects.using(using).filter(batch_id__in=pks, queue=queue, **dict(runs))
        counts = links.due().order_by().values("batch_id").annotate(links=Count("pk"))
        found.update(counts.values_list("batch_id", "links"))
    return found


def many_wait(batch: JobBatch, queue: str) -> bool:
    """Whether half of the tickets that an isolated batch should have wait in the queue.

    Each of these looks after them when it ends, so while this is so the next one may do it.
    """
    try:
        return transport.waiting(batch.pk, queue).queued >= tuning.MAX_TICKETS // 2
    except TransportError:
        return False


def wake(batch: JobBatch, using: str) -> None:
    """Have one ticket scheduled for the earliest delayed link, unless one comes by then."""
    earliest = ledger.wake(using, batch)
    if earliest is None:
        return
    queue, at = earliest
    _reach(batch, lambda: _schedule(batch, using, queue, at))


def catch_up(using: str, batch: JobBatch) -> None:
    """Do after the commit what should be done already: Redis may have been down, or a process died.

    A stopping batch is stopped, with all below it; for what is due, the missing tickets are sent.
    """

    def do_again() -> None:
        if batch.status == BatchStatus.STOPPING:
            go_on_stopping(using, batch)
            return
        for queue in batch.queues:
            replenish(batch, using, queue, tuning.MAX_TICKETS)
        wake(batch, using)

    transaction.on_commit(do_again, using=using, robust=True)


def room_in(rq_timeout: int) -> int:
    """Seconds of the longest job that a ticket leaves time for which RQ gives so many."""
    return rq_timeout if rq_timeout < 0 else rq_timeout - _overhead()


def send_overdue(using: str) -> None:
    """Send a ticket for every batch whose delayed links are due and whose scheduled ticket is late.

    RQ delivers scheduled jobs only where a scheduler runs; this is what happens where none does.
    """
    for batch in ledger.overdue(using):
        for queue in batch.queues:
            replenish(batch, using, queue)
        wake(batch, using)


def _closed(using: str, batch: JobBatch) -> Change:
    """What a stopping batch asks for that nobody has acted on."""
    return replace(Change.of(batch, using), closed=True)


def _stop(using: str, batch: JobBatch) -> None:
    tickets = ledger.tickets_at_work(using, batch.pk)
    for change in ledger.sweep(using, batch.pk, running=True):
        act(change)
    for queue, ids in tickets.items():
        _reach(batch, partial(transport.stop, queue, ids))


def _replace_tickets(using: str, root_id: uuid.UUID) -> None:
    """Send tickets for what a killed horse was to go on with: batches around those it worked on."""
    tree = JobBatch.objects.using(using).filter(Q(pk=root_id) | Q(root_id=root_id))
    for batch in tree.filter(status__in=LIVE):
        for queue in batch.queues:
            replenish(batch, using, queue, tuning.MAX_TICKETS)


def _act(change: Change, here: Here | None, steps: _Steps) -> Iterator[Change]:
    """Act on one change; what other batches, or other pages, were changed by that."""
    batch = change.batch
    _tell_of_stale(change)
    _tell_of_given_up(change)
    if batch is None:
        return
    kept = here.keep(batch, change.due) if here else None
    _send(change, batch, set(change.due) - {kept})
    is_stopped = not change.closed or (yield from _stop_inside(change.using, batch, steps))
    yield from chain.from_iterable(_stop_children(change.using, change.orphans))
    if not is_stopped:
        _hand_over(batch, change.using)
    elif change.closed or change.finished:
        _take_back(batch)
        # Among them may have been the ticket of a callback, or of a retry that came in between.
        _send(change, batch, set(batch.queues) - {kept})
    if batch.wake_at is not None and (change.closed or change.finished or change.wake_at):
        wake(batch, change.using)
    if change.ended:
        told = ledger.report_end(change.using, batch)
        if told is not None:
            yield told


def _stop_inside(using: str, batch: JobBatch, steps: _Steps) -> Generator[Change, None, bool]:
    """Stop the child batches of one that was closed, and cancel what has not begun.

    While tickets wait: should this process die, they go on with it. False if something is left to them.
    """
    if steps.are_over and batch.child_batches:
        return not ledger.is_unswept(using, batch)  # its first group alone may be a large tree
    running = _stop_children(using, ledger.running_children(using, batch))
    pages = ([change] for change in ledger.sweep(using, batch.pk))
    for group in chain(running, pages):
        yield from group
        if steps.are_over:
            return not ledger.is_unswept(using, batch)
    return True


def _count_due(batch: JobBatch, using: str, queue: str, most: int) -> int:
    """How many links of the batch are due on this queue, counted up to `most`."""
    if batch.status == BatchStatus.WAITING:
        return 0
    links = BatchedJob.objects.using(using).filter(batch_id=batch.pk, queue=queue)
    return len(links.filter(**_with_work(batch, using)).due().values_list("pk")[:most])


def _with_work(batch: JobBatch, using: str) -> dict[str, int]:
    """In which runs a ticket of the batch finds work, as a condition on its links.

    What no ticket claims is not due, or each would send the next one: a row may have been put
    there by hand.
    """
    runs = {}
    if batch.is_finished or ledger.held_back(using, batch.pk, batch.run):
        runs["run__gte"] = 1  # callbacks alone; the last of them releases the jobs
    if not batch.callbacks:
        runs["run"] = 0
    return runs


def _tell_of_stale(change: Change) -> None:
    if change.stale:
        logger.warning(
            "%d outcomes of batch %s came too late and changed nothing",
            change.stale,
            change.batch_id,
            extra={"batch_id": str(change.batch_id)},
        )


def _tell_of_given_up(change: Change) -> None:
    """Log these failures as the runner logs those of jobs that raise; here nothing did."""
    for link in change.given_up:
        failures.error(
            "%s failed: job %d of batch %s. %s",
            link.func,
            link.pk,
            link.batch_id,
            WorkerLost(),
            extra={"batch_id": str(link.batch_id), "job_id": str(link.pk)},
        )


def _stop_children(using: str, children: Sequence[uuid.UUID]) -> Iterator[list[Change]]:
    for start in range(0, len(children), tuning.CHILDREN_CHUNK):
        yield ledger.stop_children(using, children[start : start + tuning.CHILDREN_CHUNK])


def _hand_over(batch: JobBatch, using: str) -> None:
    """Have a ticket go on with stopping the batch, on a queue that has its links: workers are there."""
    queue = batch.queue if batch.queue in batch.queues else batch.queues[0]

    def send_one() -> None:
        if not transport.waiting(batch.pk, queue).queued:
            transport.send(_ticket(batch, using, queue), 1)

    _reach(batch, send_one)


def _send(change: Change, batch: JobBatch, queues: Iterable[str | None]) -> None:
    for queue in sorted(filter(None, queues)):
        replenish(batch, change.using, queue, tuning.MAX_TICKETS)


def _schedule(batch: JobBatch, using: str, queue: str, at: datetime) -> None:
    if at <= timezone.now():
        replenish(batch, using, queue)
        return
    ticket = _ticket(batch, using, queue)
    scheduled_at = transport.waiting(batch.pk, queue).scheduled_at
    if scheduled_at is None or scheduled_at > at:
        transport.schedule(ticket, at)


def _rq_timeout(batch: JobBatch) -> int:
    """Seconds RQ gives a ticket: its slice, the longest job that may begin in it, and some more."""
    if batch.longest_timeout < 0:
        return -1
    return batch.longest_timeout + _overhead()


def _overhead() -> int:
    return math.ceil(conf.current().SLICE) + tuning.TICKET_GRACE_SECONDS


def _take_back(batch: JobBatch) -> None:
    _reach(batch, lambda: transport.discard(batch.pk, batch.queues))


def _reach(batch: JobBatch, request: Callable[[], None]) -> None:
    try:
        request()
    except (TransportError, UnknownQueue) as error:
        logger.error(  # noqa: TRY400 - it says all, and nothing is wrong here
            "Batch %s is stored, but its queues are not told (%s). Once that is mended, a BatchWorker or"
            " reconcile_batches tells them.",
            batch.pk,
            error,
            extra={"batch_id": str(batch.pk)},
        )


def _ticket(batch: JobBatch, using: str, queue: str) -> transport.Ticket:
    return transport.Ticket(
        batch_id=batch.pk,
        queue=queue,
        using=using,
        timeout=_rq_timeout(batch),
        description=_description(batch),
    )


def _description(batch: JobBatch) -> str:
    """What RQ's own pages show of a ticket."""
    function = batch.options.get("function", "")
    return batch.name if function in ("", batch.name) else f"{batch.name}: {function}"
