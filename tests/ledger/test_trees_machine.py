"""Trees in the ledger against a plain model of the rules: any order of events, the same end."""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, TypeVar

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from django_jobbatch import dispatch, ledger, transport
from django_jobbatch.dispatch.tickets import wanted_tickets
from django_jobbatch.exceptions import BatchBusy, BatchCancelled, BatchFinished
from django_jobbatch.ledger import Change, Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.operations import previews, reach
from django_jobbatch.operations.reach import ReachedAncestor
from django_jobbatch.reconcile import reconcile
from django_jobbatch.states import Role
from django_jobbatch.transport import Line, QueueLoad, Ticket, WaitingTickets
from tests.ledger import tree_model as model
from tests.ledger.helpers import ALIAS, claim, claimant, failure, first_claim, success
from tests.ledger.machines import run
from tests.ledger.tree_model import FAILED, PENDING, RUNNING, SUCCEEDED, Batch, Link
from tests.tuning import Tuning

#: A number for one of however many there are, and the bits of one for some of them.
ANY = st.integers(0, 15)
SOME = st.integers(0, 63)
SELDOM = st.sampled_from([False, False, True])
T = TypeVar("T")
Message = tuple[str, list[uuid.UUID]]


class Post:
    """Tickets in memory, and messages between batches, which may come late and twice."""

    def __init__(self) -> None:
        self.tickets: list[Ticket] = []
        self.workers = 4
        self.scheduled: list[tuple[datetime, Ticket]] = []
        self.late = False
        self.held: list[Message] = []
        self.sent: list[Message] = []
        #: Stand-ins as they were claimed, by the ids of the child batches that started then.
        self.started: dict[uuid.UUID, BatchedJob] = {}
        self._settle_stand_in = ledger.settle_stand_in
        self._stop_children = ledger.stop_children
        self._sweep = ledger.sweep

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Take the place of Redis, and stand between batches."""
        for name in (
            "send",
            "send_if_unchanged",
            "schedule",
            "waiting_tickets",
            "line_of",
            "load_of",
            "waiting_by_batch",
            "scan_of",
            "discard",
            "executing",
        ):
            patch.setattr(transport, name, getattr(self, name))
        for name in ("settle_stand_in", "stop_children", "sweep"):
            patch.setattr(ledger, name, getattr(self, name))
        patch.setattr(dispatch, "after_commit", dispatch.apply)

    # Tickets

    def send(self, ticket: Ticket, count: int = 1, *, due: int = 0) -> None:
        if due:
            count = wanted_tickets(due, self.load_of(ticket.queue))
        self.tickets += [ticket] * count

    def send_if_unchanged(self, ticket: Ticket, count: int, line: Line, share: int = 0) -> bool:
        self.send(ticket, count)
        return True

    def load_of(self, queue: str) -> QueueLoad:
        return QueueLoad(sum(each.queue == queue for each in self.tickets), self.workers)

    def line_of(self, batch_id: uuid.UUID, queue: str) -> Line:
        own = sum((each.batch_id, each.queue) == (batch_id, queue) for each in self.tickets)
        return Line(self.load_of(queue), own)

    def schedule(self, ticket: Ticket, at: datetime) -> None:
        if all(first > at for first, each in self.scheduled if each.batch_id == ticket.batch_id):
            self.scheduled.append((at, ticket))

    def waiting_tickets(self, batch_id: uuid.UUID, queue: str) -> WaitingTickets:
        moments = [at for at, ticket in self.scheduled if ticket.batch_id == batch_id]
        queued = sum(ticket.batch_id == batch_id for ticket in self.tickets)
        return WaitingTickets(queued, min(moments, default=None))

    def scan_of(self, queue: str) -> None:
        """There is no list to scan."""

    def waiting_by_batch(
        self, batch_ids: Sequence[uuid.UUID], queue: str, scan: None
    ) -> dict[uuid.UUID, WaitingTickets]:
        return {batch_id: self.waiting_tickets(batch_id, queue) for batch_id in batch_ids}

    def discard(self, batch_id: uuid.UUID, queues: Iterable[str]) -> None:
        self.tickets = [each for each in self.tickets if each.batch_id != batch_id]
        self.scheduled = [each for each in self.scheduled if each[1].batch_id != batch_id]

    def executing(self, queue: str) -> set[str]:
        return set()

    def take(self) -> Ticket | None:
        """The ticket that has waited longest; if there is none, one before its time."""
        if not self.tickets and self.scheduled:
            return self.scheduled.pop(0)[1]
        return self.tickets.pop(0) if self.tickets else None

    # Messages

    def settle_stand_in(self, using: str, child: JobBatch) -> Change | None:
        late = self._is_late("end", [child.pk])
        return None if late else self._settle(using, child)

    def _settle(self, using: str, child: JobBatch) -> Change | None:
        return self._settle_stand_in(using, child, started=self.started.get(child.pk))

    def stop_children(self, using: str, children: Sequence[uuid.UUID]) -> list[Change]:
        late = self._is_late("stop", list(children))
        return [] if late else self._stop_children(using, children)

    def sweep(self, using: str, batch_id: uuid.UUID, **named: Any) -> Iterator[Change]:
        late = self._is_late("sweep", [batch_id])
        return iter(()) if late else self._sweep(using, batch_id, **named)

    def deliver(self, kind: str, ids: list[uuid.UUID]) -> None:
        """Deliver one message now."""
        if kind == "sweep":
            for change in self.sweep(ALIAS, ids[0]):
                dispatch.apply(change)
        elif kind == "stop":
            for change in self._stop_children(ALIAS, ids):
                dispatch.apply(change)
        else:
            reported = self._settle(ALIAS, JobBatch.objects.get(pk=ids[0]))
            if reported is not None:
                dispatch.apply(reported)

    def _is_late(self, kind: str, ids: list[uuid.UUID]) -> bool:
        self.sent.append((kind, ids))
        if self.late and ids:
            self.held.append((kind, ids))
        return self.late


class TreesMachine(RuleBasedStateMachine):
    """One tree, its tickets, and the same tree as the model has it."""

    root: JobBatch
    post: Post

    @initialize(plan=model.nested(4))
    def dispatch(self, plan: model.Nested) -> None:
        self.patch = pytest.MonkeyPatch()
        self.atomic = transaction.atomic(ALIAS)
        self.atomic.__enter__()
        self.post = Post()
        self.post.install(self.patch)
        self.laws = model.Laws()
        self.tree = model.planted(plan)
        self.held: list[tuple[BatchedJob, Link]] = []
        self.callbacks: list[tuple[BatchedJob, Batch, model.Callback]] = []
        self.settled: list[Settlement] = []
        self.ids: dict[uuid.UUID, Batch] = {}
        self.root = model.builder(plan).dispatch()
        self.laws.dispatched(self.tree)
        self._know(self.root, self.tree)

    # Tickets

    @rule(batch=ANY, limit=st.integers(1, 3))
    def take(self, batch: int, limit: int) -> None:
        self._take(self._batch(batch), limit)

    @precondition(lambda self: self.held)
    @rule(link=ANY, also=SOME, released=SELDOM, late=SELDOM, claimed=st.integers(0, 3))
    def settle(self, link: int, also: int, *, released: bool, late: bool, claimed: int) -> None:
        """Settle some links, and start their child batches, each with a claim of so many jobs."""
        first = _one(self.held, link)
        others = [each for each in _some(self.held, also) if each[1].batch is first[1].batch]
        group = [first, *(each for each in others if each is not first)]
        with self._act(late=late):
            self._settle(group, released=released, claimed=claimed)

    @rule(late=SELDOM)
    def work(self, *, late: bool) -> None:
        ticket = self.post.take()
        if ticket is not None:
            with self._act(late=late):
                self._work(ticket)

    @rule(batch=ANY)
    def take_callback(self, batch: int) -> None:
        self._take_callback(self._batch(batch))

    @precondition(lambda self: self.callbacks)
    @rule(status=st.sampled_from([SUCCEEDED, SUCCEEDED, FAILED, PENDING]), late=SELDOM)
    def settle_callback(self, status: str, *, late: bool) -> None:
        with self._act(late=late):
            self._settle_callback(status)

    # People

    @rule(which=ANY, late=SELDOM)
    def cancel(self, which: int, *, late: bool) -> None:
        batch = self._batch(which)
        row = self._row(batch)
        reached = reach.ancestors_of_cancel(row)
        with (
            self._changing_only(row, reached, _as_a_cancel_changes),
            self._act(late=late),
        ):
            assert row.cancel("enough") == self.laws.cancel(batch)

    @rule(batch=ANY, include=st.booleans(), late=SELDOM)
    def retry(self, batch: int, *, include: bool, late: bool) -> None:
        self._retry(self._batch(batch), None, include=include, late=late)

    @rule(which=ANY, chosen=SOME, include=st.booleans(), late=SELDOM)
    def retry_some(self, which: int, chosen: int, *, include: bool, late: bool) -> None:
        batch = self._batch(which)
        self._retry(batch, _some(batch.links, chosen), include=include, late=late)

    @rule(which=ANY, item=model.items(1))
    def add(self, which: int, item: model.Item) -> None:
        batch = self._batch(which)
        if batch.chain:
            return
        try:
            self._row(batch).add([model.written(item)])
        except (BatchFinished, BatchCancelled):
            assert batch.status not in model.OPEN
        else:
            assert batch.status in model.OPEN
            model.grow(batch, [item])
            self._know(self._row(batch), batch)

    @rule(which=ANY, place=ANY, lane=st.lists(model.items(1), max_size=2), at_end=st.booleans())
    def extend(self, which: int, place: int, lane: list[model.Item], *, at_end: bool) -> None:
        batch = self._batch(which)
        if not batch.links:
            return
        link = _one(batch.links, place)
        stored = BatchedJob.objects.get(pk=link.pk)
        extend: Callable[..., int] = stored.append if at_end else stored.prepend
        links = [model.link_of(batch, link.lane, each) for each in model.spliced(lane)]
        broken = any(each.status in (FAILED, model.CANCELLED) for each in link.following)
        rejected = batch.status not in model.OPEN or link.status not in model.UNSETTLED or broken
        try:
            extend(*(model.written(each) for each in lane))
        except (BatchFinished, BatchCancelled):
            assert rejected
        else:
            assert not (rejected and links)
            place = len(link.lane) if at_end else link.lane.index(link) + 1
            link.lane[place:place] = links
            self._know(self._row(batch), batch)

    # Faults

    @precondition(lambda self: self.post.held)
    @rule(message=ANY, late=SELDOM)
    def deliver_late(self, message: int, *, late: bool) -> None:
        self._deliver(*self.post.held.pop(message % len(self.post.held)), late=late)

    @precondition(lambda self: self.post.sent)
    @rule(message=ANY, late=SELDOM)
    def deliver_again(self, message: int, *, late: bool) -> None:
        self._deliver(*_one(self.post.sent, message), late=late)

    @precondition(lambda self: self.settled)
    @rule(outcome=ANY)
    def settle_again(self, outcome: int) -> None:
        old = _one(self.settled, outcome)
        change = ledger.settle(ALIAS, old.link.batch_id, [old])
        assert (change.late, change.finished, change.settled) == (not old.is_release, False, ())

    # Invariants

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        if not hasattr(self, "ids"):
            return
        rows = JobBatch.objects.filter(pk__in=self.ids).in_bulk()
        links = BatchedJob.objects.filter(batch_id__in=self.ids).order_by("run", "position")
        found: dict[uuid.UUID, dict[str, list[Any]]] = {
            pk: {"links": [], "callbacks": []} for pk in rows
        }
        for link in links:
            if link.role == Role.JOB:
                found[link.batch_id]["links"].append((link.pk, str(link.status)))
            else:
                found[link.batch_id]["callbacks"].append((link.run, link.role, str(link.status)))
        seen = {pk: (_seen(row), _in_order(found[pk])) for pk, row in rows.items()}
        expected = {pk: (_modelled(batch), _expected(batch)) for pk, batch in self.ids.items()}
        for pk, batch in self.ids.items():
            assert seen[pk] == expected[pk], batch

    def teardown(self) -> None:
        """Bring everything to its end, by the tickets that were sent: nothing is stuck."""
        if not hasattr(self, "patch"):
            return
        try:
            if self.ids:
                self._deliver_everything()
                self._check_the_end()
        finally:
            self.patch.undo()
            transaction.set_rollback(rollback=True, using=ALIAS)
            self.atomic.__exit__(None, None, None)

    def _deliver_everything(self) -> None:
        self.post.late = False
        while self.post.held:
            self._deliver(*self.post.held.pop(0), late=False)
        while self.held:
            with self._act(late=False):
                self._settle([self.held[0]])
        while self.callbacks:
            with self._act(late=False):
                self._settle_callback(SUCCEEDED)
        self.rows_are_as_the_model_says()
        worked = 0
        while ticket := self.post.take():
            worked += 1
            assert worked < 500, "tickets go round and round"
            with self._act(late=False):
                self._work(ticket)
        self.rows_are_as_the_model_says()

    def _check_the_end(self) -> None:
        assert list(JobBatch.objects.not_at_rest()) == []
        for batch in self.ids.values():
            assert batch.has_ended, "stuck"
            if Role.FINALLY in batch.roles:
                runs = [each.run for each in batch.callbacks if each.role == Role.FINALLY]
                assert runs == list(range(1, batch.run + 1))
        leaves = [link for batch in self.ids.values() for link in batch.links if not link.child]
        counted = Counter(link.status for link in leaves)
        self.root.refresh_from_db()
        ends = {str(status): counted[status] for status in (PENDING, *model.RETRYABLE, SUCCEEDED)}
        assert self.root.tree_jobs._asdict() == {"total": len(leaves), **ends}
        assert self.root.progress == 100

    # Doing it to both

    def _batch(self, number: int) -> Batch:
        return _one(list(self.ids.values()), number)

    def _row(self, batch: Batch) -> JobBatch:
        (pk,) = [pk for pk, known in self.ids.items() if known is batch]
        return JobBatch.objects.get(pk=pk)

    def _know(self, row: JobBatch, batch: Batch) -> None:
        """Learn the ids of new rows; there are as many as the model says."""
        self.ids[row.pk] = batch
        stored = list(row.jobs.filter(role=Role.JOB).order_by("lane", "position"))
        links = batch.links
        assert len(stored) == len(links)
        for link, each in zip(links, stored, strict=True):
            assert link.pk in (0, each.pk)
            is_new, link.pk = not link.pk, each.pk
            if is_new and link.child is not None:
                self._know(JobBatch.objects.get(parent=each), link.child)

    def _act(self, *, late: bool) -> _Act:
        self.act = _Act(self.post, self.laws, late=late)
        return self.act

    def _deliver(self, kind: str, ids: list[uuid.UUID], *, late: bool) -> None:
        with self._act(late=late):
            batches = [self.ids[pk] for pk in ids]
            self.post.deliver(kind, ids)
            if kind == "end":
                self.laws.report_end(batches[0])
            elif kind == "stop":
                self.laws.stop(batches)
            elif not late:
                self.laws.sweep(batches[0])

    def _retry(self, batch: Batch, chosen: list[Link] | None, *, include: bool, late: bool) -> None:
        row = self._row(batch)
        pks = None if chosen is None else [link.pk for link in chosen]
        with self._act(late=late):
            try:
                expected: int | type[Exception] = self.laws.retry(
                    batch, chosen, include_cancelled=include
                )
            except model.Busy:
                expected = BatchBusy
            except model.RetryRejected:
                expected = BatchCancelled
            jobs = None if pks is None else list(BatchedJob.objects.filter(pk__in=pks))
            reached = reach.ancestors_of_retry(row, jobs)
            with self._changing_only(row, reached, _as_a_retry_changes) as changed:
                try:
                    reopened: int | type[Exception] = row.retry(pks, include_cancelled=include)
                except (BatchBusy, BatchCancelled) as error:
                    reopened = type(error)
            assert reopened == expected
            if changed:
                assert changed == {ancestor.batch.pk for ancestor in reached}

    @contextmanager
    def _changing_only(
        self,
        row: JobBatch,
        reached: list[ReachedAncestor],
        shape: Callable[[JobBatch], tuple[Any, ...]],
    ) -> Iterator[set[uuid.UUID]]:
        """Check that no other ancestor changes than these; yield a set of those that have."""
        changed: set[uuid.UUID] = set()
        before = {each.pk: shape(each) for each in _ancestors(row)}
        yield changed
        changed |= {each.pk for each in _ancestors(row) if shape(each) != before[each.pk]}
        assert changed <= {ancestor.batch.pk for ancestor in reached}

    def _take(self, batch: Batch, limit: int) -> bool:
        taken = claim(self._row(batch), limit, ignore_delays=True)
        self._hold(taken, self.laws.claim(batch, limit))
        return bool(taken)

    def _hold(self, taken: list[BatchedJob], expected: list[Link]) -> None:
        """Note the claim of these links, which are those of the model."""
        assert [link.pk for link in taken] == [link.pk for link in expected]
        for each, link in zip(taken, expected, strict=True):
            link.fence = each.fence
            self.held.append((each, link))

    def _settle(
        self,
        held: list[tuple[BatchedJob, Link]],
        *,
        released: bool = False,
        claimed: int = 0,
    ) -> None:
        # By identity: an older claim of the same link is equal to a newer one.
        settled = {id(each) for each in held}
        self.held = [each for each in self.held if id(each) not in settled]
        if released:
            self._write(held, [(each, link, PENDING) for each, link in held])
            return
        self._write(held, [(each, link, _end(link)) for each, link in held if not link.child])
        for each, link in held:
            if link.child is not None:
                self._take_turn(each, link, link.child, claimed)

    def _take_turn(self, each: BatchedJob, link: Link, child: Batch, limit: int) -> None:
        is_held = _is_held(each, link)
        waits_for_its_first_turn = (child.status, child.run) == ("waiting", 1)
        claims = first_claim(limit=limit) if limit else None
        taken: list[BatchedJob] = []
        for change in ledger.start_child(ALIAS, each, first_claim=claims):
            taken += change.claimed
            if change.batch_id == each.child_id:
                self.post.started[change.batch_id] = each
            dispatch.apply(change)
        expected: list[Link] = []
        if is_held:
            self.laws.take_turn(link)
            self.act.deliver_messages()
            if waits_for_its_first_turn:
                expected = self.laws.claim(child, limit)
        self._hold(taken, expected)

    def _write(
        self,
        held: list[tuple[BatchedJob, Link]],
        ends: list[tuple[BatchedJob, Link, str]],
    ) -> None:
        if not ends:
            return
        settlements = [_settlement(each, status) for each, _, status in ends]
        change = ledger.settle(ALIAS, ends[0][0].batch_id, settlements)
        live = [(link, status) for each, link, status in ends if _is_held(each, link)]
        late = [
            each
            for each, (row, link, _) in zip(settlements, ends, strict=True)
            if not _is_held(row, link)
        ]
        assert change.late == sum(not each.is_release for each in late)
        self.settled += settlements
        if live:
            self.laws.settle(live)
        for link, status in live:
            link.fails -= status == FAILED
        dispatch.apply(change)
        self.act.deliver_messages()

    def _take_callback(self, batch: Batch) -> bool:
        link = ledger.claim_callback(claimant(self._row(batch)))
        callback = batch.due_callback
        assert (link is None) == (callback is None)
        if link is None or callback is None:
            return False
        assert (link.run, link.role) == (callback.run, callback.role)
        callback.status = RUNNING
        self.callbacks.append((link, batch, callback))
        return True

    def _settle_callback(self, status: str) -> None:
        link, batch, callback = self.callbacks.pop()
        change = ledger.settle_callback(ALIAS, _settlement(link, status))
        assert change.late == 0
        self.laws.end_callback(batch, callback, status)
        dispatch.apply(change)
        self.act.deliver_messages()

    def _work(self, ticket: Ticket) -> None:
        """Work until nothing is due, and then leave a ticket for later links, as a worker does."""
        batch = self.ids[ticket.batch_id]
        if batch.status == "stopping":
            dispatch.continue_cancel(JobBatch.objects.get(pk=ticket.batch_id))
            if not self.post.late:
                self.laws.sweep(batch)
                self.act.deliver_messages()
        for _ in range(50):
            if self._take_callback(batch):
                self._settle_callback(SUCCEEDED)
            elif self._take(batch, 2):
                self._settle([each for each in self.held if each[1].batch is batch])
            else:
                break
        dispatch.ensure_tickets(self._row(batch), ticket.queue)
        dispatch.schedule_next_event(self._row(batch))


class RetriedTreesMachine(TreesMachine):
    """Trees that are retried in the end and then succeed: the preview counted the jobs that ran."""

    def _check_the_end(self) -> None:
        super()._check_the_end()
        for chosen in (self._chosen(), None):
            self._check_a_retry(chosen)

    def _chosen(self) -> list[Link]:
        return [link for link in self.tree.links if link.status == FAILED][::2]

    def _check_a_retry(self, chosen: list[Link] | None) -> None:
        row = self._row(self.tree)
        jobs = (
            None if chosen is None else list(row.jobs.filter(pk__in=[each.pk for each in chosen]))
        )
        may_retry, expected = previews.can_retry(row), previews.count_retried(row, jobs).jobs
        before = self._fences()
        run = row.run
        for link in (link for batch in self.ids.values() for link in batch.links):
            link.fails = 0
        self._retry(self.tree, chosen, include=row.is_cancelled, late=False)
        self._deliver_everything()
        ran = [pk for pk, fence in self._fences().items() if fence != before[pk]]
        assert len(ran) == expected
        row.refresh_from_db()
        if chosen is None:
            assert may_retry == (row.run > run)

    def _fences(self) -> dict[int, int]:
        """How often each job was claimed."""
        jobs = BatchedJob.objects.filter(batch_id__in=self.ids, role=Role.JOB, child=None)
        return dict(jobs.values_list("pk", "fence"))


class MortalTreesMachine(TreesMachine):
    """Trees whose tickets, messages and workers all die in the end: reconcile alone repairs them."""

    def _deliver_everything(self) -> None:
        self.post.late = False
        for lost in (self.post.held, self.post.tickets, self.post.scheduled):
            lost.clear()
        held = BatchedJob.objects.running().exclude(lease_until=None)
        held.update(lease_until=timezone.now() - timedelta(hours=1))
        for _ in range(500):
            repairs = list(reconcile(ALIAS))
            ticket = self.post.take()
            if ticket is not None:
                _work_for(ticket)
            elif not repairs:
                return
        raise AssertionError("tickets go round and round")

    def _check_the_end(self) -> None:
        batches = {row.pk: row for row in JobBatch.objects.filter(pk__in=self.ids)}
        assert [row for row in batches.values() if not row.at_rest] == []
        for pk, row in batches.items():
            count = Counter(row.jobs.jobs_only().values_list("status", flat=True))
            assert count == +Counter(
                succeeded=row.succeeded_jobs,
                failed=row.failed_jobs,
                cancelled=row.cancelled_jobs,
                skipped=row.skipped_jobs,
            )
            if Role.FINALLY in self.ids[pk].roles:
                runs = row.jobs.filter(role=Role.FINALLY).order_by("run")
                assert list(runs.values_list("run", flat=True)) == list(range(1, row.run + 1))
            assert row.progress == 100


def _work_for(ticket: Ticket) -> None:
    """As a worker does whose jobs all succeed."""
    batches = JobBatch.objects.filter(pk=ticket.batch_id)
    if batches.get().status == "stopping":
        dispatch.continue_cancel(batches.get())
    while _run_callback(batches.get()) or _run_links(batches.get()):
        pass
    dispatch.ensure_tickets(batches.get(), ticket.queue)
    dispatch.schedule_next_event(batches.get())


def _run_callback(batch: JobBatch) -> bool:
    link = ledger.claim_callback(claimant(batch))
    if link is not None:
        dispatch.apply(ledger.settle_callback(ALIAS, success(link)))
    return link is not None


def _run_links(batch: JobBatch) -> bool:
    links = claim(batch, 2, ignore_delays=True)
    for link in links:
        if link.is_stand_in:
            changes = ledger.start_child(ALIAS, link)
        else:
            changes = iter([ledger.settle(ALIAS, batch.pk, [success(link)])])
        for change in changes:
            dispatch.apply(change)
    return bool(links)


class _Act:
    """An act on both; messages between batches come at once, or when they are delivered."""

    def __init__(self, post: Post, laws: model.Laws, *, late: bool) -> None:
        self.post, self.laws, self.late = post, laws, late

    def __enter__(self) -> None:
        self.post.late = self.late

    def __exit__(self, *error: object) -> None:
        self.deliver_messages()
        self.post.late = False

    def deliver_messages(self) -> None:
        """Deliver the messages between the model's batches, as the app did by itself."""
        if self.late:
            self.laws.messages.clear()
        else:
            self.laws.deliver_all()


