"""Inserting the links of a batch, with the child batches in them."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from typing import TypeAlias

from django_jobbatch import dispatch, ledger, tuning
from django_jobbatch.connection_state import ConnectionCheck
from django_jobbatch.ledger import Change
from django_jobbatch.models import JobBatch
from django_jobbatch.operations.batch_rows import child_batch_row
from django_jobbatch.operations.deleted_rows import refresh
from django_jobbatch.operations.link_rows import (
    NO_LINKS,
    LinkChunk,
    LinkReader,
    PlacedLink,
    placed_lanes,
)
from django_jobbatch.specs.batch import BatchSpec
from django_jobbatch.specs.items import read_lanes
from django_jobbatch.states import BatchStatus

#: The insertion of one batch. It yields the insertions of large child batches.
Steps: TypeAlias = "Iterator[Steps]"


def store_links(using: str, batch: JobBatch, placed: Iterator[PlacedLink]) -> int:
    """Store links in a batch whose row this transaction has written, and return their number.

    They are counted there, and tickets are sent when the transaction commits.
    """
    reader = LinkReader(batch, placed)
    _run(_insert_chunks(using, reader, reader.read_chunk(tuning.INSERT_CHUNK)))
    if reader.count:
        dispatch.after_commit(ledger.count_inserted(using, batch, **reader.totals()))
    return reader.count


class NewBatch:
    """A batch that is not stored yet, with its links.

    If its links are few and read before, its row is inserted with its counters. Otherwise the
    counters are written after the last link.
    """

    def __init__(self, using: str, row: JobBatch, spec: BatchSpec) -> None:
        self.row = row
        self._using = using
        self._spec = spec
        self._reader: LinkReader | None = None
        self._read = NO_LINKS
        self._change: Change | None = None

    @property
    def is_small(self) -> bool:
        """Whether its rows can be inserted together with those of other batches."""
        return self._change is not None and not self._read.children

    @property
    def links(self) -> Sequence[ledger.LinkRow]:
        """The rows of the links that were read and are not inserted yet."""
        return self._read.rows

    def read(self) -> None:
        """Read the first chunk of links; count them on the row if they are all.

        A `before` function needs the stored row, and may add jobs to it. So nothing is read if
        there is one.
        """
        if self._spec.before:
            return
        reader = self._new_reader()
        self._read = reader.read_chunk(tuning.INSERT_CHUNK)
        # An empty root finishes, which needs its row.
        is_countable = reader.count or self.row.status == BatchStatus.WAITING
        if len(self._read.rows) < tuning.INSERT_CHUNK and is_countable:
            self._change = ledger.count_new(self._using, self.row, **reader.totals())

    def insert_row(self) -> tuple[JobBatch, bool]:
        """Insert the row of a root, or find the batch that has its unique key."""
        return ledger.insert_batch(self._using, self.row)

    def insert_tree(self) -> Change:
        """Insert the links of a root, whose row is inserted, and all descendants."""
        _run(self.steps())
        assert self._change is not None  # noqa: S101 - the last step sets it
        return self._change

    def steps(self) -> Steps:
        """Insert the links once the row is inserted, and count them if that is not done."""
        run_before_hooks(self._using, self.row, self._spec)
        reader = self._reader
        if reader is None:
            reader = self._new_reader()
            self._read = reader.read_chunk(tuning.INSERT_CHUNK)
        yield from _insert_chunks(self._using, reader, self._read)
        if self._change is None:
            self._change = ledger.count_inserted(self._using, self.row, **reader.totals())

    def _new_reader(self) -> LinkReader:
        lanes = read_lanes(self._spec.sources)
        self._reader = LinkReader(self.row, placed_lanes(lanes, self.row.total_jobs))
        return self._reader


def run_before_hooks(using: str, batch: JobBatch, spec: BatchSpec) -> None:
    """Call the `before` functions of a new batch, which may add jobs to it.

    Raises:
        BatchDeleted: one of them has deleted the batch.
    """
    for function in spec.before:
        with ConnectionCheck(close=False, own=using):
            function(batch)
    if spec.before:
        refresh(using, batch)


def _run(steps: Steps) -> None:
    """Insert a batch and its large descendants.

    A stack replaces recursion: memory stays flat, and depth is not limited.
    """
    stack = [steps]
    while stack:
        following = next(stack[-1], None)
        if following is None:
            stack.pop()
        else:
            stack.append(following)


def _insert_chunks(using: str, reader: LinkReader, chunk: LinkChunk) -> Steps:
    """Insert the links of a batch, chunk by chunk, and after each chunk its child batches."""
    while chunk.rows:
        ids = ledger.insert_links(using, chunk.rows)
        yield from _insert_children(using, reader.batch, chunk.children, ids)
        chunk = reader.read_chunk(tuning.INSERT_CHUNK)


def _insert_children(
    using: str,
    parent: JobBatch,
    children: Sequence[tuple[uuid.UUID, BatchSpec]],
    ids: dict[uuid.UUID, int],
) -> Steps:
    """Insert child batches in their order: small ones together, each large one by its own steps.

    `ids` are the ids of the stand-ins, by the ids of the child batches.
    """
    group: list[NewBatch] = []
    for pk, spec in children:
        child = NewBatch(using, child_batch_row(spec, parent, pk, ids[pk]), spec)
        child.read()
        if child.is_small:
            group.append(child)
        if not child.is_small or sum(len(each.links) for each in group) >= tuning.INSERT_CHUNK:
            _insert_group(using, group)
            group = []
        if not child.is_small:
            ledger.insert_children(using, [child.row])
            yield child.steps()
    _insert_group(using, group)


def _insert_group(using: str, group: Sequence[NewBatch]) -> None:
    """Insert small child batches with their links."""
    if group:
        ledger.insert_children(using, [each.row for each in group])
        ledger.insert_links(using, [link for each in group for link in each.links])
