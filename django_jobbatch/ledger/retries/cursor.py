"""The progress of a retry through the lanes of a batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final, Self

from django.utils import timezone

from django_jobbatch.models import JobBatch

#: The lane of a cursor that has not reached any lane.
BEFORE_FIRST_LANE: Final = -1


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryCursor:
    """The progress of a retry, as the batch row keeps it between two chunks.

    Attributes:
        lane: The last lane that was reset.
        include_cancelled: Cancelled links are reset too, where failures are allowed.
        include_partial: Succeeded stand-ins are reset too if their tree has retryable jobs.
        all_jobs: The retry resets everything. Otherwise it resets chosen jobs, and only its own
            process knows which.
        moved_at: The time of the last chunk.
    """

    lane: int = BEFORE_FIRST_LANE
    include_cancelled: bool = True
    include_partial: bool = True
    all_jobs: bool = True
    moved_at: str = ""

    @classmethod
    def of(cls, batch: JobBatch | None) -> Self | None:
        """Return the cursor of a batch; None if no retry is in progress."""
        return None if batch is None or batch.retry_cursor is None else cls(**batch.retry_cursor)

    def advanced_to(self, lane: int) -> dict[str, Any]:
        """Return the value to store once this lane is reset."""
        return asdict(replace(self, lane=lane, moved_at=timezone.now().isoformat()))

    def is_stalled(self, seconds: float) -> bool:
        """Return whether the last chunk is older than this, so that the process must be dead."""
        return datetime.fromisoformat(self.moved_at) < timezone.now() - timedelta(seconds=seconds)
