"""Loggers that never raise."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest

from django_jobbatch.logs import SafeLogger, get_logger
from tests import hostile_jobs
from tests.settings import ROOT


class Handler(logging.Handler):
    """A handler that raises, and stores what it was given."""

    def __init__(self, error: BaseException | None) -> None:
        super().__init__()
        self.error = error
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
        if self.error is not None:
            raise self.error


@pytest.fixture
def logger() -> Iterator[SafeLogger]:
    logger = get_logger("tests.of.logs")
    logger.logger.propagate = False
    yield logger
    logger.logger.handlers.clear()
    logger.logger.filters.clear()


@pytest.mark.parametrize("error", [OSError("away"), SystemExit(3), KeyboardInterrupt()])
def test_a_handler_that_raises_ends_nothing_and_a_line_says_so(
    error: BaseException, logger: SafeLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = Handler(error)
    logger.logger.addHandler(handler)

    logger.error("text %d", 1)

    assert [record.getMessage() for record in handler.records] == ["text 1"]
    name = type(error).__name__
    assert capsys.readouterr().err.startswith(
        f"A record of the logger tests.of.logs is lost: {name}"
    )


def test_a_filter_that_raises_ends_nothing_though_standard_error_is_closed(
    logger: SafeLogger, monkeypatch: pytest.MonkeyPatch, tmp_path: object
) -> None:
    asked = []

    def reject(record: logging.LogRecord) -> bool:
        asked.append(record.getMessage())
        raise SystemExit(3)

    logger.logger.addFilter(reject)
    closed = open(f"{tmp_path}/closed", "w")  # noqa: SIM115 - it is closed at once
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)

    logger.error("text")

    assert asked == ["text"]


def test_an_argument_that_exits_when_it_is_shown_ends_nothing(
    logger: SafeLogger, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.logger.addHandler(logging.StreamHandler(sys.stderr))

    logger.error("%s", hostile_jobs.ExitInText())

    assert "A record of the logger tests.of.logs is lost: SystemExit: 3" in capsys.readouterr().err


def test_a_shutdown_of_the_worker_is_passed_on(logger: SafeLogger) -> None:
    rq_module = ModuleType("rq.worker.base")
    exec("def stop(record): raise SystemExit", rq_module.__dict__)  # noqa: S102 - a frame of RQ
    logger.logger.addFilter(rq_module.stop)

    with pytest.raises(SystemExit):
        logger.error("text")


def test_a_record_names_its_caller_and_keeps_its_extra(logger: SafeLogger) -> None:
    handler = Handler(None)
    logger.logger.addHandler(handler)

    logger.warning("text", extra={"batch_id": "7"})

    (record,) = handler.records
    assert (record.filename, record.funcName) == (
        "test_logs.py",
        "test_a_record_names_its_caller_and_keeps_its_extra",
    )
    assert record.__dict__["batch_id"] == "7"


def test_an_exception_that_cannot_be_formatted_is_logged_as_text(logger: SafeLogger) -> None:
    handler = Handler(None)
    logger.logger.addHandler(handler)

    try:
        hostile_jobs.raise_unformattable()
    except SyntaxError:
        logger.exception("text")

    (record,) = handler.records
    assert record.exc_info is None
    assert record.getMessage().startswith("text\n")
    assert record.getMessage().endswith("SyntaxError: bad (page.tpl, line 3)\n")


def test_another_exception_is_logged_as_it_is(logger: SafeLogger) -> None:
    handler = Handler(None)
    logger.logger.addHandler(handler)
    error = ValueError("plain")

    logger.error("text", exc_info=error)
    logger.error("text", exc_info=(ValueError, error, None))

    assert [record.exc_info and record.exc_info[1] for record in handler.records] == [error] * 2


#: The safe logger itself, and a handler that a command adds while it runs.
WITH_PLAIN_LOGGERS = ["logs.py", "management/base.py"]


def test_every_module_logs_by_a_safe_logger() -> None:
    package = ROOT / "django_jobbatch"
    modules = [
        str(path.relative_to(package))
        for path in package.rglob("*.py")
        if "logging.getLogger" in path.read_text()
    ]

    assert sorted(modules) == WITH_PLAIN_LOGGERS
