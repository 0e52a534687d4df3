"""What may go wrong, and when it does in a round: drawn from its seed."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

#: Whom it befalls, and how often beside the others.
FAULTS: Final = {
    "horse_killed": 4,
    "horse_frozen": 2,
    "worker_killed": 3,
    "worker_orphaned_its_horse": 2,
    "worker_terminated": 2,
    "ticket_lost": 2,
    "tickets_doubled": 3,
    "redis_flushed": 2,
    "redis_restarted": 2,
    "connections_dropped": 2,
    "database_restarted": 1,
    "database_locked": 2,
    "dispatcher_killed": 2,
    "canceller_killed": 1,
    "retrier_killed": 2,
    "deleter_killed": 2,
    "cancelled": 1,
    "retried": 4,
    "deleted": 2,
    "reconciled_by_three": 3,
}
#: What a database server can do, and what SQLite does in its place.
OF_SERVERS: Final = ("connections_dropped", "database_restarted")
OF_SQLITE: Final = ("database_locked",)
#: Seconds after the first call of an act within which they come.
SPAN: Final = 1.2
#: The same for an act in which less is to be run.
SHORT_SPAN: Final = 0.8


class Fault(NamedTuple):
    """One fault: seconds after the first call of its act, what, and a number that chooses whom."""

    at: float
    kind: str
    choice: int


def possible(database: str) -> list[str]:
    """The faults that this database can have."""
    impossible = OF_SERVERS if database == "sqlite" else OF_SQLITE
    return [kind for kind in FAULTS if kind not in impossible]


def draw(random: Random, kinds: Sequence[str], least: int, most: int, span: float) -> list[Fault]:
    """Some faults of these kinds, in order."""
    number = random.randint(least, most)
    chosen = random.choices(kinds, [FAULTS[kind] for kind in kinds], k=number)
    times = sorted(random.uniform(0, span) for _ in chosen)
    return [
        Fault(round(at, 2), kind, random.randrange(1000))
        for at, kind in zip(times, chosen, strict=True)
    ]
