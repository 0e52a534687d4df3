"""A file to which every call of a round writes a line when it begins, whatever happens after."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple, Self

#: Where workers find the file of the round.
VARIABLE: Final = "CHAOS_DIARY"


class Call(NamedTuple):
    """One call that began: of which link, in which run, after how many attempts, in which process."""

    link: int
    run: int
    attempts: int
    pid: int

    @classmethod
    def read(cls, line: str) -> Self:
        return cls(*map(int, line.split()))


def write(call: Call) -> None:
    """Write one line, at once and whole, also while other processes do."""
    line = " ".join(map(str, call))
    target = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(target, f"{line}\n".encode())
    finally:
        os.close(target)


def calls() -> list[Call]:
    """All that has begun in this round."""
    path = Path(os.environ[VARIABLE])
    return [Call.read(line) for line in path.read_text().splitlines()] if path.exists() else []


def rerun() -> int:
    """How many attempts were made more than once: their worker died, or was told to stop."""
    attempts = Counter((call.link, call.run, call.attempts) for call in calls())
    return sum(count > 1 for count in attempts.values())
