"""A broken rule."""

from __future__ import annotations

import uuid
from dataclasses import dataclass


@dataclass(frozen=True)
class Violation:
    """Broken rule, and the batch whose rows show it."""

    text: str
    batch_id: uuid.UUID | None = None
