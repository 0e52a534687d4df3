"""Changes that wait to be applied, shared by the runner and its heartbeat."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple

from django_jobbatch.ledger import Change


class _Entry(NamedTuple):
    change: Change
    has_progress: bool


class ChangeQueue:
    """Committed changes in their order; each one stays until it is applied.

    An error leaves the change in the queue, so the next call of `apply_all` applies it, in either
    thread. A change with progress is kept once more, until its progress is reported.
    """

    def __init__(self) -> None:
        self._applying = threading.Lock()
        self._pending: deque[_Entry] = deque()
        self._unreported: deque[Change] = deque()

    def add(self, change: Change, *, has_progress: bool = False) -> None:
        """Append a change; `has_progress` says that it settled jobs of the runner's batch."""
        self._pending.append(_Entry(change, has_progress))

    def apply_all(self, apply: Callable[[Change], None], *, wait: bool = True) -> None:
        """Apply the pending changes, the oldest first.

        Without `wait`, return at once while the other thread applies them.
        """
        if not self._applying.acquire(blocking=wait):
            return
        try:
            while self._pending:
                change, has_progress = self._pending[0]
                apply(change)
                if has_progress:
                    self._unreported.append(change)
                self._pending.popleft()
        finally:
            self._applying.release()

    def pop_unreported(self) -> Iterator[Change]:
        """Yield the applied changes whose progress is not reported yet, each of them once."""
        while self._unreported:
            yield self._unreported.popleft()
