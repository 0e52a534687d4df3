"""Compare the pages with the code: everything is described, and nothing else."""

from __future__ import annotations

import ast
import inspect
import json
import re
import subprocess
import sys
from argparse import ArgumentParser
from collections import defaultdict
from configparser import ConfigParser
from dataclasses import asdict
from importlib import import_module
from pathlib import Path

import pytest
from django.core.management import BaseCommand, get_commands, load_command_class
from django.db.models import TextChoices

import django_jobbatch
from django_jobbatch import bus, checks, exceptions, models
from django_jobbatch.conf import Settings
from django_jobbatch.reconcile import RepairKind
from django_jobbatch.specs.options import OptionNames
from django_jobbatch.states import BatchStatus, LinkStatus, Outcome
from tests.settings import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "SECURITY.md", *DOCS.rglob("*.md")]
)

OUR_COMMANDS = sorted(name for name, app in get_commands().items() if app == "django_jobbatch")
MODELS = [models.JobBatch, models.BatchedJob, models.FailedJob, models.Installation]


def page(name: str) -> str:
    return (DOCS / f"{name}.md").read_text()


def section(name: str, *titles: str) -> str:
    """The text of a page after these headings, up to the next one of the rank of the last."""
    text = page(name)
    for title in titles:
        _, _, remaining = text.partition(f"\n{title}\n")
        assert remaining, f"{name} has no {title}"
        text = re.split(rf"^{title.partition(' ')[0]} ", remaining, flags=re.MULTILINE)[0]
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


def test_every_option_is_listed() -> None:
    listed = named(page("reference/options").partition("## ")[0])

    assert sorted(set(listed) - {"on_queue"}) == sorted(OptionNames.__annotations__)


# The models


@pytest.mark.parametrize("model", MODELS)
def test_every_field_is_described(model: type[models.JobBatch]) -> None:
    described = named(section("reference/models", f"## {model.__name__}", "### Fields"))

    there = [field.name for field in model._meta.fields]
    assert sorted(described) == sorted(there)


@pytest.mark.parametrize("model", MODELS)
def test_every_property_and_method_is_described(model: type[models.JobBatch]) -> None:
    ours = [kind for kind in model.__mro__ if kind.__module__.startswith("django_jobbatch.")]
    own = {
        name
        for kind in ours
        for name in public(kind)
        if isinstance(vars(kind)[name], property | bool) or inspect.isfunction(vars(kind)[name])
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
        option.split()[0]
        for option in named(section("reference/commands", f"## `{name}`").partition("### ")[0])
    }

    assert described == options(parser) - common


def options(parser: ArgumentParser) -> set[str]:
    """The options of a command, as its help has them."""
    entries = re.findall(r"^  (-.+?)(?: {2,}|$)", parser.format_help(), re.MULTILINE)
    return {name for entry in entries for name in re.findall(r"(?<!\S)--?[\w-]+", entry)}


def test_every_kind_of_repair_is_described() -> None:
    described = named(
        section("reference/commands", "## `reconcile_batches`", "### Kinds of repairs")
    )

    assert sorted(described) == sorted(map(str, RepairKind))


def test_every_repair_is_described_in_the_words_of_the_command() -> None:
    table = rows(section("reference/commands", "## `reconcile_batches`", "### Kinds of repairs"))

    assert {kind.strip("`"): difference for kind, difference, *_ in table} == {
        str(kind): kind.description for kind in RepairKind
    }


# Modules


def modules() -> set[str]:
    """The modules of the package as the page writes them, such as `ledger/claims`."""
    package = ROOT / "django_jobbatch"
    paths = [path.relative_to(package).with_suffix("") for path in package.rglob("*.py")]
    return {
        str(path) for path in paths if path.name != "__init__" and path.parts[0] != "migrations"
    }


def test_every_module_is_described() -> None:
    assert sorted(named(section("explanation/architecture", "## Modules"))) == sorted(modules())


def test_every_layer_is_described() -> None:
    described = named(section("explanation/architecture", "## Layers"))

    top = {name.partition("/")[0] for name in modules()} - {"apps", "templatetags"}
    assert sorted(described) == sorted(top)


# The list of tested guarantees


def test_every_promise_has_a_test() -> None:
    promises = [first for first, _ in rows(page("explanation/guarantees").partition("## ")[0])]

    tested = section("internals/tested", "## What is guaranteed")

    assert [first for first, _ in rows(tested)] == promises


def test_every_test_on_the_page_is_there() -> None:
    """A test, or a case of a table of them. Modules in two folders may have the same name."""
    named_there = re.findall(r"`(test_\w+)::([^`]+)`", page("internals/tested"))
    sources: dict[str, str] = defaultdict(str)
    for path in (ROOT / "tests").rglob("test_*.py"):
        sources[path.stem] += path.read_text()

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
        case for case in cases if f"`test_faults::{case}`" not in page("internals/tested")
    ] == []


# Substitutions: a page that names one which is gone fails `make docs`, but only there


def test_every_substitution_on_a_page_exists_and_every_table_of_statements_is_shown() -> None:
    names = "import json, conf; print(json.dumps(sorted(conf.myst_substitutions)))"
    printed = subprocess.run(
        [sys.executable, "-c", names], cwd=DOCS, check=True, stdout=subprocess.PIPE, text=True
    )
    known = set(json.loads(printed.stdout))

    used = {
        name for path in DOCS.rglob("*.md") for name in re.findall(r"{{ (\w+) }}", path.read_text())
    }

    assert used - known == set()
    assert {name for name in known if name.startswith("STATEMENTS_")} - used == set()


# Versions: pages that Sphinx builds have substitutions, which these two cannot have


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_versions_are_the_lowest_that_the_metadata_allows(name: str) -> None:
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    options = setup["options"]
    lines = options["install_requires"].split()
    lowest = dict(line.partition(",")[0].split(">=") for line in lines)
    lowest["python"] = options["python_requires"].removeprefix(">=")

    named_there = re.findall(r"(Python|Django|django-rq) (\d[\d.]*)", (ROOT / name).read_text())

    assert ("Python", lowest["python"]) in named_there
    assert [each for each in named_there if lowest[each[0].lower()] != each[1]] == []


def test_every_key_of_a_snapshot_is_described() -> None:
    listed = named(section("how-to/show-progress", "## The keys"))

    assert sorted(listed) == sorted(models.JobBatch().snapshot())


# Every page


@pytest.mark.parametrize("start", [ROOT / "README.md", DOCS / "index.md"], ids=["readme", "index"])
def test_every_page_is_linked_from_where_readers_start(start: Path) -> None:
    links = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", start.read_text())

    linked = {(start.parent / link).resolve() for link in links}
    included = {DOCS / "changelog.md", DOCS / "contributing.md"}  # the files beside the README
    assert set(DOCS.rglob("*.md")) - linked - included - {DOCS / "index.md"} == set()


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
