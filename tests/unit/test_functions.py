"""Dotted paths of functions, loading by path, and calls."""

from __future__ import annotations

import asyncio
import functools
import math
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from django_jobbatch import bus
from django_jobbatch.exceptions import FunctionNotFound, InvalidJob, InvalidOption
from django_jobbatch.functions import invocation, loader, paths
from django_jobbatch.specs.options import NO_OPTIONS, Options
from tests.unit import targets

HERE = "tests.unit.targets"
LATER = datetime(2027, 1, 1, tzinfo=UTC)


# path_and_options


@pytest.mark.parametrize(
    ("func", "path"),
    [
        (targets.add, f"{HERE}.add"),
        (targets.add_later, f"{HERE}.add_later"),
        (math.sqrt, "math.sqrt"),
        (len, "builtins.len"),
        (dict.fromkeys, "builtins.dict.fromkeys"),
        (targets.Shop.sync, f"{HERE}.Shop.sync"),
        (targets.Shop.name, f"{HERE}.Shop.name"),
        pytest.param(targets.BookShop.sync, f"{HERE}.Shop.sync", id="inherited"),
        (targets.BookShop.name, f"{HERE}.BookShop.name"),
        (targets.Shop.Shelf.fill, f"{HERE}.Shop.Shelf.fill"),
        (targets.well_decorated, f"{HERE}.well_decorated"),
        (targets.decorated_later, f"{HERE}.decorated_later"),
        (targets.remembered, f"{HERE}.remembered"),
        ("no.such.function", "no.such.function"),
        (targets.plain_task, f"{HERE}.plain_task"),
        (targets.plain_task.using(priority=5), f"{HERE}.plain_task"),
        (targets.context_task, f"{HERE}.context_task"),
    ],
)
def test_an_importable_function_has_a_path(func: object, path: str) -> None:
    assert paths.path_and_options(func) == (path, NO_OPTIONS)


@pytest.mark.parametrize(
    ("func", "options"),
    [
        (
            targets.on_imports,
            Options(queue="imports", timeout=3600, retry=2, retry_interval=(10, 60)),
        ),
        (targets.on_imports_and_wrapped, Options(queue="imports", timeout=90)),
        (targets.on_default, Options(queue="default")),
        (targets.for_a_minute, Options(queue="default", timeout=60)),
    ],
)
def test_a_function_has_the_options_of_its_decorator(func: object, options: Options) -> None:
    assert paths.path_and_options(func)[1] == options


def test_an_invalid_option_of_a_function_is_rejected() -> None:
    with pytest.raises(InvalidOption) as caught:
        paths.path_and_options(targets.with_no_time)

    assert str(caught.value) == (
        "timeout=0: pass whole seconds above 0 (up to ten years), a timedelta, or -1 for no limit."
    )


NOT_FOUND = (
    "is not what this function's name leads to when it is imported; give it a name of its own in"
    " its module, and decorators functools.wraps."
)
NESTED = (
    "is defined in another function, where no worker can import it; move it to its module. If"
    " a decorator made it, give the decorator functools.wraps."
)


def moved() -> None:
    """A function with the name of another module."""


moved.__module__ = "no.such.module"


def at_the_prompt() -> None:
    """A function of the running program."""


at_the_prompt.__module__ = "__main__"


class Nowhere:
    def method(self) -> None:
        """Says that its class is elsewhere."""


Nowhere.method.__module__ = "no.such.module"


