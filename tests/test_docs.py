"""The pages against the code: what there is is described, and nothing else."""

from __future__ import annotations

import ast
import inspect
import re
from argparse import ArgumentParser
from configparser import ConfigParser
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import BaseCommand, get_commands, load_command_class
from django.db.models import TextChoices
from rq import Queue

import django_jobbatch
from django_jobbatch import bus, checks, exceptions, models, tuning
from django_jobbatch.conf import Settings
from django_jobbatch.management import batch_command
from django_jobbatch.management.commands import show_batch
from django_jobbatch.specs import OptionNames
from django_jobbatch.states import BatchStatus, LinkStatus, Outcome
from tests.settings import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *DOCS.rglob("*.md")]
)

OUR_COMMANDS = sorted(name for name, app in get_commands().items() if app == "django_jobbatch")
MODELS = [models.JobBatch, models.BatchedJob, models.FailedJob]


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def section(name: str, *titles: str) -> str:
    """What stands on a page below these headings, down to the next one of the rank of the last."""
    text = page(name)
    for title in titles:
        _, _, rest = text.partition(f"\n{title}\n")
        assert rest, f"{name} has no {title}"
        text = re.split(rf"^{title.partition(' ')[0]} ", rest, flags=re.MULTILINE)[0]
    return text


def rows(text: str) -> list[list[str]]:
    """The cells of the tables in a text, without their heads."""
    lines = re.findall(
        r"^\| (.+) \|$", re.sub(r"^.+\n\|[-|]+\|$", "", text, flags=re.MULTILINE), re.MULTILINE
    )
    return [line.split(" | ") for line in lines]


def named(text: str) -> list[str]:
    """The names in the first cells of the tables in a text; calls without their brackets."""
    return [
        name.partition("(")[0]
        for first, *_ in rows(text)
        for name in re.findall(r"`([^`]+)`", first)
    ]


def generated(text: str, *kinds: str) -> list[str]:
    """The names that autodoc is asked to describe in a text."""
    return re.findall(rf"^\.\. auto(?:{'|'.join(kinds)}):: ([\w.]+)", text, re.MULTILINE)


def public(kind: type) -> set[str]:
    return {name for name in vars(kind) if not name.startswith("_")}


# The API


def test_every_public_name_is_described() -> None:
    described = [
        *generated(page("reference/api"), "function"),
        *generated(page("reference/exceptions"), "exception"),
    ]

    assert sorted(described) == sorted(django_jobbatch.__all__)


def test_every_exception_is_described() -> None:
    there = [name for name, kind in vars(exceptions).items() if inspect.isclass(kind)]

    assert sorted(generated(page("reference/exceptions"), "exception")) == sorted(there)


def test_every_builder_is_described() -> None:
    text = page("reference/api")

    (left_out,) = re.findall(r":exclude-members: (.+)", text)

    assert "django_jobbatch.bus" in generated(text, "module")
    assert sorted(left_out.split(", ")) == sorted(generated(text, "class"))
    assert set(left_out.split(", ")) <= set(bus.__all__)
    # Autodoc leaves out what has no docstring.
    assert [name for name in bus.__all__ if not getattr(bus, name).__doc__] == []


@pytest.mark.parametrize(
    "builder", [bus.JobBuilder, bus.Builder, bus.BatchBuilder, bus.ChainBuilder]
)
def test_every_call_of_a_builder_has_a_docstring(builder: type) -> None:
    assert [name for name in public(builder) if not getattr(builder, name).__doc__] == []


def test_every_call_of_a_batch_is_listed() -> None:
    listed = named(section("reference/options", "## A batch or a chain"))

    calls = public(bus.Builder) | public(bus.BatchBuilder) | public(bus.ChainBuilder)
    assert sorted(listed) == sorted(calls - {"options", "on_queue"})


def test_every_option_is_listed() -> None:
    listed = named(section("reference/options", "## Options"))

    assert sorted(set(listed) - {"on_queue"}) == sorted(OptionNames.__annotations__)


# The models


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_described(model: type[models.JobBatch]) -> None:
    described = named(section("reference/models", f"## {model.__name__}", "### Fields"))

    assert sorted(described) == sorted(field.name for field in model._meta.fields)


@pytest.mark.parametrize("model", MODELS)
def test_every_property_and_method_is_described(model: type[models.JobBatch]) -> None:
    own = {
        name
        for name in public(model)
        if isinstance(vars(model)[name], property | bool) or inspect.isfunction(vars(model)[name])
    }

    described = generated(
        section("reference/models", f"## {model.__name__}"), "method", "property", "attribute"
    )

    of_django = {name for name in own if name.startswith("get_")}
    assert sorted(described) == sorted(f"{model.__name__}.{name}" for name in own - of_django)


@pytest.mark.parametrize(
    ("title", "states"),
    [("## A batch", [*BatchStatus, *Outcome]), ("## A link", [*LinkStatus])],
)
def test_every_state_is_described(title: str, states: list[TextChoices]) -> None:
    described = named(section("explanation/lifecycle", title))

    assert described == [str(state) for state in states if state]


# Settings, checks, commands, permissions


def test_every_setting_is_described_with_its_default() -> None:
    described = {
        key.strip("`"): ast.literal_eval(default.strip("`"))
        for key, default, _ in rows(page("reference/settings"))
    }

    assert described == asdict(Settings())


def test_every_check_is_described() -> None:
    ids = re.findall(r'"(jobbatch\.[EWI]\d+)"', inspect.getsource(checks))

    assert named(page("reference/checks")) == sorted(ids)


def test_every_permission_is_described() -> None:
    described = named(section("reference/models", "## JobBatch", "### Permissions"))

    assert described == [name for name, _ in models.JobBatch._meta.permissions]


