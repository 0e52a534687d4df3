"""The benchmarks run, on servers of their own, and print what they promise."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from django.db import connection

from benchmarks.chart import Bar, Panel, svg
from benchmarks.documentation import replace_part
from benchmarks.figures import origin
from benchmarks.journal import Journal
from benchmarks.peers.sides import SIDES
from benchmarks.scale.aims import ROWS
from benchmarks.scale.counting import POSTGRES, logged
from benchmarks.scale.measured import Measured
from tests.settings import ROOT
from tests.thoroughness import tries

PAGE = ROOT / "docs" / "explanation" / "performance.md"

DATABASES = {"sqlite": "sqlite", "postgresql": "postgres", "mysql": "mariadb"}


def run(module: str, *arguments: str) -> dict[str, Any]:
    done = subprocess.run(
        [
            *(sys.executable, "-m", f"benchmarks.{module}", "--json"),
            *("--database", DATABASES[connection.vendor], *arguments),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
def test_the_benchmark_of_batches_prints_every_rate_and_ratio() -> None:
    found = run("batch", "--jobs", "40", "--rounds", "1")

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
    found = run("prune", "--rows", "3000")

    assert (found["rows"], found["correct"]) == (3000, True)
    assert found["rows_per_s"] > 0
    assert found.keys() >= {"seconds", "longest_statement_s", "memory_growth_mb", "machine"}


@pytest.mark.slow
def test_the_benchmark_of_pipelines_prints_every_figure() -> None:
    found = run("pipelines", "--files", "20", "--links", "20", "--hops", "4")

    assert found.pop("machine")["processors"] > 0
    assert found.pop("sizes") == {"files": 20, "links": 20, "hops": 4}
    assert (found["finally_count"], found["steps_queries"]) == (1, 1)
    assert sorted(found) == [
        "bytes_per_hop",
        "bytes_per_hop_changing_queues",
        "chain_links_per_s",
        "dispatched_links_per_s",
        "dispatcher_peak_mb",
        "finally_count",
        "finally_latency_s",
        "flat_jobs_per_s",
        "links_per_s",
        "links_vs_flat",
        "peak_mb",
        "sent_per_hop_changing_queues",
        "steps_queries",
        "steps_s",
        "worker_peak_mb",
    ]
    assert all(figure > 0 for figure in found.values())


@pytest.mark.slow
def test_a_round_of_chaos_ends_without_a_violation_and_prints_its_figures() -> None:
    found = run("chaos", "--rounds", "1", "--seed", "1")

    assert found.pop("links") > 0
    assert sum(found.pop("faults").values()) > 0
    assert sorted(found.pop("recovery_s")) == ["median", "worst"]
    assert found == {"rounds": 1, "seeds": "1", "violations": 0} | {
        name: found[name] for name in ("late", "registries", "rerun", "retried")
    }


def test_the_benchmark_of_a_flushed_server_prints_what_the_command_took() -> None:
    found = run("flush", "--links", "60", "--per-batch", "20")

    assert found.pop("machine")["processors"] > 0
    assert found.pop("seconds") > 0
    assert found == {"links": 60, "batches": 3, "tickets": 3, "correct": True}


@pytest.mark.slow
def test_the_comparison_with_other_packages_prints_every_rate_and_each_reason_without_one() -> None:
    sides = "batches,rq_simple_worker,celery"
    found = run("peers", "--here", "--smallest", "--rounds", "1", "--only", sides)

    assert {work: sorted(rates) for work, rates in found["works"].items()} == {
        "tasks": ["batches", "rq_simple_worker"],
        "group_1000": ["batches", "rq_simple_worker"],
        "batch_10": ["batches", "rq_simple_worker"],
        "batch_1000": ["batches", "rq_simple_worker"],
        "batch_5000": ["batches"],
    }
    assert {work: sorted(ratios) for work, ratios in found["ratios"].items()} == {
        "tasks": ["rq_simple_worker"],
        "group_1000": ["rq_simple_worker"],
        "batch_10": ["rq_simple_worker"],
        "batch_1000": ["rq_simple_worker"],
        "batch_5000": [],
    }
    for rates in found["works"].values():
        for side in rates.values():
            assert side["per_s"]["low"] == side["per_s"]["median"] == side["per_s"]["high"] > 0
            assert side["sent_per_s"]["median"] > 0
            assert side["cpu_ms"]["median"] >= 0
    assert found["not_measured"]["celery"] == {
        "": "celery is not installed in this environment",
    }
    assert sorted(found["not_measured"]["rq_simple_worker"]) == ["batch_5000"]
    assert found["machine"]["processors"] > 0
    assert found["command"].startswith("python -m benchmarks.peers")


@pytest.mark.slow
def test_the_benchmark_of_the_aims_prints_the_value_and_the_aim_of_every_row() -> None:
    few = ["small_dispatch", "dispatch_large", "cancel"]
    rows = list(ROWS)[: tries(quick=0, full=len(ROWS))] or few

    found = run("scale", "--smallest", "--only", ",".join(rows))

    assert list(found["rows"]) == rows
    for name, row in found["rows"].items():
        assert row["title"] == ROWS[name].title
        assert [check["title"] for check in row["checks"]] == [
            check.title for check in ROWS[name].checks
        ]
        for check in row["checks"]:
            assert check["aim"] in row["aim"]
            # Either a value that is judged, or the reason why there is none.
            assert check["met"] in ((None,) if check["value"] is None else (True, False))
            assert bool(check.get("reason")) == (check["value"] is None)
        met = [check["met"] for check in row["checks"]]
        assert row["met"] == (False if False in met else None if None in met else True)
    parent = found["rows"]["small_dispatch"]["checks"][0]
    assert parent["reason"] == "it compares with a parent: --parent REV"
    assert found["machine"]["processors"] > 0


def test_a_row_is_judged_by_its_aims() -> None:
    """By the parent, by another package, and by figures of the same round."""
    rounds = [
        {"current": {"run_per_s": rate, "few_writers_per_s": 5, "many_writers_per_s": 3}}
        | {"parent": {"run_per_s": 10}}
        for rate in (12, 16, 40)
    ]
    peers = {"ratios": {"tasks": {"celery": {"median": 9, "low": 8, "high": 10}}}}
    measured = Measured(rounds, "postgres", peers)

    run_large, writers = ROWS["run_large"].judge(measured), ROWS["many_writers"].judge(measured)

    assert [check["value"] for check in run_large["checks"]] == [
        {"median": 1.6, "low": 1.2, "high": 4.0},
        {"median": 9, "low": 8, "high": 10},
    ]
    assert (run_large["met"], writers["met"]) == (True, False)
    assert writers["value"] == {"median": 0.6, "low": 0.6, "high": 0.6}
    assert ROWS["run_large"].judge(Measured(rounds[:1], "postgres"))["met"] is False
    assert ROWS["run_large"].judge(Measured(rounds[1:], "postgres"))["met"] is None
    assert ROWS["chain"].judge(measured)["met"] is None


@pytest.mark.slow
def test_an_earlier_commit_is_measured_by_the_same_benchmark() -> None:
    """Only rows that compare with it are measured there."""
    rows = "small_dispatch,dispatch_large"
    report = run("scale", "--smallest", "--only", rows, "--parent", "HEAD")
    found = report["rows"]

    trees = {
        row: {name: sorted(by_tree) for name, by_tree in found[row]["figures"].items()}
        for row in found
    }
    assert trees == {
        "small_dispatch": {
            "dispatch_small_cpu_ms": ["current", "parent"],
            "redis_dispatch": ["current", "parent"],
        },
        "dispatch_large": {"dispatch_per_s": ["current"], "enqueue_many_per_s": ["current"]},
    }
    assert report["parent"] == "HEAD"


def test_statements_that_were_sent_together_are_counted_one_by_one() -> None:
    log = """\
