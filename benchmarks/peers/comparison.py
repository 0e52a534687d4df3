"""Rounds of the comparison, and their figures."""

from __future__ import annotations

import json
import sys
from argparse import Namespace
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import django_rq
from django.core.management import call_command

from benchmarks.figures import origin, spread
from benchmarks.journal import Journal
from benchmarks.peers import documentation
from benchmarks.peers.side import Side
from benchmarks.peers.sides import OURS, SIDES, missing
from benchmarks.peers.work import SMALLEST, Work, works
from sandbox.servers import ServerFailed

QUICK_SCALE: Final = 0.25

#: Measurements of one round, by work and side.
Round = dict[str, dict[str, dict[str, float]]]


def compare(chosen: Namespace, folder: Path) -> None:
    """Measure the missing rounds, print the figures, and write the docs if that is chosen."""
    names = chosen.only or list(SIDES)
    planned = SMALLEST if chosen.smallest else works(QUICK_SCALE if chosen.quick else 1.0)
    sizes = {work.name: {"count": work.count, "size": work.size} for work in planned}
    journal = Journal({"database": chosen.database, "sides": names, "sizes": sizes}, chosen.append)
    absent = {name: reason for name in names if (reason := missing(name))}
    classes = {name: SIDES[name].load() for name in names if name not in absent}
    for name, reason in absent.items():
        _report(f"{SIDES[name].title} is not measured: {reason}")
    while len(journal.rounds) < chosen.rounds:
        _report(f"round {len(journal.rounds) + 1} of {chosen.rounds}")
        journal.add(_round(classes, planned, folder))
    found = {
        **_figures(journal.rounds),
        "not_measured": {
            **{name: {"": reason} for name, reason in absent.items()},
            **{name: dict(side.reasons) for name, side in classes.items() if side.reasons},
        },
        "sizes": sizes,
        **origin("peers", journal.circumstances, *_packages(classes)),
    }
    if chosen.write_docs:
        documentation.write(found)
    print(json.dumps(found, indent=2) if chosen.json else documentation.text(found))


def _round(classes: dict[str, type[Side]], planned: Sequence[Work], folder: Path) -> Round:
    """Let every side do each piece of work once, one side after the other."""
    rates: Round = {work.name: {} for work in planned}
    with _warm_sides(classes, folder) as sides:
        for work in planned:
            for name, side in sides.items():
                if work.name not in side.reasons:
                    measured = side.measure(work)
                    rates[work.name][name] = measured._asdict()
                    _report(
                        f"{work.name:<12}{name:<18}{measured.sent_per_s:>10,.1f} sent/s"
                        f"{measured.per_s:>10,.1f} run/s{measured.cpu_ms:>9.2f} ms of processor time"
                    )
    return rates


@contextmanager
def _warm_sides(classes: dict[str, type[Side]], folder: Path) -> Iterator[dict[str, Side]]:
    """Start the workers of all sides, let them run a few jobs, and end them afterwards."""
    _empty_servers()
    sides: dict[str, Side] = {}
    try:
        for name, side_class in classes.items():
            sides[name] = side_class(folder)
            sides[name].warm_up()
        yield sides
    except ServerFailed as failure:
        logs = "\n".join(f"--- {name}\n{side.tail()}" for name, side in sides.items())
        raise ServerFailed(f"{failure}\n{logs}") from failure
    finally:
        for side in sides.values():
            side.stop()


def _empty_servers() -> None:
    """Delete all rows and keys, so that each round finds the same state."""
    call_command("flush", interactive=False, verbosity=0)
    django_rq.get_connection("default").flushall()


def _figures(rounds: Sequence[Round]) -> dict[str, Any]:
    """Return the median and range of each rate, and of its ratio to the rate of this package.

    A ratio is computed within a round, so both rates are of the same state of the machine.
    """
    works_of: dict[str, Any] = {}
    ratios: dict[str, Any] = {}
    for work, sides in rounds[0].items():
        works_of[work] = {
            name: {
                figure: spread([each[work][name][figure] for each in rounds]) for figure in figures
            }
            for name, figures in sides.items()
        }
        ratios[work] = {
            name: spread([each[work][OURS]["per_s"] / each[work][name]["per_s"] for each in rounds])
            for name in sides
            if OURS in sides and name != OURS
        }
    return {"works": works_of, "ratios": ratios, "rounds": len(rounds)}


def _packages(names: Iterable[str]) -> list[str]:
    """Return the packages of these sides whose versions are shown; ours is the revision."""
    packages = (SIDES[name].package for name in names if not name.startswith(OURS))
    return sorted({package for package in packages if package != "rq"})


def _report(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