def test_every_command_on_a_page_is_there() -> None:
    mentioned = {
        name for path in PAGES for name in re.findall(r"manage\.py ([a-z]\w+)", path.read_text())
    }

    assert "rqworker" in mentioned
    assert mentioned - set(get_commands()) == set()


def test_every_command_of_ours_is_described() -> None:
    described = re.findall(r"^## `(\w+)`$", page("reference/commands"), re.MULTILINE)

    assert sorted(described) == OUR_COMMANDS


@pytest.mark.parametrize("name", OUR_COMMANDS)
def test_every_option_of_a_command_is_described(name: str) -> None:
    parser = load_command_class("django_jobbatch", name).create_parser("manage.py", name)
    common = {*options(BaseCommand().create_parser("manage.py", name)), "--database"}
    described = {
        option.split()[0] for option in named(section("reference/commands", f"## `{name}`"))
    }

    assert described == options(parser) - common


def options(parser: ArgumentParser) -> set[str]:
    """The options of a command, as its help has them."""
    entries = re.findall(r"^  (-.+?)(?: {2,}|$)", parser.format_help(), re.MULTILINE)
    return {name for entry in entries for name in re.findall(r"(?<!\S)--?[\w-]+", entry)}


# What is tested


def test_every_promise_has_a_test() -> None:
    promises = [first for first, _ in rows(page("explanation/guarantees").partition("## ")[0])]

    tested = section("explanation/tested", "## What is guaranteed")

    assert [first for first, _ in rows(tested)] == promises


def test_every_test_on_the_page_is_there() -> None:
    """A test, or a case of a table of them."""
    named_there = re.findall(r"`(test_\w+)::([^`]+)`", page("explanation/tested"))
    sources = {path.stem: path.read_text() for path in (ROOT / "tests").rglob("test_*.py")}

    missing = [
        f"{module}::{name}"
        for module, name in named_there
        if f"def {name}(" not in sources[module] and f'    "{name}": Case(' not in sources[module]
    ]

    assert named_there
    assert missing == []


def test_every_fault_is_on_the_page() -> None:
    cases = re.findall(
        r'^    "([^"]+)": Case\(',
        (ROOT / "tests/acceptance/test_faults.py").read_text(),
        re.MULTILINE,
    )

    assert [
        case for case in cases if f"`test_faults::{case}`" not in page("explanation/tested")
    ] == []


# Figures


def required() -> dict[str, str]:
    """The lowest versions that the metadata allows."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    needs = dict(line.split(">=") for line in setup["options"]["install_requires"].split())
    return {"python": setup["options"]["python_requires"].removeprefix(">="), **needs}


def figures() -> list[tuple[str, str]]:
    versions = required()
    defaults = Settings()
    return [
        ("README.md", f"Python {versions['python']} or newer"),
        (
            "README.md",
            f"Django {versions['django']} or newer, django-rq {versions['django-rq']} or newer",
        ),
        ("CONTRIBUTING.md", f"Python {versions['python']} or newer"),
        ("docs/tutorial/first-batch.md", f"Python {versions['python']} or newer"),
        (
            "docs/how-to/install.md",
            f"Python {versions['python']} or newer, Django {versions['django']} or newer,"
            f" django-rq {versions['django-rq']} or newer",
        ),
        ("docs/how-to/install.md", f"({defaults.SLICE:.0f} seconds, and the job that runs then)"),
        ("docs/how-to/callbacks.md", f"up to {tuning.MAX_CLAIM} fast ones"),
        ("docs/reference/settings.md", f"and then to RQ ({Queue.DEFAULT_TIMEOUT})"),
        ("docs/reference/checks.md", f"less than {checks.SQLITE_PATIENCE} seconds"),
        ("docs/explanation/architecture.md", f"in pages of {tuning.INSERT_CHUNK:,}"),
        ("docs/explanation/architecture.md", f"`min(due links, {tuning.MAX_TICKETS})` tickets"),
        ("docs/explanation/architecture.md", f"a second, at most {tuning.MAX_CLAIM}."),
        ("docs/explanation/architecture.md", f"a slice of {defaults.SLICE:.0f} seconds"),
        ("docs/reference/commands.md", f"beginning of it: {batch_command.SHORT_ID} digits"),
        ("docs/reference/commands.md", f"are the first {tuning.MAX_CHILDREN_SHOWN},"),
        ("docs/reference/commands.md", f"{show_batch.LONGEST_MESSAGE:,} characters are shown"),
        ("docs/reference/commands.md", f"The newest {tuning.MAX_FAILURES_READ:,} failures"),
        ("docs/explanation/design-changes.md", f"older than {tuning.STATUS_MAX_AGE} seconds"),
        ("docs/explanation/ledger.md", f"pages of {tuning.LINKS_CHUNK:,} links"),
    ]


@pytest.mark.parametrize(("name", "figure"), figures())
def test_figures_are_those_of_the_code(name: str, figure: str) -> None:
    assert figure
    assert figure in " ".join((ROOT / name).read_text().split())


# Every page


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_code_on_a_page_is_code_and_imports_what_is_there(path: Path) -> None:
    blocks = re.findall(
        r"^```(?:\{code-block\} )?python\n(?::caption:.*\n)?(.*?)^```$",
        path.read_text(),
        re.MULTILINE | re.DOTALL,
    )
    trees = [ast.parse(block) for block in blocks]

    missing = [
        f"{node.module}.{alias.name}"
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("django_jobbatch")
        for alias in node.names
        if not hasattr(import_module(str(node.module)), alias.name)
    ]

    assert missing == []


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_between_pages_lead_somewhere(path: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", path.read_text())

    assert [link for link in links if not (path.parent / link).exists()] == []
