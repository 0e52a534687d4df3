"""Tracebacks whose frames are formatted once: the text is always that of Python."""

from __future__ import annotations

import linecache
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import CodeType
from typing import Any, NoReturn
from unittest import mock

import pytest

from django_jobbatch.error_text import KnownFrames
from django_jobbatch.shutdown import traceback_of
from tests import hostile_jobs
from tests.tuning import Tuning


class Noted(Exception):
    """An error whose message is not its argument."""

    def __str__(self) -> str:
        return f"shown: {self.args[0]}"


class Broken(Exception):
    """An error whose message can sometimes not be read."""

    def __str__(self) -> str:
        if self.args[0] % 2:
            raise RuntimeError
        return "readable"


class InNoModule(Exception):
    """An error whose class has no name of a module."""

    __module__: str = 5  # type: ignore[assignment]  # a hostile class


class Shelf:
    """A class with an error in it."""

    class Fallen(Exception):
        """An error of a class in a class."""


def fail(error: BaseException) -> NoReturn:
    raise error


def noted(error: BaseException) -> BaseException:
    error.add_note("a note")
    return error


def with_hidden_cause(number: int) -> NoReturn:
    try:
        fail(KeyError(number))
    except KeyError as error:
        later = ValueError(number)
        later.__cause__, later.__suppress_context__ = error, number % 2 == 0
        fail(later)


def with_note(number: int) -> NoReturn:
    error = ValueError(number)
    error.add_note(f"note {number}")
    fail(error)


def with_cause(number: int) -> NoReturn:
    try:
        fail(KeyError(number))
    except KeyError as error:
        raise ValueError(number) from error


def with_context(number: int) -> NoReturn:
    try:
        fail(KeyError(number))
    except KeyError:
        fail(ValueError(number))


def without_context(number: int) -> NoReturn:
    try:
        fail(KeyError(number))
    except KeyError:
        raise ValueError(number) from None


def with_members(number: int) -> NoReturn:
    raise ExceptionGroup("group", [ValueError(number), KeyError(number)])


def with_suggestion(number: int) -> NoReturn:
    value = object() if number else "text"
    value.__hahs__()  # type: ignore[attr-defined]  # that is the mistake
    raise AssertionError


def with_name(number: int) -> NoReturn:
    numbre = number  # noqa: F841 - to be suggested
    print(nubre)  # type: ignore[name-defined]  # noqa: F821, T201 - that is the mistake
    raise AssertionError


def at_depth(number: int) -> NoReturn:
    if number:
        at_depth(number - 1)
    fail(ValueError("deep"))


def of_syntax(number: int) -> NoReturn:
    exec(f"x = {number} +")  # noqa: S102 - that is the mistake
    raise AssertionError


def at_two_places(number: int) -> NoReturn:
    if number % 2:
        raise ValueError(number)
    raise ValueError(number)


KINDS: dict[str, Callable[[int], NoReturn]] = {
    "plain": lambda number: fail(ValueError(number)),
    "class": lambda number: fail((ValueError, KeyError, Noted)[number % 3](number)),
    "message of several lines": lambda number: fail(Noted(f"a\nb {number}\n")),
    "no message": lambda number: fail(ValueError()),
    "message that is sometimes unreadable": lambda number: fail(Broken(number)),
    "class without a module": lambda number: fail(InNoModule(number)),
    "class in a class": lambda number: fail(Shelf.Fallen(number)),
    "notes of some": lambda number: fail(noted(ValueError(number)) if number % 2 else ValueError()),
    **{
        function.__name__: function
        for function in (
            with_note,
            with_cause,
            with_context,
            with_hidden_cause,
            without_context,
            with_members,
            with_suggestion,
            with_name,
            at_depth,
            of_syntax,
            at_two_places,
        )
    },
}


def raised_by(function: Callable[..., Any], *arguments: object) -> BaseException:
    try:
        function(*arguments)
    except BaseException as error:  # noqa: BLE001 - of any class
        return error
    pytest.fail("it raised nothing")


def text_of_python(error: BaseException) -> str:
    return "".join(traceback.format_exception(error))


@pytest.mark.parametrize("function", KINDS.values(), ids=KINDS)
def test_each_text_is_that_of_python(function: Callable[[int], NoReturn]) -> None:
    known = KnownFrames()
    errors = [raised_by(function, number) for number in (0, 1, 2, 3, 0, 1)]

    texts = [known.text(error, traceback_of(error)) for error in errors]

    assert texts == [text_of_python(error) for error in errors]


