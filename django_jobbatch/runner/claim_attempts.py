"""The attempts of a runner to claim links. A ticket whose attempts were in vain sends no other one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.utils import timezone

from django_jobbatch import dispatch
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.interruptions import is_interruption


class ClaimAttempts:
    """Whether a runner has claimed a link, or has tried without success.

    A ticket that could claim none of the due links sends no other ticket for them: that one could
    claim none either, and would send the next. A row may be forged or unreadable. A change that makes a
    link due later sends a ticket for it.
    """

    def __init__(self, queue: str, using: str) -> None:
        self._queue = queue
        self._using = using
        self._in_vain_at: datetime | None = None
        self._may_continue = False

    @contextmanager
    def attempt(self) -> Iterator[None]:
        """Note the attempt in the block. One that is interrupted says nothing about the links."""
        tried_at = timezone.now()
        try:
            yield
        except BaseException as error:
            if is_interruption(error, self._queue, self._using):
                self.note_claim()
            raise
        finally:
            self._in_vain_at = None if self._may_continue else tried_at

    def note_claim(self) -> None:
        """Note that a link was claimed, or could have been."""
        self._may_continue = True

    def is_in_vain(self, batch: JobBatch) -> bool:
        """Return whether no link could be claimed; then schedule a ticket for later links only."""
        tried_at = self._in_vain_at
        if tried_at is None:
            return False
        if batch.next_event_at is not None and batch.next_event_at > tried_at:
            dispatch.schedule_next_event(batch)
        return True
