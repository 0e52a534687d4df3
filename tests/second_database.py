"""A second database with our tables, on the server of the first one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.management import call_command
from django.db import connection, connections
from django.db.backends.base.base import BaseDatabaseWrapper
from django.db.utils import load_backend

ALIAS = "second"


def beside(database: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of the second database."""
    separator = "." if database["ENGINE"].endswith("sqlite3") else "_"
    return {**database, "NAME": f"{database['NAME']}{separator}{ALIAS}"}


def away_path(database: dict[str, Any]) -> Path:
    """Return the path of a SQLite file in a folder that is missing."""
    name = str(database["NAME"]).replace("/", "-")
    return Path(tempfile.gettempdir()) / f"jobbatch-away-{name}" / "db.sqlite3"


@contextmanager
def second_database() -> Iterator[str]:
    """Create the database with all tables, and delete it at the end."""
    with empty_database() as alias:
        call_command("migrate", database=alias, verbosity=0)
        connections[alias].close()
        yield alias


@contextmanager
def empty_database() -> Iterator[str]:
    """Create the database without tables, and delete it at the end."""
    second = connection.copy(ALIAS)
    second.settings_dict = beside(connection.settings_dict)
    name = connection.ops.quote_name(second.settings_dict["NAME"])
    connections[ALIAS] = second
    _delete_files(second)
    _execute_on_server(f"DROP DATABASE IF EXISTS {name}", f"CREATE DATABASE {name}")
    yield ALIAS
    second.close()
    _execute_on_server(f"DROP DATABASE {name}")
    _delete_files(second)
    del connections[ALIAS]


def _delete_files(database: BaseDatabaseWrapper) -> None:
    """Delete the files of a SQLite database."""
    if database.vendor == "sqlite":
        path = Path(database.settings_dict["NAME"])
        for file in path.parent.glob(f"{path.name}*"):
            file.unlink()


@contextmanager
def sqlite_file(alias: str, path: Path) -> Iterator[str]:
    """Make a SQLite file a database of this process, under this alias."""
    settings_dict = {
        **connection.settings_dict,
        "ENGINE": "django.db.backends.sqlite3",
        "NAME": str(path),
        "OPTIONS": {"timeout": 30},
    }
    connections[alias] = load_backend(settings_dict["ENGINE"]).DatabaseWrapper(settings_dict, alias)
    yield alias
    connections[alias].close()
    del connections[alias]


def _execute_on_server(*statements: str) -> None:
    """Execute the statements. SQLite creates a file when it is opened."""
    if connection.vendor == "sqlite":
        return
    for sql in statements:
        with connection.cursor() as cursor:
            cursor.execute(sql)