@pytest.mark.parametrize(
    ("func", "message"),
    [
        (
            None,
            "None is not a function; did you call the function? Pass job(func, ...), without ().",
        ),
        (
            7,
            "An object of int is not a function; did you call the function? Pass it without ().",
        ),
        (
            [targets.add],
            "An object of list is not a function; did you call the function? Pass it without ().",
        ),
        (
            targets.nameless,
            f"{HERE}.<lambda> is a lambda, which no worker can import; write a function in a"
            " module.",
        ),
        (targets.make_inner(), f"{HERE}.make_inner.<locals>.inner {NESTED}"),
        (targets.badly_decorated, f"{HERE}.unwrapped.<locals>.wrapper {NESTED}"),
        (targets.undecorated, f"{HERE}.well_decorated {NOT_FOUND}"),
        (targets.renamed_task, f"{HERE}.add {NOT_FOUND}"),
        (targets.plain_task.func, f"{HERE}.plain_task {NOT_FOUND}"),
        (moved, f"no.such.module.moved {NOT_FOUND}"),
        (Nowhere.method, f"no.such.module.Nowhere.method {NOT_FOUND}"),
        (targets.Shop, "Shop is a class; write a function that makes and uses it."),
        (
            targets.shop.open,
            f"{HERE}.Shop.open is bound to an object of Shop, which is not stored; write a"
            " function that takes what it needs and makes or fetches the object.",
        ),
        (
            "-".join,
            "builtins.str.join is bound to an object of str, which is not stored; write a"
            " function that takes what it needs and makes or fetches the object.",
        ),
        (
            targets.Shop.open,
            f"{HERE}.Shop.open is a method and would need its object; make it a function or a"
            " staticmethod.",
        ),
        (
            str.upper,
            "An object of method_descriptor is not stored; write a function that makes and"
            " calls it.",
        ),
        (
            functools.partial(targets.add, 1),
            "A functools.partial is not stored; pass the function, and its arguments after it.",
        ),
        (
            targets.double,
            "An object of Doubler is not stored; write a function that makes and calls it.",
        ),
        (
            at_the_prompt,
            "__main__.at_the_prompt is in the program that runs, not in a module a worker can"
            " import; move it to one.",
        ),
        (
            targets.counting,
            f"{HERE}.counting is a generator function, of which a call runs nothing; write one"
            " without yield.",
        ),
        (
            targets.counting_later,
            f"{HERE}.counting_later is a generator function, of which a call runs nothing; write"
            " one without yield.",
        ),
        (bus.job(targets.add), "This is a job already; pass the function itself."),
        *(
            (
                text,
                f"{text!r} is not the dotted path of a function; write it out, such as"
                " 'shop.jobs.sync'.",
            )
            for text in ("add", "", ".add", "shop.", "shop..add", "shop jobs.add", "shop.1")
        ),
    ],
)
def test_a_function_that_no_worker_could_call_is_rejected_with_a_hint(
    func: object, message: str
) -> None:
    with pytest.raises(InvalidJob) as caught:
        paths.path_and_options(func)

    assert str(caught.value) == message


def test_a_coroutine_instead_of_a_function_is_rejected() -> None:
    coroutine = targets.add_later(1)

    with pytest.raises(InvalidJob) as caught:
        paths.path_and_options(coroutine)

    coroutine.close()
    assert str(caught.value) == (
        "An object of coroutine is not a function; did you call the function? Pass it without ()."
    )


# resolve


@pytest.mark.parametrize(
    ("path", "target"),
    [
        (f"{HERE}.add", targets.add),
        (f"{HERE}.Shop.sync", targets.Shop.sync),
        (f"{HERE}.BookShop.sync", targets.BookShop.sync),
        (f"{HERE}.Shop.Shelf.fill", targets.Shop.Shelf.fill),
        (f"{HERE}.plain_task", targets.plain_task),
        (f"{HERE}.double", targets.double),
        ("math.sqrt", math.sqrt),
    ],
)
def test_a_path_is_resolved(path: str, target: object) -> None:
    assert loader.resolve(path) is target


def test_a_path_is_resolved_to_a_patched_function() -> None:
    loader.resolve(f"{HERE}.add")

    with mock.patch.object(targets, "add") as stand_in:
        assert loader.resolve(f"{HERE}.add") is stand_in