def _ancestors(row: JobBatch) -> Iterator[JobBatch]:
    while (parent := row.parent_batch) is not None:
        yield parent
        row = parent


def _as_a_cancel_changes(row: JobBatch) -> tuple[Any, ...]:
    return (row.is_cancelled, row.skipped_jobs)


def _as_a_retry_changes(row: JobBatch) -> tuple[Any, ...]:
    return (row.run, row.pending_jobs, row.failed_jobs, row.cancelled_jobs, row.skipped_jobs)


def _one(found: Sequence[T], number: int) -> T:
    return found[number % len(found)]


def _some(found: Sequence[T], bits: int) -> list[T]:
    return [each for number, each in enumerate(found) if bits >> number & 1]


def _is_held(each: BatchedJob, link: Link) -> bool:
    """Whether a claim is valid: the settlement of a child batch may have overtaken its start."""
    return link.status == RUNNING and not link.started and link.fence == each.fence


def _end(link: Link) -> str:
    return FAILED if link.fails else SUCCEEDED


def _settlement(link: BatchedJob, status: str) -> Settlement:
    if status == PENDING:
        return Settlement.released(link)
    return failure(link) if status == FAILED else success(link)


def _seen(row: JobBatch) -> dict[str, object]:
    status = "live" if row.status in ("pending", "running") else str(row.status)
    return {
        "status": status,
        "outcome": str(row.outcome),
        "run": row.run,
        "cancelled": row.is_cancelled,
        "total": row.total_jobs,
        "pending": row.pending_jobs,
        "failed": row.failed_jobs,
        "cancelled_jobs": row.cancelled_jobs,
        "skipped": row.skipped_jobs,
    }


