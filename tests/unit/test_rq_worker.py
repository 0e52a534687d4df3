"""The methods of RQ's worker that ours extends or calls: RQ documents neither them nor a change.

A version of RQ that changes one fails here. Then compare its source with `worker/mixin.py`, and raise
the upper bound in `setup.cfg`.
"""

from __future__ import annotations

import inspect
from configparser import ConfigParser
from importlib.metadata import version
from typing import Final

import pytest
from packaging.requirements import Requirement
from rq.worker import HerokuWorker, RoundRobinWorker, SimpleWorker, Worker

from django_jobbatch.worker import BatchWorkerMixin
from tests.settings import ROOT

MAJOR: Final = int(version("rq").partition(".")[0])
#: RQ 3 passes the execution to some methods.
EXECUTION: Final = ("execution",) if MAJOR >= 3 else ()

EXTENDED: Final = {
    "bootstrap": ("logging_level", "date_format", "log_format"),
    "dequeue_job_and_maintain_ttl": ("timeout", "max_idle_time"),
    "fork_work_horse": ("job", "queue"),
    "kill_horse": ("sig",),
    "main_work_horse": ("job", "queue"),
    "maintain_heartbeats": ("job", *EXECUTION),
    "monitor_work_horse": ("job", "queue", *EXECUTION),
    "request_force_stop": ("signum", "frame"),
    "run_maintenance_tasks": (),
    "should_run_maintenance_tasks": None,  # a property
    "wait_for_horse": (),
}
CALLED: Final = {
    "handle_job_failure": ("job", "queue", "started_job_registry", "exc_string", *EXECUTION),
    "setup_work_horse_signals": (),
}


def parameters(worker_class: type, name: str) -> tuple[str, ...] | None:
    """Return the names of the parameters of a method, without `self`; None for a property."""
    method = inspect.getattr_static(worker_class, name)
    if isinstance(method, property):
        return None
    return tuple(inspect.signature(method).parameters)[1:]


def test_every_method_that_the_mixin_extends_is_in_the_table() -> None:
    extended = {name for name in vars(BatchWorkerMixin) if hasattr(Worker, name)}

    assert {name for name in extended if not name.startswith("__")} == set(EXTENDED)


@pytest.mark.parametrize("name", [*EXTENDED, *CALLED])
def test_a_method_of_rq_has_the_parameters_that_the_mixin_expects(name: str) -> None:
    expected = (EXTENDED | CALLED)[name]

    assert parameters(Worker, name) == expected


@pytest.mark.parametrize("worker_class", [HerokuWorker, RoundRobinWorker, SimpleWorker])
@pytest.mark.parametrize("name", EXTENDED)
def test_every_worker_class_of_rq_has_these_methods(worker_class: type, name: str) -> None:
    """`SimpleWorker` has no work-horses, so it may lack the methods for them."""
    if not hasattr(worker_class, name):
        assert worker_class is SimpleWorker
        assert "horse" in name
        return

    assert parameters(worker_class, name) == EXTENDED[name]


@pytest.mark.parametrize(
    "name", ["connection", "execution", "horse_pid", "job_monitoring_interval", "name"]
)
def test_a_worker_of_rq_has_the_attributes_that_the_mixin_reads(name: str) -> None:
    sources = inspect.getsource(Worker) + inspect.getsource(Worker.__mro__[1])

    assert hasattr(Worker, name) or f"self.{name}" in sources


def test_the_installed_rq_is_one_that_the_metadata_allows_and_the_next_major_is_not() -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    required = [Requirement(line) for line in setup["options"]["install_requires"].split()]
    (rq,) = [each.specifier for each in required if each.name == "rq"]

    assert rq.contains(version("rq"))
    assert [major for major in range(10) if rq.contains(f"{major}.99")] == [2, 3]
