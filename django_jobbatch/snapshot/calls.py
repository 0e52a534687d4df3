"""A stored call as text, for people. Nothing of it is called, and its signature is not looked at."""

from __future__ import annotations

from dataclasses import dataclass

from django_jobbatch import payload, tuning
from django_jobbatch.exceptions import PayloadRefused


@dataclass(frozen=True, slots=True, kw_only=True)
class DisplayCall:
    """The path of a function, and its arguments as names and text.

    `left_out` is the number of arguments beyond the first hundred.
    """

    path: str
    arguments: list[tuple[str, str]]
    left_out: int


def display_call(text: str) -> DisplayCall:
    """The call in a stored payload; one that cannot be read has no arguments."""
    try:
        call = payload.load_unverified(text)
    except PayloadRefused:
        return DisplayCall(path=payload.UNREADABLE, arguments=[], left_out=0)
    named = [(str(place), value) for place, value in enumerate(call.args, 1)]
    named += call.kwargs.items()
    return DisplayCall(
        path=call.path,
        arguments=[(name, _short_value(value)) for name, value in named[: tuning.MAX_ARGUMENTS]],
        left_out=max(0, len(named) - tuning.MAX_ARGUMENTS),
    )


def call_line(text: str) -> str:
    """The call in a stored payload as it is written in Python."""
    call = display_call(text)
    arguments = [value if name.isdecimal() else f"{name}={value}" for name, value in call.arguments]
    if call.left_out:
        arguments.append("…")
    return f"{call.path}({', '.join(arguments)})"


def _short_value(value: object) -> str:
    text = repr(value)
    return (
        text
        if len(text) <= tuning.MAX_ARGUMENT_LENGTH
        else f"{text[: tuning.MAX_ARGUMENT_LENGTH]}…"
    )