@pytest.mark.parametrize(
    ("path", "message"),
    [
        (
            "no_such.module.func",
            "no_such.module.func: there is no module 'no_such'. Is the code that dispatched it"
            " deployed here?",
        ),
        ("", ": there is no module ''. Is the code that dispatched it deployed here?"),
        ("func", "func: there is no module 'func'. Is the code that dispatched it deployed here?"),
        (f"{HERE}.gone", f"{HERE}.gone: {HERE} has no 'gone'."),
        (f"{HERE}.gone.sync", f"{HERE}.gone.sync: {HERE} has no 'gone'."),
        (f"{HERE}.Shop.gone", f"{HERE}.Shop.gone: Shop has no 'gone'."),
        (f"{HERE}.HERE", f"{HERE}.HERE: {HERE} has no 'HERE'."),
        (f"{HERE}.__name__", f"{HERE}.__name__ is a str, not a function."),
    ],
)
def test_a_path_without_a_function_is_rejected_with_the_reason(path: str, message: str) -> None:
    with pytest.raises(FunctionNotFound) as caught:
        loader.resolve(path)

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("import no_such_library", "No module named 'no_such_library'"),
        ("1 / 0", "ZeroDivisionError('division by zero')"),
        (
            "class Unreadable(Exception):\n    __repr__ = None\n\nraise Unreadable",
            "<Unreadable>",
        ),
    ],
)
def test_a_module_that_cannot_be_imported_is_rejected_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, reason: str
) -> None:
    (tmp_path / "broken_jobs.py").write_text(source)
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(FunctionNotFound) as caught:
        loader.resolve("broken_jobs.func")

    assert str(caught.value) == (f"broken_jobs.func: broken_jobs cannot be imported: {reason}.")
    assert caught.value.__cause__ is not None


def test_a_missing_module_is_imported_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(FunctionNotFound):
        loader.resolve("late_jobs.func")

    (tmp_path / "late_jobs.py").write_text("def func(): pass")
    monkeypatch.syspath_prepend(tmp_path)

    assert loader.resolve("late_jobs.func").__name__ == "func"
    monkeypatch.delitem(sys.modules, "late_jobs")


# invoke


@pytest.mark.parametrize(
    ("target", "result"),
    [
        (targets.add, 3),
        (targets.add_later, 3),
        (targets.plain_task, 3),
    ],
)
def test_a_function_is_called_and_waited_for(target: Callable[..., Any], result: int) -> None:
    assert invocation.invoke(target, (1,), {"second": 2}) == result


@pytest.mark.parametrize("target", [targets.decorated_later, targets.later_task])
def test_a_coroutine_is_waited_for_however_it_is_wrapped(target: Any) -> None:
    assert invocation.invoke(target, (1,), {}) == 1


def test_an_exception_of_a_function_is_not_changed() -> None:
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'first'"):
        invocation.invoke(targets.add, (), {})


def test_a_task_has_its_context() -> None:
    result = invocation.invoke(
        targets.context_task, (LATER,), {"day": LATER.date()}, attempt=3, result_id="41"
    )

    assert result == {
        "attempt": 3,
        "id": "41",
        "status": "RUNNING",
        "task": f"{HERE}.context_task",
        "args": [LATER],
        "kwargs": {"day": LATER.date()},
        "called": ((LATER,), {"day": LATER.date()}),
    }


def test_a_task_of_a_backend_with_a_class_of_its_own_has_its_context() -> None:
    class Special(type(targets.context_task)):  # type: ignore[misc]
        __module__ = __name__

    task = Special(func=targets.context_task.func, takes_context=True)

    assert invocation.invoke(task, (), {})["attempt"] == 1


def test_an_asynchronous_function_cannot_be_called_in_a_running_loop() -> None:
    async def main() -> None:
        invocation.invoke(targets.add_later, (1,), {})

    with pytest.raises(RuntimeError, match="AsyncToSync"):
        asyncio.run(main())
