"""The settings of the tests, with a replica that batches are read from and that rejects writes."""

from __future__ import annotations

from typing import Any

from tests.settings import *  # noqa: F403
from tests.settings import DATABASES


def read_only(database: dict[str, Any]) -> dict[str, Any]:
    """Return the settings of a connection to this database that cannot write."""
    engine = database["ENGINE"].rpartition(".")[2]
    if engine == "sqlite3":
        return {**database, "NAME": f"file:{database['NAME']}?mode=ro", "OPTIONS": {"timeout": 30}}
    options = dict(database.get("OPTIONS", {}))
    if engine == "postgresql":
        options["options"] = "-c default_transaction_read_only=on"
    else:
        options["init_command"] = "SET SESSION TRANSACTION READ ONLY"
    return {**database, "OPTIONS": options}


DATABASES = {**DATABASES, "replica": read_only(DATABASES["default"])}
DATABASE_ROUTERS = ["tests.routers.ReplicaRouter"]
