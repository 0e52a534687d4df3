"""Errors for values that cannot be stored as JSON, with hints."""

from __future__ import annotations

import io
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import is_dataclass
from enum import Enum
from typing import Final

from django.core.files import File
from django.db import models
from django.utils.functional import Promise

from django_jobbatch.exceptions import UnencodableArgument

#: Keys and indexes of the path to a value that a message shows.
MAX_PATH_STEPS: Final = 8

#: Characters of a value that a message shows.
MAX_REPR_LENGTH: Final = 60


class EncodingError(Exception):
    """A value that cannot be stored. Each container prefixes its key or index to the path."""

    def __init__(self, description: str, hint: str) -> None:
        super().__init__(description, hint)
        self.description = description
        self.hint = hint
        self.steps: list[str] = []

    def prefixed(self, step: str) -> EncodingError:
        """Return this error with one more step before its path."""
        self.steps.append(step)
        return self

    def as_public_error(self, where: str, verb: str = "pass") -> UnencodableArgument:
        """Return the error for the caller. Its message starts with `where` and the path.

        A hint says "pass"; `verb` replaces that.
        """
        steps = self.steps[::-1]
        path = "".join(steps[:MAX_PATH_STEPS]) + ("..." if len(steps) > MAX_PATH_STEPS else "")
        hint = verb + self.hint.removeprefix("pass")
        return UnencodableArgument(
            f"{where}{path}: {self.description} cannot be stored as JSON; {hint}"
        )


def error_for(value: object) -> EncodingError:
    """Return the error for a value whose type cannot be stored."""
    for matches, description, hint in _HINTS:
        if matches(value):
            return EncodingError(description.format(type(value).__qualname__), hint)
    return EncodingError(
        f"an object of type {type(value).__qualname__}",
        "pass plain values: text, numbers, lists, dicts",
    )


def _instance_of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


def _is_namedtuple(value: object) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_asdict")


#: (matches, description, hint). The first match applies.
_HINTS: Final[tuple[tuple[Callable[[object], bool], str, str], ...]] = (
    (_instance_of(Enum), "a member of the enum {}", "pass .value"),
    (_instance_of(models.Model), "a model instance ({})", "pass .pk"),
    (_instance_of(models.QuerySet), "a {}", "pass list(qs.values_list('pk', flat=True))"),
    (_instance_of(Promise), "a lazy translation", "pass str(x)"),
    (_instance_of(set, frozenset), "a {}", "pass a list"),
    (_instance_of(bytes, bytearray, memoryview), "a {}", "pass text, e.g. base64"),
    (_instance_of(io.IOBase, File), "a file ({})", "pass its path or name"),
    (_instance_of(type), "a class", "pass its dotted path"),
    (is_dataclass, "a dataclass ({})", "pass dataclasses.asdict(x)"),
    (_is_namedtuple, "a named tuple ({})", "pass tuple(x) or x._asdict()"),
    (callable, "a callable ({})", "pass its dotted path"),
    (_instance_of(Iterator), "an iterator ({})", "pass list(x)"),
    (_instance_of(Mapping), "a mapping of type {}", "pass dict(x)"),
    (_instance_of(tuple), "a tuple of type {}", "pass tuple(x)"),
    (_instance_of(Collection), "a collection of type {}", "pass list(x)"),
)
