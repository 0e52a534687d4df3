"""The databases of a project that hold batches, each by one alias."""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field

from django.db import connections, router

from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch, ensure_installation, installation_key

logger = get_logger(__name__)

#: The engine of an alias without a database.
_NO_DATABASE = "django.db.backends.dummy"


@dataclass(frozen=True, slots=True)
class Databases:
    """The databases that hold batches.

    Attributes:
        aliases: One alias for each database, by the key of its `Installation`.
        unreachable: The errors of databases that did not answer, by alias.
    """

    aliases: dict[uuid.UUID, str] = field(default_factory=dict)
    unreachable: dict[str, Exception] = field(default_factory=dict)


def find_databases(aliases: Iterable[str] | None = None) -> Databases:
    """Return the databases with the tables of this app; with `aliases` only some of them.

    Several aliases of one database have one key. Such an alias is a replica, for example. The alias
    to which the routers write batches is preferred, then the first one in DATABASES. A database that
    does not answer does not hide the others.
    """
    found = Databases()
    for alias in database_aliases() if aliases is None else aliases:
        try:
            key = _key(alias)
        except Exception as error:  # noqa: BLE001 - of any driver
            found.unreachable[alias] = error
        else:
            if key is not None:
                found.aliases.setdefault(key, alias)
    return found


def default_database() -> str:
    """Return the alias to which the routers write batches."""
    return router.db_for_write(JobBatch)


def database_aliases() -> list[str]:
    """Return the aliases of databases that may hold batches.

    That of new batches comes first, and the others in their order in DATABASES.
    """
    first = default_database()
    others = [
        alias
        for alias in connections
        if alias != first
        and connections.settings[alias]["ENGINE"] != _NO_DATABASE
        and router.allow_migrate_model(alias, JobBatch)
    ]
    return [first, *others]


def _key(alias: str) -> uuid.UUID | None:
    """Return the key of a database, or None if it is not to be reconciled.

    Only the database of new batches gets a key here. Any other one without a key may be a replica
    that the row of its primary has not reached yet.
    """
    if JobBatch._meta.db_table not in connections[alias].introspection.table_names():
        return None
    if alias == default_database():
        return ensure_installation(alias)
    key = installation_key(alias)
    if key is None:
        logger.warning(
            "Database %r has the tables of batches but no installation key, so its batches are not"
            " reconciled; run `migrate --database %s`, unless it is a replica",
            alias,
            alias,
        )
    return key