7 LOG:  statement: BEGIN
7 LOG:  statement: UPDATE batch SET version = 1;
\tSELECT id
\tFROM link;
\tDELETE FROM link
8 LOG:  statement: SELECT 1
7 LOG:  execute _pg3_0: COMMIT
7 DETAIL:  parameters: $1 = '1;
\tCOMMIT'
"""

    assert list(logged(log, POSTGRES)) == [
        ("7", "BEGIN"),
        ("7", "UPDATE batch SET version = 1;"),
        ("7", "SELECT id"),
        ("7", "DELETE FROM link"),
        ("8", "SELECT 1"),
        ("7", "COMMIT"),
    ]


def test_the_page_has_every_row_of_the_aims_and_every_package() -> None:
    page = PAGE.read_text()
    rows = [f"| {row.title}: {check.title} |" for row in ROWS.values() for check in row.checks]
    packages = [f"| {side.title} |" for side in SIDES.values()]

    assert [text for text in [*rows, *packages] if text not in page] == []
    for name in ("peers", "scale"):
        assert f"({name}.svg)" in page
        ElementTree.parse(PAGE.with_name(f"{name}.svg"))  # noqa: S314 - it is our own file


def test_a_generated_part_of_a_page_replaces_only_what_is_between_its_markers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = tmp_path / "page.md"
    monkeypatch.setattr("benchmarks.documentation.PAGE", page)
    page.write_text("before\n<!-- one: generated -->\nold\n<!-- one: end -->\nafter\n")

    replace_part("one", ["new", r"and \1"])

    assert page.read_text() == (
        "before\n<!-- one: generated -->\nnew\nand \\1\n<!-- one: end -->\nafter\n"
    )
    with pytest.raises(ValueError, match="has not exactly one <!-- two: generated -->"):
        replace_part("two", [])


def test_a_chart_is_well_formed_and_has_every_bar() -> None:
    bars = [Bar("a & b", 1.0, "2"), Bar("c", 0.5, "< 1", "own")]

    document = svg("Title", [Panel("Panel", bars, line=0.5)])
    root = ElementTree.fromstring(document)  # noqa: S314 - it is our own text

    name = "{http://www.w3.org/2000/svg}"
    texts = [text.text for text in root.iter(f"{name}text")]
    assert texts == ["Panel", "a & b", "2", "c", "< 1"]
    widths = [float(bar.get("width", 0)) for bar in root.iter(f"{name}rect")][1:]
    assert widths[0] == 2 * widths[1] > 0


def test_a_benchmark_continues_the_rounds_in_a_file_of_the_same_conditions(tmp_path: Path) -> None:
    file = tmp_path / "rounds.json"
    Journal({"sizes": "quick"}, file).add({"figure": 1})

    assert Journal({"sizes": "quick"}, file).rounds == [{"figure": 1}]
    with pytest.raises(SystemExit, match="has rounds under other conditions"):
        Journal({"sizes": "full"}, file)
    file.write_text(json.dumps({"conditions": {"sizes": "quick"}, "rounds": [{"figure": 1}]}))
    with pytest.raises(SystemExit, match="does not say where its rounds were measured"):
        Journal({"sizes": "quick"}, file)


def test_the_command_of_figures_has_the_options_that_change_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    options = "--quick --append=/tmp/a --only tasks --append /tmp/a --peers /tmp/p.json --here"
    monkeypatch.setattr("sys.argv", ["", *options.split()])
    monkeypatch.setattr("benchmarks.figures.machine", dict)

    found = origin("scale", {"load": 1.5})

    command = "python -m benchmarks.scale --quick --only tasks --peers p.json"
    assert found == {"machine": {}, "load": 1.5, "command": command}
