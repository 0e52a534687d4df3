"""Stored calls as text. Nothing is called, and signatures are not checked."""

from __future__ import annotations

from dataclasses import dataclass

from django_jobbatch import payload, tuning
from django_jobbatch.exceptions import PayloadRefused
from django_jobbatch.text import ELLIPSIS, escape, short_repr


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayCall:
    """Path of a function, and its arguments as names and text.

    Attributes:
        omitted: Number of arguments after the first `MAX_ARGUMENTS`.
    """

    path: str
    arguments: list[tuple[str, str]]
    omitted: int


def display_call(text: str) -> DisplayCall:
    """Return the call in a stored payload; an unreadable payload gives no arguments."""
    try:
        call = payload.load_unverified(text)
    except PayloadRefused:
        return DisplayCall(path=payload.UNREADABLE, arguments=[], omitted=0)
    named = [(str(number), value) for number, value in enumerate(call.args, 1)]
    named += call.kwargs.items()
    return DisplayCall(
        path=escape(call.path),
        arguments=[
            (escape(name), short_repr(value, tuning.MAX_ARGUMENT_LENGTH))
            for name, value in named[: tuning.MAX_ARGUMENTS]
        ],
        omitted=max(0, len(named) - tuning.MAX_ARGUMENTS),
    )


def call_line(text: str) -> str:
    """Return the call in a stored payload in Python syntax."""
    call = display_call(text)
    arguments = [value if name.isdecimal() else f"{name}={value}" for name, value in call.arguments]
    if call.omitted:
        arguments.append(ELLIPSIS)
    return f"{call.path}({', '.join(arguments)})"
