"""Trees of batches and chains as plain objects, and the rules for them, written from the design.

Nothing here reads the database or the code of the ledger; `test_trees_machine.py` compares the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TypeAlias

from hypothesis import strategies as st

from django_jobbatch import bus
from django_jobbatch.bus import Builder
from django_jobbatch.states import LinkStatus, Role
from tests import jobs
from tests.jobs import ADD

WAITING, PENDING, RUNNING, SUCCEEDED, FAILED, CANCELLED, SKIPPED = LinkStatus
NOT_STARTED = (WAITING, PENDING)
UNSETTLED = (*NOT_STARTED, RUNNING)
RETRYABLE = (FAILED, CANCELLED, SKIPPED)
OPEN = ("waiting", "live")
ORDER = [Role.CATCH, Role.THEN, Role.FINALLY]

# Trees as people write them


@dataclass(frozen=True)
class Job:
    """A job that fails for good this many times, and then succeeds."""

    fails: int


@dataclass(frozen=True)
class Listed:
    """A list of items."""

    items: tuple[Item, ...]


@dataclass(frozen=True)
class Nested:
    """A batch or a chain; a chain that says nothing of itself is as good as a list."""

    items: tuple[Item, ...]
    roles: tuple[Role, ...] = ()
    chain: bool = False
    named: bool = False
    allow_failures: bool = False


Item: TypeAlias = Job | Listed | Nested

_ROLES = st.lists(st.sampled_from(ORDER), unique=True, max_size=3).map(tuple)


def items(depth: int) -> st.SearchStrategy[Item]:
    """Items of a batch, with up to `depth` levels of child batches."""
    job = st.builds(Job, st.sampled_from([0, 0, 0, 1, 2]))
    if not depth:
        return job
    listed = st.lists(items(depth - 1), max_size=3).map(lambda found: Listed(tuple(found)))
    return st.one_of(job, nested(depth), listed)


def nested(depth: int) -> st.SearchStrategy[Nested]:
    """A batch or chain with up to `depth` levels, itself included."""
    contents = st.lists(items(depth - 1), max_size=4 if depth > 1 else 3).map(tuple)
    named = st.booleans()
    return st.one_of(
        st.builds(Nested, contents, _ROLES, allow_failures=st.booleans(), named=named),
        st.builds(Nested, contents, _ROLES, chain=st.just(value=True), named=named),
    )


def written(item: Item) -> object:
    """The item as the builders of the app take it."""
    match item:
        case Job():
            return ADD
        case Listed():
            return [written(each) for each in item.items]
        case Nested():
            return builder(item)


def builder(item: Nested) -> Builder:
    """The builder of a batch or chain."""
    contents = [written(each) for each in item.items]
    made: Builder = bus.chain(*contents) if item.chain else bus.batch(contents)
    if isinstance(made, bus.BatchBuilder) and item.allow_failures:
        made = made.allow_failures()
    if item.named:
        made = made.named("named")
    for role in item.roles:
        add = {Role.CATCH: made.catch, Role.THEN: made.then, Role.FINALLY: made.finally_}[role]
        made = add(jobs.add, 1)
    return made


# Trees as they run


@dataclass(eq=False, repr=False)
class Link:
    batch: Batch
    lane: list[Link]
    fails: int = 0
    child: Batch | None = None
    status: str = WAITING
    pk: int = 0
    #: The run of the child in which its end is the end of this link.
    waits_for: int = 1
    #: Whether a retry of the child includes its cancelled jobs.
    with_cancelled: bool = False
    started: bool = False
    fence: int = 0

    def __repr__(self) -> str:
        return f"link {self.pk} ({self.status})"

    @property
    def following(self) -> list[Link]:
        """The links that come after it in its lane."""
        return self.lane[self.lane.index(self) + 1 :]

    @property
    def ahead(self) -> list[Link]:
        return self.lane[: self.lane.index(self)]


@dataclass
class Callback:
    run: int
    role: Role
    status: str = WAITING


@dataclass(eq=False, repr=False)
class Batch:
    chain: bool
    allow_failures: bool
    roles: list[Role]
    parent: Link | None = None
    status: str = "live"
    outcome: str = ""
    cancelled: bool = False
    run: int = 1
    lanes: list[list[Link]] = field(default_factory=list)
    callbacks: list[Callback] = field(default_factory=list)

    def __repr__(self) -> str:
        kind = "chain" if self.chain else "allowing" if self.allow_failures else "strict"
        return f"{kind} batch of {self.lanes} ({self.status} {self.outcome})"

    @property
    def links(self) -> list[Link]:
        return [link for lane in self.lanes for link in lane]

    @property
    def broken(self) -> list[Link]:
        """The links that did not succeed."""
        return [link for link in self.links if link.status in RETRYABLE]

    @property
    def ancestors(self) -> list[Batch]:
        """The ancestors of this batch, the nearest first."""
        return [] if self.parent is None else [self.parent.batch, *self.parent.batch.ancestors]

    @property
    def due_callback(self) -> Callback | None:
        """The callback that comes next, if none is running."""
        unsettled = [each for each in self.callbacks if each.status in UNSETTLED]
        first = min(unsettled, key=lambda each: (each.run, ORDER.index(each.role)), default=None)
        return first if first is None or first.status != RUNNING else None

    @property
    def has_ended(self) -> bool:
        """Whether it is finished, callbacks included."""
        unsettled = [each for each in self.callbacks if each.status in UNSETTLED]
        return self.status == "finished" and not unsettled

    @property
    def is_held_back(self) -> bool:
        """Whether callbacks of an earlier run are still to run."""
        return any(each.run < self.run and each.status in UNSETTLED for each in self.callbacks)

    def tree(self) -> Iterator[Batch]:
        yield self
        for link in self.links:
            if link.child is not None:
                yield from link.child.tree()


def planted(item: Nested, parent: Link | None = None) -> Batch:
    """A batch or chain as it is stored: lists and plain chains are spliced."""
    batch = Batch(item.chain, item.allow_failures, list(item.roles), parent)
    batch.status = "live" if parent is None else "waiting"
    lanes = [item.items] if item.chain else [(each,) for each in item.items]
    for lane in lanes:
        grow(batch, lane)
    return batch


def grow(batch: Batch, lane: Iterable[Item]) -> None:
    """One more lane, unless it is empty; its first link is due."""
    links: list[Link] = []
    links += [link_of(batch, links, each) for each in spliced(lane)]
    if links:
        links[0].status = PENDING
        batch.lanes.append(links)


def link_of(batch: Batch, lane: list[Link], item: Job | Nested) -> Link:
    link = Link(batch, lane)
    if isinstance(item, Job):
        link.fails = item.fails
    else:
        link.child = planted(item, link)
    return link


def spliced(lane: Iterable[Item]) -> Iterator[Job | Nested]:
    for item in lane:
        match item:
            case Listed():
                yield from spliced(item.items)
            case Nested(chain=True, named=False, roles=()):
                yield from spliced(item.items)
            case _:
                yield item


class Busy(Exception):
    """A retry while something is being stopped."""


class RetryRejected(Exception):
    """A retry of a cancelled batch."""


class Laws:
    """The events of a tree; messages from one batch to another wait in `messages`."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, list[Batch]]] = []

    def deliver_all(self) -> None:
        """Deliver every message, and those that it causes."""
        messages, self.messages = self.messages, []
        for kind, batches in messages:
            if kind == "end":
                self.report_end(batches[0])
            elif kind == "stop":
                self.stop(batches)
            else:
                self.stop(running_children(batches[0]))
                self.deliver_all()
                self.sweep(batches[0])
            self.deliver_all()

    # Jobs

    def dispatched(self, root: Batch) -> None:
        """A root without any link is at its end at once."""
        self._finish(root)

    def claim(self, batch: Batch, limit: int) -> list[Link]:
        if batch.status != "live" or batch.is_held_back:
            return []
        pending = sorted((link for link in batch.links if link.status == PENDING), key=_pk)
        for link in pending[:limit]:
            assert WAITING not in [before.status for before in link.ahead]
            assert "waiting" not in [ancestor.status for ancestor in batch.ancestors]
            link.status, link.started = RUNNING, False
        return pending[:limit]

    def settle(self, ends: list[tuple[Link, str]]) -> None:
        """Settle links of one batch, by one act."""
        batch = ends[0][0].batch
        for link, status in ends:
            is_stopping = status == PENDING and batch.status not in OPEN
            link.status = CANCELLED if is_stopping else status
        for link, _ in ends:
            if link.status in (FAILED, CANCELLED):
                self._skip_after(link)
            if link.status == CANCELLED:
                self._stop_child(link)
        if any(link.status == FAILED for link, _ in ends):
            self._catch(batch)
            self._stop_strict(batch)
        for link, _ in ends:
            if link.status == SUCCEEDED:
                _release(link)
        self._finish(batch)

    def take_turn(self, link: Link) -> None:
        """The turn of a child batch has come."""
        child, parent = link.child, link.batch
        assert child is not None
        if parent.status not in OPEN:
            self.settle([(link, CANCELLED)])
        elif child.status == "stopping":
            self.settle([(link, PENDING)])
        elif child.status == "finished" and child.run == link.waits_for:
            link.started = True  # it was cancelled before its turn
            self.report_end(child)
        else:
            link.started = True
            if child.status == "finished":
                whole = link.with_cancelled or child.cancelled
                self._reset(child, _retried(child, whole=whole), include_cancelled=whole)
            child.status, link.waits_for = "live", child.run
            self._finish(child)

    def end_callback(self, batch: Batch, callback: Callback, status: str) -> None:
        callback.status = status
        self._note_end(batch)

    # Messages up and down

    def report_end(self, child: Batch) -> None:
        link = child.parent
        assert link is not None
        if link.status not in UNSETTLED or not child.has_ended or child.run != link.waits_for:
            return
        ends = {"failed": FAILED, "cancelled": CANCELLED}
        link.status = ends.get(child.outcome, SUCCEEDED)
        if link.status == SUCCEEDED:
            _release(link)
        else:
            self._skip_after(link)
            if link.status == FAILED:
                self._catch(link.batch)
            self._stop_strict(link.batch, cancelled=link.status == CANCELLED)
        self._finish(link.batch)

    def stop(self, children: list[Batch]) -> None:
        for child in children:
            link = child.parent
            assert link is not None
            in_vain = link.status in (CANCELLED, SKIPPED)
            if link.batch.status not in OPEN:
                in_vain = link.status not in (SUCCEEDED, FAILED)
            if in_vain and child.status in OPEN:
                self._stop_batch(child, cancelled=True)

    def sweep(self, batch: Batch) -> None:
        if batch.status != "stopping":
            return
        for link in batch.links:
            if link.status in NOT_STARTED:
                link.status = CANCELLED
                self._stop_child(link)
        self._finish(batch)

    # Operations of people

    def cancel(self, batch: Batch) -> bool:
        if batch.status not in OPEN:
            return False
        self._stop_batch(batch, cancelled=True)
        return True

    def retry(self, batch: Batch, chosen: list[Link] | None, *, include_cancelled: bool) -> int:
        """How many jobs of its tree run again."""
        _check_retryable(batch, include_cancelled=include_cancelled)
        if chosen is None:
            found = _retried(batch, whole=include_cancelled)
        else:
            wanted = RETRYABLE if include_cancelled else (FAILED,)
            found = [
                link
                for link in chosen
                if link.status in wanted or _has_more(link, whole=include_cancelled)
            ]
            found = _with_lanes(found, include_cancelled=include_cancelled)
        if not found:
            return 0
        for ancestor in batch.ancestors:
            _check_retryable(ancestor, include_cancelled=include_cancelled)
        count = self._reset(batch, found, include_cancelled=include_cancelled)
        self._reopen_ancestors(batch, include_cancelled=include_cancelled)
        return count

    def _reopen_ancestors(self, child: Batch, *, include_cancelled: bool) -> None:
        link = child.parent
        if link is None:
            return
        if link.status not in UNSETTLED:
            child.status = "waiting"
            found = _with_lanes([link], include_cancelled=include_cancelled)
            self._reset(link.batch, found, include_cancelled=include_cancelled)
            self._reopen_ancestors(link.batch, include_cancelled=include_cancelled)
            return
        link.waits_for = child.run
        if not (link.status == RUNNING and link.started):
            child.status = "waiting"

    def _reset(self, batch: Batch, found: list[Link], *, include_cancelled: bool) -> int:
        found = _with_freed(batch, found)
        jobs = _jobs(found, whole=include_cancelled)
        if batch.status == "finished":
            batch.run += 1
            batch.status, batch.outcome, batch.cancelled = "live", "", False
        for lane in batch.lanes:
            back = [link for link in lane if link in found]
            for link in back:
                link.status, link.started = WAITING, False
                if link.child is not None:
                    link.waits_for = link.child.run + (link.child.status not in OPEN)
                    link.with_cancelled = include_cancelled
            if back and not any(before.status in UNSETTLED for before in back[0].ahead):
                back[0].status = PENDING
        return jobs

    # Consequences

    def _skip_after(self, broken: Link) -> None:
        if broken.batch.status not in OPEN:
            return  # the sweep cancels it
        for link in broken.following:
            if link.status == WAITING:
                link.status = SKIPPED
                self._stop_child(link)

    def _stop_child(self, link: Link) -> None:
        if link.child is not None:
            self.messages.append(("stop", [link.child]))

    def _stop_strict(self, batch: Batch, *, cancelled: bool = False) -> None:
        if not batch.allow_failures and batch.status in OPEN:
            self._stop_batch(batch, cancelled=cancelled)

    def _stop_batch(self, batch: Batch, *, cancelled: bool) -> None:
        batch.status, batch.cancelled = "stopping", cancelled
        self.messages.append(("sweep", [batch]))

    def _catch(self, batch: Batch) -> None:
        if not batch.cancelled:
            self._schedule(batch, [Role.CATCH])

    def _schedule(self, batch: Batch, roles: list[Role]) -> None:
        scheduled = [each.role for each in batch.callbacks if each.run == batch.run]
        for role in roles:
            if role in batch.roles and role not in scheduled:
                batch.callbacks.append(Callback(batch.run, role))

    def _finish(self, batch: Batch) -> None:
        statuses = {link.status for link in batch.links}
        if batch.status in ("waiting", "finished") or statuses & set(UNSETTLED):
            return
        batch.status = "finished"
        if batch.cancelled:
            batch.outcome = "cancelled"
        elif statuses <= {SUCCEEDED}:
            children = [link.child.outcome for link in batch.links if link.child]
            batch.outcome = "partial" if "partial" in children else "succeeded"
        else:
            batch.outcome = "partial" if batch.allow_failures else "failed"
        well = batch.outcome in ("succeeded", "partial")
        self._schedule(batch, [Role.THEN, Role.FINALLY] if well else [Role.FINALLY])
        self._note_end(batch)

    def _note_end(self, batch: Batch) -> None:
        if batch.parent is not None and batch.has_ended:
            self.messages.append(("end", [batch]))


