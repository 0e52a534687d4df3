"""The progress of a retry through the lanes of a batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self

from django.utils import timezone

from django_jobbatch.models import JobBatch

#: Where a retry stands that begins anew with the first lane.
BEFORE_FIRST_LANE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryCursor:
    """A retry on its way through the lanes of a batch, as its row keeps it between two pages.

    `to` is the lane that it has come to; `at` is when that was. What somebody's cancel ended comes
    back only with `include_cancelled`, child batches that went well only with `partial_too`. Without
    `rest` its further pages are jobs that somebody has chosen, and nobody else knows which.
    """

    lane: int = BEFORE_FIRST_LANE
    include_cancelled: bool = True
    include_partial: bool = True
    all_jobs: bool = True
    moved_at: str = ""

    @classmethod
    def of(cls, batch: JobBatch | None) -> Self | None:
        """The retry that goes through this batch, if there is one."""
        return None if batch is None or batch.retry_cursor is None else cls(**batch.retry_cursor)

    def advanced_to(self, lane: int) -> dict[str, Any]:
        """What to keep of it now that it has come so far."""
        return asdict(replace(self, lane=lane, moved_at=timezone.now().isoformat()))

    def is_stalled(self, seconds: float) -> bool:
        """Whether its last page is so long ago that who went through them must be dead."""
        return datetime.fromisoformat(self.moved_at) < timezone.now() - timedelta(seconds=seconds)
