"""Kinds of faults, and random faults of a phase.

The nemesis injects most of them. Hostile jobs are faults that the trees contain.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final, NamedTuple

from benchmarks.chaos.hostile import HOSTILE

#: Kinds of faults that the nemesis injects, with their weights.
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
    "foreign_jobs_queued": 1,
    "redis_full": 2,
    "redis_read_only": 2,
    "disk_full": 2,
    "log_handlers_broken": 2,
    "adder_killed": 2,
    "added": 2,
    "appended": 2,
}
#: Kinds of faults that the nemesis injects, and kinds of hostile jobs.
ALL: Final = (*FAULTS, *HOSTILE)
#: Faults of database servers only, and of SQLite only.
SERVER_FAULTS: Final = ("connections_dropped", "database_restarted")
SQLITE_FAULTS: Final = ("database_locked", "disk_full")
#: Seconds after the first call of a phase in which its faults occur.
SPAN: Final = 1.2
#: `SPAN` of a retry, which runs fewer jobs.
SHORT_SPAN: Final = 0.8


class Fault(NamedTuple):
    """Fault: seconds after the first call of its phase, its kind, and the number of its target."""

    at: float
    kind: str
    choice: int


def possible_faults(database: str) -> list[str]:
    """Return the kinds of faults that are possible with this database."""
    impossible = SERVER_FAULTS if database == "sqlite" else SQLITE_FAULTS
    return [kind for kind in ALL if kind not in impossible]


def hostile_kinds(kinds: Sequence[str]) -> list[str]:
    """Return the kinds of hostile jobs among these kinds."""
    return [kind for kind in kinds if kind in HOSTILE]


def random_faults(
    random: Random, kinds: Sequence[str], bounds: tuple[int, int], span: float
) -> list[Fault]:
    """Return random faults of these kinds in order; `bounds` limits their number."""
    kinds = [kind for kind in kinds if kind in FAULTS]
    number = random.randint(*bounds) if kinds else 0
    chosen = random.choices(kinds, [FAULTS[kind] for kind in kinds], k=number) if number else []
    times = sorted(random.uniform(0, span) for _ in chosen)
    return [
        Fault(round(at, 2), kind, random.randrange(1000))
        for at, kind in zip(times, chosen, strict=True)
    ]
