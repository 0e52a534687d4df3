"""Changes that wait to be applied, shared by the runner and its heartbeat."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from django_jobbatch.ledger import Change, Claimant
from django_jobbatch.logs import get_logger

logger = get_logger(__name__)


@dataclass(slots=True)
class _Entry:
    """A change, the thread that added it, and whether it could not be applied once."""

    change: Change
    has_progress: bool
    owner: int = field(default_factory=threading.get_ident)
    has_failed: bool = False


class ChangeQueue:
    """Committed changes in their order; each one stays until it is applied.

    An error leaves the change in the queue, so the next call applies it, in either thread. A change
    with progress is kept once more, until its progress is reported.
    """

    def __init__(self) -> None:
        self._applying = threading.Lock()
        self._pending: deque[_Entry] = deque()
        self._unreported: deque[Change] = deque()

    def add(self, change: Change, *, has_progress: bool = False) -> None:
        """Append a change; `has_progress` says that it settled jobs of the runner's batch."""
        self._pending.append(_Entry(change, has_progress))

    def apply_all(self, apply: Callable[[Change], None]) -> None:
        """Apply the pending changes, the oldest first; wait while the other thread applies some."""
        with self._applying:
            while self._pending:
                self._apply_first(apply)

    def apply_own(self, apply: Callable[[Change], None]) -> None:
        """Apply the pending changes of this thread, and those that could not be applied once.

        It stops at another change, which its own thread is about to apply. While the other thread
        applies changes, it returns at once.
        """
        if not self._applying.acquire(blocking=False):
            return
        try:
            while self._pending and _is_own(self._pending[0]):
                self._apply_first(apply)
        finally:
            self._applying.release()

    def pop_unreported(self) -> Iterator[Change]:
        """Yield the applied changes whose progress is not reported yet, each of them once."""
        while self._unreported:
            yield self._unreported.popleft()

    def _apply_first(self, apply: Callable[[Change], None]) -> None:
        entry = self._pending[0]
        try:
            apply(entry.change)
        except BaseException:
            entry.has_failed = True
            raise
        if entry.has_progress:
            self._unreported.append(entry.change)
        self._pending.popleft()


def _is_own(entry: _Entry) -> bool:
    return entry.has_failed or entry.owner == threading.get_ident()


def log_delay(claimant: Claimant, error: Exception) -> None:
    """Log that a change stays queued after this error."""
    logger.warning(
        "Ticket %s could not apply a change of batch %s: %s. It tries again.",
        claimant.ticket,
        claimant.batch_id,
        error,
        extra={"batch_id": str(claimant.batch_id)},
    )