def running_children(batch: Batch) -> list[Batch]:
    return [link.child for link in batch.links if link.child and link.status == RUNNING]


def _has_more(link: Link, *, whole: bool) -> bool:
    """Whether the child of this stand-in is partial, and has jobs to retry."""
    child = link.child
    if child is None or link.status != SUCCEEDED or child.outcome != "partial":
        return False
    if whole:
        return True
    return any(each.status == FAILED or _has_more(each, whole=whole) for each in child.links)


def _retried(batch: Batch, *, whole: bool) -> list[Link]:
    """The links that a retry of all unsuccessful jobs resets."""
    more = [link for link in batch.links if _has_more(link, whole=whole)]
    return _wanted(batch.broken, include_cancelled=whole) + more


def _with_freed(batch: Batch, found: list[Link]) -> list[Link]:
    """These links, and in a strict batch without other failures all that did not succeed."""
    left = [link for link in batch.links if link not in found]
    if batch.allow_failures or FAILED in [link.status for link in left]:
        return found
    return [*found, *(link for link in left if link.status in RETRYABLE)]


def _jobs(found: list[Link], *, whole: bool) -> int:
    """How many jobs run again if these links do, those of child batches included."""
    total = 0
    for link in found:
        child = link.child
        if child is None:
            total += 1
        else:
            of_child = whole or child.cancelled
            total += _jobs(_with_freed(child, _retried(child, whole=of_child)), whole=of_child)
    return total