def test_all_kinds_may_follow_each_other() -> None:
    known = KnownFrames()
    errors = [raised_by(function, number) for number in range(3) for function in KINDS.values()]

    texts = [known.text(error, traceback_of(error)) for error in errors]

    assert texts == [text_of_python(error) for error in errors]


def test_equal_frames_are_formatted_once() -> None:
    known = KnownFrames()
    errors = [raised_by(KINDS["plain"], number) for number in range(10)]
    formats = traceback.StackSummary.format

    with mock.patch.object(traceback.StackSummary, "format", autospec=True) as patched:
        patched.side_effect = formats
        texts = [known.text(error, traceback_of(error)) for error in errors]

    assert patched.call_count == 1
    assert len(set(texts)) == 10


def test_the_frames_may_start_at_any_of_them() -> None:
    known = KnownFrames()
    error = raised_by(KINDS["with_note"], 1)
    whole = traceback_of(error)
    assert whole is not None

    texts = [known.text(error, trace) for trace in (whole, whole.tb_next, whole)]

    assert texts[0] == texts[2] == text_of_python(error)
    assert texts[1] == "".join(traceback.format_exception(type(error), error, whole.tb_next))


def test_code_of_another_module_with_an_equal_text_has_its_own_file(tmp_path: Path) -> None:
    known = KnownFrames()
    names = ("one", "two")
    errors = []
    for name in names:
        (tmp_path / name).write_text(f"def run():\n    raise ValueError('here')  # {name}\n")
        space: dict[str, Any] = {}
        exec(compile((tmp_path / name).read_text(), tmp_path / name, "exec"), space)  # noqa: S102
        errors.append(raised_by(space["run"]))

    texts = [known.text(error, traceback_of(error)) for error in errors]

    assert texts == [text_of_python(error) for error in errors]
    assert ["# one" in str(texts[0]), "# two" in str(texts[1])] == [True, True]


def test_a_changed_file_has_its_new_lines_once_the_texts_are_cleared(tmp_path: Path) -> None:
    path = tmp_path / "module"
    path.write_text("def run():\n    raise ValueError('here')  # old\n")
    code: CodeType = compile(path.read_text(), path, "exec")
    space: dict[str, Any] = {}
    exec(code, space)  # noqa: S102 - a file that changes
    error, known = raised_by(space["run"]), KnownFrames()
    known.text(error, traceback_of(error))

    path.write_text("def run():\n    raise ValueError('here')  # new, and longer\n")
    linecache.checkcache(str(path))
    known.clear()

    assert "# new, and longer" in str(known.text(error, traceback_of(error)))


def test_few_texts_are_remembered(tuning: Tuning) -> None:
    tuning(MAX_KNOWN_FRAMES=2)
    known = KnownFrames()
    errors = [raised_by(function, 1) for function in KINDS.values()]
    formats = traceback.StackSummary.format

    with mock.patch.object(traceback.StackSummary, "format", autospec=True) as patched:
        patched.side_effect = formats
        texts = [known.text(error, traceback_of(error)) for error in [*errors, errors[0]]]

    assert patched.call_count > len(errors)  # the first one was forgotten
    assert texts == [text_of_python(error) for error in [*errors, errors[0]]]


def test_a_long_text_and_one_that_cannot_be_formatted_are_left_to_others(tuning: Tuning) -> None:
    known = KnownFrames()
    unformattable = raised_by(hostile_jobs.raise_unformattable)
    long = raised_by(lambda: fail(ValueError("x" * 20_000)))

    assert known.text(unformattable, traceback_of(unformattable)) is None
    assert known.text(long, traceback_of(long)) is None


def test_many_frames_are_formatted_each_time(tuning: Tuning) -> None:
    tuning(MAX_KNOWN_DEPTH=5)
    known, error = KnownFrames(), raised_by(KINDS["at_depth"], 9)
    formats = traceback.StackSummary.format

    with mock.patch.object(traceback.StackSummary, "format", autospec=True) as patched:
        patched.side_effect = formats
        texts = [known.text(error, traceback_of(error)) for _ in range(2)]

    assert patched.call_count == 2
    assert texts == [text_of_python(error)] * 2


@pytest.mark.skipif(sys.version_info < (3, 12), reason="traceback.py makes no suggestions")
def test_python_suggests_a_name() -> None:
    # The text of such an error depends on more than its frames, so the case above would prove little
    # if Python made no suggestion.
    assert "Did you mean" in text_of_python(raised_by(with_name, 1))
