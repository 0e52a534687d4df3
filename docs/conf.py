"""How the documentation is built: `make docs`. A warning is an error there."""

from __future__ import annotations

import inspect
import re
import sys
from configparser import ConfigParser
from dataclasses import asdict
from importlib import import_module
from importlib.metadata import version as version_of
from pathlib import Path
from types import ModuleType
from typing import Any

import django
from django.conf import settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

# Autodoc imports models, which need a configured project.
settings.configure(
    INSTALLED_APPS=["django.contrib.contenttypes", "django_rq", "django_jobbatch"],
    RQ_QUEUES={"default": {}},
    USE_TZ=True,
)
django.setup()

project = "django-jobbatch"
author = "django-jobbatch contributors"
project_copyright = author
release = version = version_of("django-jobbatch")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["substitution"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"{project} {version}"

# Pages link to each other and to headings; docstrings write code in single backticks.
myst_heading_anchors = 3
default_role = "literal"

nitpicky = True
# Other projects' names. Their inventories are on the network, where a build should not depend on it.
nitpick_ignore_regex = [
    ("py:.*", r"(collections\.abc|datetime|typing|django)\..*"),
    ("py:class", r"Promise"),  # Django's lazy translations
    ("py:exc", r"(Protected|Restricted)Error"),  # Django's, named in a docstring
    # A type variable, and the names of options, which have a table of their own.
    ("py:.*", r"(.*\.)?(T|OptionNames)"),
]

add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False


def lowest_versions() -> dict[str, str]:
    """Return the lowest versions that the package metadata allows, such as `DJANGO_RQ`."""
    setup = ConfigParser()
    setup.read(ROOT / "setup.cfg")
    options = setup["options"]
    lines = options["install_requires"].split()
    requirements = dict(line.partition(",")[0].split(">=") for line in lines)
    requirements["python"] = options["python_requires"].removeprefix(">=")
    return {
        name.upper().replace("-", "_"): version.strip() for name, version in requirements.items()
    }


def numbers() -> dict[str, str]:
    """Return the numbers of the code under the names that they have there."""
    from rq import Queue  # noqa: PLC0415 - after the settings

    from django_jobbatch import checks, conf, tuning  # noqa: PLC0415
    from django_jobbatch.payload import plain_json  # noqa: PLC0415

    values = {
        **vars(tuning),
        "MAX_JSON_DEPTH": plain_json.MAX_JSON_DEPTH,
        **asdict(conf.Settings()),
        "RQ_TIMEOUT": Queue.DEFAULT_TIMEOUT,
        "SQLITE_TIMEOUT": checks.MIN_SQLITE_TIMEOUT,
        "MIN_POOL_SIZE": checks.MIN_POOL_SIZE,
        "MAX_LANE_LENGTH": tuning.MAX_POSITION // tuning.POSITION_STEP,
    }
    return {
        name: f"{value:,}" if isinstance(value, int) else f"{value:g}"
        for name, value in values.items()
        if name.isupper() and isinstance(value, int | float)
    } | {"RETRY_BACKOFF": ", ".join(f"{seconds:g}" for seconds in tuning.RETRY_BACKOFF)}


def statement_tables() -> dict[str, str]:
    """Return a table for each list of statements that the tests compare."""
    from tests import statements  # noqa: PLC0415 - found by the path above

    return {
        f"STATEMENTS_{name}": "\n".join(
            [
                "| statement | purpose |",
                "|---|---|",
                *(
                    f"| `{each.shape}` | {each.purpose}{', on MariaDB' * each.on_mariadb} |"
                    for each in rows
                ),
            ]
        )
        for name, rows in constants(statements).items()
    }


def constants(module: ModuleType) -> dict[str, Any]:
    """Return the tuples of a module that have names in capitals."""
    return {
        name: value
        for name, value in vars(module).items()
        if name.isupper() and isinstance(value, tuple)
    }


# `{{ MAX_CLAIM }}` on a page is the value in the code.
myst_substitutions = {**lowest_versions(), **numbers(), **statement_tables()}


def use_docstring_of_operation(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Show the docstring of `operations.cancel` for a method that says "See `operations.cancel`"."""
    found = re.search(r"See `operations\.(\w+)`", "\n".join(lines))
    if found:
        operation = getattr(import_module("django_jobbatch.operations"), found[1])
        lines[:] = inspect.getdoc(operation).splitlines()


def setup(app: Any) -> None:
    """Connect before napoleon, which reads the sections of a docstring."""
    app.connect("autodoc-process-docstring", use_docstring_of_operation, priority=400)
