"""Other sizes, caps and waits for one test: `tuning(LINKS_CHUNK=2)`; see `django_jobbatch.tuning`."""

from __future__ import annotations

import pytest

from django_jobbatch import tuning


class Tuning:
    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def __call__(self, **values: object) -> None:
        """Set these until the end of the test."""
        for name, value in values.items():
            self._patch.setattr(tuning, name, value)
