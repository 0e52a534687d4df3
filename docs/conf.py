"""How the documentation is built: `make docs`. A warning is an error there."""

from __future__ import annotations

import inspect
import re
from importlib import import_module
from importlib.metadata import version as version_of
from typing import Any

import django
from django.conf import settings

# What autodoc imports are models, which want a project around them.
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
    ("py:exc", r"(Protected|Restricted)Error"),  # Django's, named in a docstring
    # A type variable, and the names of options, which have a table of their own.
    ("py:.*", r"(.*\.)?(T|OptionNames)"),
]

add_module_names = False
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False


def told_by_operation(
    app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """A method that says "See `operations.cancel`" has the text of that function here."""
    found = re.search(r"See `operations\.(\w+)`", "\n".join(lines))
    if found:
        operation = getattr(import_module("django_jobbatch.operations"), found[1])
        lines[:] = inspect.getdoc(operation).splitlines()


def setup(app: Any) -> None:
    """Before napoleon, which reads the sections of a docstring."""
    app.connect("autodoc-process-docstring", told_by_operation, priority=400)