def _modelled(batch: Batch) -> dict[str, object]:
    count = Counter(link.status for link in batch.links)
    return {
        "status": batch.status,
        "outcome": batch.outcome,
        "run": batch.run,
        "cancelled": batch.cancelled,
        "total": len(batch.links),
        "pending": sum(count[status] for status in model.UNSETTLED),
        "failed": count[FAILED],
        "cancelled_jobs": count[model.CANCELLED],
        "skipped": count[model.SKIPPED],
    }


def _expected(batch: Batch) -> dict[str, list[Any]]:
    due = batch.due_callback
    callbacks = sorted(batch.callbacks, key=lambda each: (each.run, model.ORDER.index(each.role)))
    return {
        "links": sorted((link.pk, str(link.status)) for link in batch.links),
        "callbacks": [
            (each.run, each.role, str(PENDING if each is due else each.status))
            for each in callbacks
        ],
    }


def _in_order(found: dict[str, list[Any]]) -> dict[str, list[Any]]:
    return {"links": sorted(found["links"]), "callbacks": found["callbacks"]}


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("page", [1, 5000], ids=["1", "5000"])
def test_trees_are_as_their_model(page: int, tuning: Tuning) -> None:
    tuning(LINKS_CHUNK=page, KEYS_CHUNK=page)
    run(TreesMachine, quick=12, full=35, steps=25)


@pytest.mark.slow
@pytest.mark.django_db
def test_a_retry_of_a_tree_resets_as_many_jobs_as_its_preview_counts(
    tuning: Tuning,
) -> None:
    tuning(LINKS_CHUNK=5000, KEYS_CHUNK=5000)
    run(RetriedTreesMachine, quick=12, full=35, steps=25)


@pytest.mark.slow
@pytest.mark.django_db
def test_trees_finish_though_all_workers_tickets_and_messages_die(
    tuning: Tuning,
) -> None:
    tuning(LINKS_CHUNK=2, KEYS_CHUNK=2)
    run(MortalTreesMachine, quick=12, full=35, steps=25)
