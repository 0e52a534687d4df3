"""Stored calls as text. Nothing is called, and signatures are not checked."""

from __future__ import annotations

from dataclasses import dataclass

from django_jobbatch import payload, tuning
from django_jobbatch.exceptions import PayloadRefused
from django_jobbatch.text import escape


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
            (escape(name), _short_value(value)) for name, value in named[: tuning.MAX_ARGUMENTS]
        ],
        omitted=max(0, len(named) - tuning.MAX_ARGUMENTS),
    )


def call_line(text: str) -> str:
    """Return the call in a stored payload in Python syntax."""
    call = display_call(text)
    arguments = [value if name.isdecimal() else f"{name}={value}" for name, value in call.arguments]
    if call.omitted:
        arguments.append("…")
    return f"{call.path}({', '.join(arguments)})"


def _short_value(value: object) -> str:
    text = repr(value)
    return (
        text
        if len(text) <= tuning.MAX_ARGUMENT_LENGTH
        else f"{text[: tuning.MAX_ARGUMENT_LENGTH]}…"
    )
