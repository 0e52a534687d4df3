"""The benchmark runs, on a server of its own, and prints what it promises."""

from __future__ import annotations

import json
import subprocess
import sys

from django.db import connection

from tests.settings import ROOT

DATABASES = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mariadb"}


def test_the_benchmark_prints_every_rate_and_ratio() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.batch", "--json"),
            *("--jobs", "40", "--rounds", "1", "--database", DATABASES[connection.vendor]),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    ratios = found.pop("ratios")
    rates = {name: rate for name, rate in found.items() if name.endswith("_per_s")}
    assert sorted(name for name in rates if not name.startswith("rq_")) == [
        "dispatch_per_s",
        "run_isolated_per_s",
        "run_per_s",
        "run_simple_per_s",
    ]
    assert sorted(ratios) == [
        "dispatch_vs_enqueue_many",
        "isolated_vs_simple_worker",
        "isolated_vs_worker",
        "run_vs_simple_worker",
        "run_vs_worker",
    ]
    assert all(figure > 0 for figure in [*rates.values(), *ratios.values()])
    assert found["rounds"] == 1
    assert found["machine"]["processors"] > 0


def test_the_benchmark_of_pruning_prints_what_the_command_took() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "benchmarks.prune", "--json"),
            *("--rows", "3000", "--database", DATABASES[connection.vendor]),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["rows"], found["correct"]) == (3000, True)
    assert found["rows_per_s"] > 0
    assert found.keys() >= {"seconds", "longest_statement_s", "memory_growth_mb", "machine"}
