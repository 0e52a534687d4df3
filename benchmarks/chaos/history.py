"""History of a round: a file with one line for each call that started."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple, Self

#: Environment variable with the path of the file, for workers.
VARIABLE: Final = "CHAOS_HISTORY"


class Call(NamedTuple):
    """Start of a call: its link, run, number of earlier attempts, and process."""

    link: int
    run: int
    attempts: int
    pid: int

    @classmethod
    def parse(cls, line: str) -> Self:
        return cls(*map(int, line.split()))


def record(call: Call) -> None:
    """Append one line in a single write, so that lines of several processes do not mix."""
    line = " ".join(map(str, call))
    file = os.open(os.environ[VARIABLE], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        os.write(file, f"{line}\n".encode())
    finally:
        os.close(file)


def calls() -> list[Call]:
    """Return all calls of the round."""
    path = Path(os.environ[VARIABLE])
    return [Call.parse(line) for line in path.read_text().splitlines()] if path.exists() else []


def repeated_attempts() -> int:
    """Return the number of attempts that started twice, because a worker died or was stopped."""
    attempts = Counter((call.link, call.run, call.attempts) for call in calls())
    return sum(count > 1 for count in attempts.values())
