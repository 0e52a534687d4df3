"""Loggers that never raise."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from io import StringIO
from types import ModuleType
from typing import Any

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


# Tracebacks that are text already


def log_failure(logger: SafeLogger, text: str | None) -> None:
    with pytest.raises(ValueError, match="broke") as caught:
        raise ValueError("broke")
    exc_info = (caught.type, caught.value, caught.tb)
    logger.error("job %d", 7, exc_info=exc_info, exc_text=text, extra={"job_id": "7"})


def python_text(logger: SafeLogger) -> str:
    """The traceback that `log_failure` logs, with its line break."""
    handler = Handler(None)
    logger.logger.addHandler(handler)
    log_failure(logger, None)
    logger.logger.removeHandler(handler)
    (record,) = handler.records
    assert record.exc_info
    return logging.Formatter().formatException(record.exc_info) + "\n"


@pytest.mark.parametrize("formatter", [None, logging.Formatter("%(message)s by %(funcName)s")])
def test_a_traceback_that_is_text_already_is_logged_as_python_formats_it(
    formatter: logging.Formatter | None, logger: SafeLogger
) -> None:
    text = python_text(logger)
    outputs = []
    for each in (None, text):
        stream = StringIO()
        handler = logging.StreamHandler(stream)
        handler.setFormatter(formatter)
        logger.logger.addHandler(handler)
        log_failure(logger, each)
        logger.logger.removeHandler(handler)
        outputs.append(stream.getvalue())

    assert outputs[0] == outputs[1]
    assert outputs[1].endswith(text)


def test_a_record_with_a_traceback_as_text_has_all_that_others_have(logger: SafeLogger) -> None:
    handler = Handler(None)
    logger.logger.addHandler(handler)

    log_failure(logger, None)
    log_failure(logger, "its text\n")

    plain, formatted = (dict(record.__dict__) for record in handler.records)
    assert formatted["exc_text"] == "its text"
    own = ("exc_info", "exc_text", "created", "msecs", "relativeCreated")
    for name in own:
        del plain[name], formatted[name]
    assert plain == formatted
    assert plain["funcName"] == "log_failure"
    assert [str(record.exc_info and record.exc_info[1]) for record in handler.records] == [
        "broke",
        "broke",
    ]


class Short(logging.Formatter):
    def formatException(self, ei: Any) -> str:  # noqa: N802 - the name in logging
        return f"<{ei[1]}>"


class ShortByStaticMethod(logging.Formatter):
    @staticmethod
    def formatException(ei: Any) -> str:  # noqa: N802 - as above
        return f"<{ei[1]}>"


class ShortByAttribute(logging.Formatter):
    def __init__(self, fmt: str) -> None:
        super().__init__(fmt)
        self.formatException = lambda ei: f"<{ei[1]}>"  # type: ignore[method-assign]


@pytest.mark.parametrize("formatter", [Short, ShortByStaticMethod, ShortByAttribute])
def test_a_formatter_with_tracebacks_of_its_own_makes_them(
    logger: SafeLogger, formatter: type[logging.Formatter]
) -> None:
    stream = StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter("%(message)s"))
    # In front of the handler of pytest: a record keeps the text of the first formatter.
    logger.logger.handlers.insert(0, handler)

    log_failure(logger, "its text\n")

    assert stream.getvalue() == "job 7\n<broke>\n"


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
