"""The definition of a Task, of Django or of its backport."""

from __future__ import annotations

from typing import Final

_ATTRIBUTES: Final = ("module_path", "call", "using", "func", "takes_context")


def is_task(value: object) -> bool:
    """Return whether `value` is a Task."""
    return not isinstance(value, type) and all(hasattr(value, name) for name in _ATTRIBUTES)
