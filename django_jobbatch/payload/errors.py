"""What cannot be stored as JSON, and what to pass instead."""

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

#: A message shows so many steps of the way to a value.
MAX_PATH_STEPS: Final = 8


#: And so many characters of a value.
MAX_REPR_LENGTH: Final = 60


class EncodingError(Exception):
    """A value that cannot be stored; the way to it is put together as the exception rises."""

    def __init__(self, what: str, hint: str) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint
        self.steps: list[str] = []

    def prefixed(self, step: str) -> EncodingError:
        """The same refusal, one step further out."""
        self.steps.append(step)
        return self

    def as_public_error(self, where: str) -> UnencodableArgument:
        """The error for the caller, who knows this value as `where`."""
        steps = self.steps[::-1]
        way = "".join(steps[:MAX_PATH_STEPS]) + ("..." if len(steps) > MAX_PATH_STEPS else "")
        return UnencodableArgument(
            f"{where}{way}: {self.what} cannot be stored as JSON; {self.hint}"
        )


def error_for(value: object) -> EncodingError:
    """The refusal of `value` because of its type."""
    for matches, what, way_out in _HINTS:
        if matches(value):
            return EncodingError(what.format(type(value).__qualname__), way_out)
    return EncodingError(
        f"an object of type {type(value).__qualname__}", "pass the plain values the job needs"
    )


def short_repr(value: object) -> str:
    """`repr` of a value, cut to a length that suits a message."""
    text = repr(value)
    return text if len(text) <= MAX_REPR_LENGTH else f"{text[: MAX_REPR_LENGTH - 3]}..."


def _of(*kinds: type) -> Callable[[object], bool]:
    return lambda value: isinstance(value, kinds)


def _is_namedtuple(value: object) -> bool:
    return isinstance(value, tuple) and hasattr(value, "_asdict")


#: (matches, what it is, the way out): the first that matches speaks.
_HINTS: Final[tuple[tuple[Callable[[object], bool], str, str], ...]] = (
    (_of(Enum), "a member of the enum {}", "pass .value"),
    (_of(models.Model), "a model instance ({})", "pass .pk"),
    (_of(models.QuerySet), "a {}", "pass list(qs.values_list('pk', flat=True))"),
    (_of(Promise), "a lazy translation", "pass str(x)"),
    (_of(set, frozenset), "a {}", "pass a list"),
    (_of(bytes, bytearray, memoryview), "a {}", "pass text, e.g. base64"),
    (_of(io.IOBase, File), "a file ({})", "pass its path or name"),
    (_of(type), "a class", "pass its dotted path"),
    (is_dataclass, "a dataclass ({})", "pass dataclasses.asdict(x)"),
    (_is_namedtuple, "a named tuple ({})", "pass tuple(x) or x._asdict()"),
    (callable, "a callable ({})", "pass its dotted path"),
    (_of(Iterator), "an iterator ({})", "pass list(x)"),
    (_of(Mapping), "a mapping of type {}", "pass dict(x)"),
    (_of(tuple), "a tuple of type {}", "pass tuple(x)"),
    (_of(Collection), "a collection of type {}", "pass list(x)"),
)
