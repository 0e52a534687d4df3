"""Exceptions as text: whatever their classes do, nothing raises, and the text is bounded."""

from __future__ import annotations

import sys
import traceback
from types import ModuleType

import pytest

from django_jobbatch import error_text, tuning
from django_jobbatch.shutdown import is_shutdown, traceback_of
from tests import hostile_jobs
from tests.tuning import Tuning


def raised_by(function: object, *args: object) -> BaseException:
    assert callable(function)
    try:
        function(*args)
    except BaseException as error:  # noqa: BLE001 - of any class
        return error
    pytest.fail("it raised nothing")


def text_of(error: BaseException) -> str:
    return error_text.traceback_text(error, traceback_of(error))


# Exceptions that break


@pytest.mark.parametrize(
    ("function", "name", "message"),
    [each for each in hostile_jobs.FAILURES.values() if each[0].__name__.startswith("raise")],
)
def test_each_exception_has_a_class_a_message_and_its_frames(
    function: object, name: str, message: str
) -> None:
    error = raised_by(function)

    assert error_text.class_name(error) == name
    assert error_text.message(error).startswith(message)
    assert f", in {getattr(function, '__name__', '')}\n" in text_of(error)
    assert text_of(error).splitlines()[-1].strip()


def test_an_error_that_cannot_be_formatted_keeps_its_own_frames() -> None:
    error = raised_by(hostile_jobs.raise_unformattable)

    assert not error_text.can_be_formatted(error)
    with pytest.raises(TypeError):
        traceback.format_exception(error)
    text = text_of(error)
    assert '    raise SyntaxError("bad", ("page.tpl", 3, "7", "{% if %}"))' in text
    assert text.endswith("\nSyntaxError: bad (page.tpl, line 3)\n")


def test_a_broken_cause_takes_no_frames_of_the_error_that_it_caused() -> None:
    def fail() -> None:
        try:
            hostile_jobs.raise_unformattable()
        except SyntaxError as error:
            raise ValueError("outside") from error

    text = text_of(raised_by(fail))

    assert ", in fail\n" in text
    assert text.endswith("ValueError: outside\n")


def test_a_plain_error_has_the_text_of_python() -> None:
    def fail() -> None:
        try:
            fail_in(0, "inside")
        except ValueError as error:
            error.add_note("a note")
            raise ExceptionGroup("outside", [ValueError("one"), ValueError("two")]) from error

    error = raised_by(fail)

    assert error_text.can_be_formatted(error)
    assert text_of(error) == "".join(traceback.format_exception(error))


def test_text_that_no_database_stores_is_escaped_in_each_part() -> None:
    kind = type("Odd", (Exception,), {"__module__": "odd\ud800"})
    error = raised_by(lambda: (_ for _ in ()).throw(kind("a NUL \x00")))

    assert error_text.class_name(error) == "odd\\ud800.Odd"
    assert error_text.message(error) == "a NUL \\x00"
    assert text_of(error).endswith("odd\\ud800.Odd: a NUL \\x00\n")


# Lengths


def test_the_middle_of_a_long_message_is_left_out() -> None:
    error = raised_by(hostile_jobs.raise_long_message)
    message, text = error_text.message(error), text_of(error)

    assert len(message) == tuning.MAX_MESSAGE_LENGTH
    assert message.startswith("the start xxx")
    assert message.endswith("xxx the end")
    assert " characters left out ...] " in message
    assert ", in raise_long_message\n" in text
    assert "ValueError: the start xxx" in text
    assert text.endswith("xxx the end\n")


def fail_in(depth: int, message: str) -> None:
    """Fail at a depth, with frames of two functions, which Python does not fold."""
    if depth:
        fail_between(depth, message)
    raise ValueError(message)


def fail_between(depth: int, message: str) -> None:
    fail_in(depth - 1, message)


def recurse() -> None:
    recurse_again()


def recurse_again() -> None:
    recurse()


def test_a_recursion_keeps_its_outermost_and_innermost_frames(tuning: Tuning) -> None:
    def start() -> None:
        recurse()

    tuning(MAX_TRACEBACK_LENGTH=50_000)
    error = raised_by(start)
    text = text_of(error)

    assert isinstance(error, RecursionError)
    assert 40_000 < len(text) <= 50_000
    assert ", in start\n" in text
    assert " characters left out ...] " in text
    assert text.endswith("RecursionError: maximum recursion depth exceeded\n")


def test_each_error_of_a_chain_keeps_its_frames_beside_long_messages() -> None:
    def first() -> None:
        raise ValueError(f"first {'x' * 300_000}")

    def second() -> None:
        try:
            first()
        except ValueError as error:
            raise KeyError(f"second {'y' * 300_000}") from error

    text = text_of(raised_by(second))

    assert len(text) <= tuning.MAX_TRACEBACK_LENGTH
    cause, _, effect = text.partition("\nThe above exception was the direct cause")
    assert [part in cause for part in (", in first\n", "ValueError: first xx")] == [True] * 2
    assert [part in effect for part in (", in second\n", "KeyError: 'second yy")] == [True] * 2


def test_each_error_of_a_group_is_in_its_text_beside_long_messages() -> None:
    def fail() -> None:
        raise ExceptionGroup("both", [ValueError(f"{name} {'x' * 300_000}") for name in "ab"])

    text = text_of(raised_by(fail))

    assert len(text) <= tuning.MAX_TRACEBACK_LENGTH
    parts = (", in fail\n", "ExceptionGroup: both", "ValueError: a xx", "ValueError: b xx")
    assert [part in text for part in parts] == [True] * 4


def test_a_chain_of_many_long_messages_keeps_the_last_error() -> None:
    def fail(depth: int) -> None:
        try:
            if depth:
                fail(depth - 1)
        finally:
            raise ValueError(f"{depth} {'x' * 20_000}")

    text = text_of(raised_by(fail, 40))

    assert len(text) <= tuning.MAX_TRACEBACK_LENGTH
    assert "ValueError: 0 xx" in text
    assert "ValueError: 40 xx" in text


def test_frames_beyond_the_bound_are_the_outermost_ones(tuning: Tuning) -> None:
    tuning(MAX_FRAMES=2)

    text = text_of(raised_by(fail_in, 3, "deep"))

    assert text.count('  File "') == 2
    assert text.endswith("ValueError: deep\n")


def test_a_line_of_the_log_has_the_first_line_of_a_message() -> None:
    assert error_text.summary(ValueError("one\nDETAIL: two")) == "ValueError: one"
    assert error_text.summary(ValueError()) == "ValueError"


# The shutdown


def test_a_shutdown_while_an_error_is_shown_is_passed_on() -> None:
    rq_module = ModuleType("rq.worker.base")
    exec("def stop(): raise SystemExit", rq_module.__dict__)  # noqa: S102 - a frame of RQ

    class Shown(Exception):
        def __str__(self) -> str:
            rq_module.stop()
            return ""

    with pytest.raises(SystemExit) as caught:
        error_text.message(Shown())

    assert is_shutdown(caught.value)
    assert not is_shutdown(raised_by(sys.exit))
