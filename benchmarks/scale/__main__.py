"""Benchmark of everything that shall be fast, with its aims.

    python -m benchmarks.scale --json --parent HEAD~10 --peers peers.json

Each row has the measured values, the aim, and whether it is met. `--parent REV` is for the rows that
compare with that commit: its worktree is measured with the benchmarks of this checkout, one after the
other in each round. Rows that compare with other packages need the output of `python -m
benchmarks.peers --json`. A value that cannot be measured is named with the reason.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.command import add_rounds, one_of, parser
from benchmarks.figures import origin
from benchmarks.journal import Journal
from benchmarks.scale import documentation
from benchmarks.scale.aims import ROWS
from benchmarks.scale.measured import Measured, flat_round
from benchmarks.scale.trees import Tree, trees
from benchmarks.stage import set_up
from sandbox.stage import Interrupts, run

ROUNDS: Final = {"full": 5, "quick": 1, "smallest": 1}


def main() -> None:
    chosen = _parser().parse_args()
    Interrupts()  # stop the servers if this process is stopped
    sizes = "quick" if chosen.quick else "smallest" if chosen.smallest else "full"
    wanted = chosen.rounds or ROUNDS[sizes]
    conditions = {"database": chosen.database, "sizes": sizes, "parent": chosen.parent}
    journal = Journal(conditions, chosen.append)
    rows = {name: row for name, row in ROWS.items() if not chosen.only or name in chosen.only}
    studies = {row.study: row.with_parent for row in rows.values()}
    with trees(chosen.database, chosen.parent) as measured_trees:
        os.environ |= measured_trees[0].environment
        set_up()
        for number in range(wanted):
            _measure_round(journal, number, studies, measured_trees, sizes)
        peers = json.loads(chosen.peers.read_text()) if chosen.peers else None
        rounds = [flat_round(each) for each in journal.rounds]
        measured = Measured(rounds, chosen.database, peers)
        found: dict[str, Any] = {
            "rows": {name: row.judge(measured) for name, row in rows.items()},
            "rounds": len(rounds),
            "sizes": sizes,
            "parent": chosen.parent,
            "peers": peers
            and {name: peers[name] for name in ("command", "dates", "revisions", "load")},
            **origin("scale", journal.circumstances),
        }
    if chosen.write_docs:
        documentation.write(found)
    print(json.dumps(found, indent=2) if chosen.json else documentation.text(found))


def _measure_round(
    journal: Journal,
    number: int,
    studies: Mapping[str, bool],
    measured_trees: Sequence[Tree],
    sizes: str,
) -> None:
    """Do the measurements that a round does not have yet, in this tree, and in the parent if wanted."""
    if len(journal.rounds) <= number:
        journal.add({})
    measurements = journal.rounds[number]
    for study, with_parent in studies.items():
        if study in measurements:
            continue
        started = time.perf_counter()
        ordered = measured_trees if with_parent else measured_trees[:1]
        # The first tree alternates, since the second one may profit from a warm machine.
        if number % 2:
            ordered = ordered[::-1]
        measurements[study] = {tree.name: tree.measure(study, sizes) for tree in ordered}
        journal.save()
        seconds = time.perf_counter() - started
        line = f"round {number + 1}, {study}: {seconds:.0f} s, {json.dumps(measurements[study])}"
        print(line, file=sys.stderr, flush=True)


def _parser() -> argparse.ArgumentParser:
    arguments = parser("scale", __doc__)
    rounds = ", ".join(f"{number} {name}" for name, number in ROUNDS.items())
    add_rounds(arguments, default=rounds)
    arguments.add_argument("--only", type=one_of(ROWS), metavar="ROW[,ROW]", help="only these rows")
    arguments.add_argument("--parent", metavar="REV", help="compare with this commit")
    arguments.add_argument(
        "--peers", type=Path, metavar="FILE", help="JSON of `python -m benchmarks.peers`"
    )
    return arguments


if __name__ == "__main__":
    run(main)
