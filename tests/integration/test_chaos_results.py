"""The results of chaos are continued in a file, and a violation leaves its evidence in a folder."""

from __future__ import annotations

import json
import logging
import uuid
from pathlib import Path
from typing import Any, cast

import pytest

from benchmarks.chaos import evidence, faults, fragile_log
from benchmarks.chaos.round import Plan, Report
from benchmarks.chaos.summary import OtherResults, Results
from benchmarks.stage import Stage

CONDITIONS: dict[str, Any] = {"database": "sqlite", "load": False, "faults": ["retried"]}


def report(seed: int, *violations: str) -> Report:
    return Report(
        seed, ["retried"], ["0.10 retried: a batch"], [1.0, 0.5], 1, 2, 30, 0, list(violations)
    )


def test_results_are_continued_in_a_file(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    first = Results(CONDITIONS, file)
    first.add(report(7))
    first.add(report(8))

    second = Results(CONDITIONS, file)
    assert [second.has(seed) for seed in (7, 8, 9)] == [True, True, False]
    second.add(report(10, "a link is pending"))

    figures = {
        "rounds": 3,
        "seeds": "7-8, 10",
        "retried": 3,
        "links": 90,
        "rerun": 3,
        "late": 6,
        "registries": 0,
        "faults": {"retried": 3},
        "recovery_s": {"median": 0.75, "worst": 1.0},
        "violations": 1,
    }
    assert second.figures() == figures
    assert Results(CONDITIONS, file).figures() == figures
    assert [*tmp_path.iterdir()] == [file]


def test_results_under_other_conditions_are_not_continued(tmp_path: Path) -> None:
    file = tmp_path / "results.json"
    Results(CONDITIONS, file).add(report(7))

    with pytest.raises(OtherResults, match=r"results of .*False.*, not of .*True"):
        Results(CONDITIONS | {"load": True}, file)


def test_a_violation_leaves_its_plan_logs_and_rows_in_a_new_folder(tmp_path: Path) -> None:
    servers, evidence_folder = tmp_path / "servers", tmp_path / "evidence_folder"
    played = servers / "round-7"
    played.mkdir(parents=True)
    (played / "history").write_text("1 1 0 99\n")
    (played / "worker.log").write_text("a worker\n")
    (servers / "postgresql.log").write_text("a server\n")
    plan = Plan.of(7, faults.possible_faults("postgres"))
    found = report(7, "a link is pending")
    found.rows[uuid.uuid4()] = [{"id": 5}]
    stage = Stage(servers, cast("Any", None), None)

    folders = [evidence.keep(evidence_folder, plan, found, stage) for _ in range(2)]

    assert folders == [evidence_folder / "round-7", evidence_folder / "round-7-2"]
    texts = {path.name: path.read_text() for path in folders[1].iterdir()}
    assert texts == {
        "faults.txt": "0.10 retried: a batch\n",
        "history": "1 1 0 99\n",
        "plan.txt": "".join(f"{line}\n" for line in plan.lines()),
        "postgresql.log": "a server\n",
        "rows.jsonl": json.dumps({"id": 5}) + "\n",
        "violations.txt": "a link is pending\n",
        "worker.log": "a worker\n",
    }


@pytest.mark.parametrize("database", ["sqlite", "postgres", "mariadb"])
def test_each_kind_of_fault_is_possible_on_a_database(database: str) -> None:
    possible = faults.possible_faults(database)

    expected = faults.SERVER_FAULTS if database == "sqlite" else faults.SQLITE_FAULTS
    assert {*faults.ALL} - {*possible} == {*expected}


@pytest.mark.parametrize(("text", "error"), [("OSError", OSError), ("SystemExit", SystemExit)])
def test_the_log_handler_of_workers_raises_while_a_file_names_an_error(
    text: str, error: type[BaseException], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / "broken-log"
    handler = fragile_log.FragileHandler()
    record = logging.LogRecord("django_jobbatch", logging.ERROR, "", 1, "a text", None, None)
    file.write_text(text)

    handler.handle(record)  # not a worker
    monkeypatch.setenv(fragile_log.VARIABLE, str(file))
    with pytest.raises(error, match="the log server is away: a text"):
        handler.handle(record)
    file.unlink()
    handler.handle(record)