def _with_lanes(found: list[Link], *, include_cancelled: bool) -> list[Link]:
    """These links, and what else did not succeed in their lanes."""
    lanes = {id(link.lane): link.lane for link in found}.values()
    remaining = [each for lane in lanes for each in lane if each.status in RETRYABLE]
    remaining = [each for each in remaining if each not in found]
    return found + _wanted(remaining, include_cancelled=include_cancelled)


def _release(link: Link) -> None:
    """Make due what follows, but for what has succeeded in an earlier run."""
    if link.batch.status not in OPEN:
        return
    following = [each for each in link.following if each.status != SUCCEEDED]
    if following and following[0].status == WAITING:
        following[0].status = PENDING


def _check_retryable(batch: Batch, *, include_cancelled: bool) -> None:
    if batch.status == "stopping":
        raise Busy
    if batch.cancelled and not include_cancelled:
        raise RetryRejected


def _wanted(found: list[Link], *, include_cancelled: bool) -> list[Link]:
    """Without the cancelled links of a batch that continues, and the links after them."""
    if include_cancelled or not found or not found[0].batch.allow_failures:
        return found
    ended = [link for link in found if link.status == CANCELLED]
    return [
        link for link in found if link not in ended and not any(link in e.following for e in ended)
    ]


def _pk(link: Link) -> int:
    return link.pk
