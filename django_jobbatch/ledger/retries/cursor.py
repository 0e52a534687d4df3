"""The progress of a retry through the lanes of a batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self

from django.utils import timezone

from django_jobbatch.ledger.ranges import Place
from django_jobbatch.models import JobBatch

#: The lane of a cursor that has not reached any lane.
BEFORE_FIRST_LANE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryCursor:
    """The progress of a retry, as the batch row keeps it between two chunks.

    Attributes:
        lane: The last lane that was reset.
        place: The end of the last range that was reset, in a batch without lanes and child batches.
        include_cancelled: Cancelled links are reset too, where failures are allowed.
        include_partial: Succeeded stand-ins are reset too if their tree has retryable jobs.
        all_jobs: The retry resets everything. Otherwise it resets chosen jobs, and only its own
            process knows which.
        moved_at: The time of the last chunk.
    """

    lane: int = BEFORE_FIRST_LANE
    place: Place | None = None
    include_cancelled: bool = True
    include_partial: bool = True
    all_jobs: bool = True
    moved_at: str = ""

    @classmethod
    def of(cls, batch: JobBatch | None) -> Self | None:
        """Return the cursor of a batch; None if no retry is in progress."""
        if batch is None or batch.retry_cursor is None:
            return None
        cursor = cls(**batch.retry_cursor)
        return cursor if cursor.place is None else replace(cursor, place=Place(*cursor.place))

    def advanced_to(self, lane: int) -> dict[str, Any]:
        """Return the value to store once this lane is reset."""
        return asdict(replace(self, lane=lane, moved_at=timezone.now().isoformat()))

    def advanced_to_place(self, place: Place) -> dict[str, Any]:
        """Return the value to store once the range up to this place is reset."""
        return asdict(replace(self, place=place, moved_at=timezone.now().isoformat()))

    def is_stalled(self, seconds: float) -> bool:
        """Return whether the last chunk is older than this, so that the process must be dead."""
        return datetime.fromisoformat(self.moved_at) < timezone.now() - timedelta(seconds=seconds)
