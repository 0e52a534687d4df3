"""System checks: what can be known to be wrong before a batch is dispatched.

Each message is a function, and `docs/reference/checks.md` has a line for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Info, Warning  # noqa: A004 - Django's name
from django.db import connections, router
from django.utils.module_loading import import_string

from django_jobbatch import conf
from django_jobbatch.conf import ErrorKind, Problem, did_you_mean
from django_jobbatch.exceptions import FunctionNotFound
from django_jobbatch.functions import loader
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.worker import BatchWorkerMixin

#: Seconds a process should at least wait for SQLite: a dispatch of 100,000 jobs holds it for many.
MIN_SQLITE_TIMEOUT: Final = 20

_SETTING_IDS: Final = {
    ErrorKind.SHAPE: "jobbatch.E003",
    ErrorKind.KEY: "jobbatch.E004",
    ErrorKind.VALUE: "jobbatch.E005",
    ErrorKind.LEASE: "jobbatch.E006",
}


def check_settings(**kwargs: object) -> list[CheckMessage]:
    """Whether the settings of the project fit this app; no query."""
    return list(_settings_messages())


def check_databases(
    *, databases: Iterable[str] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Whether these databases, where batches may be stored in them, have what batches need."""
    return [
        message
        for alias in databases or ()
        if router.allow_migrate_model(alias, JobBatch)
        for message in _database_messages(alias)
    ]


def _settings_messages() -> Iterator[CheckMessage]:
    if not apps.is_installed("django_rq"):
        yield django_rq_missing()
    settings, problems = conf.validate()
    yield from map(setting_wrong, problems)
    queues = getattr(django_settings, "RQ_QUEUES", None)
    if not queues or not isinstance(queues, dict):
        yield queues_missing()
    else:
        yield from _queue_messages(settings.QUEUE, queues)
    if not django_settings.USE_TZ:
        yield time_zones_off()
    for path, now in settings.MOVED.items():
        try:
            loader.resolve(now)
        except FunctionNotFound as error:
            yield moved_target_missing(path, error)


def _queue_messages(default: str, queues: dict[str, dict[str, Any]]) -> Iterator[CheckMessage]:
    if default not in queues:
        yield queue_unknown(default, queues)
    if any(queue.get("ASYNC", True) for queue in queues.values()):
        yield from _worker_messages()


def _worker_messages() -> Iterator[CheckMessage]:
    named = getattr(django_settings, "RQ", {}).get("WORKER_CLASS", "rq.Worker")
    try:
        worker_class = import_string(named) if isinstance(named, str) else named
    except ImportError as error:
        yield worker_class_missing(named, error)
    else:
        if not issubclass(worker_class, BatchWorkerMixin):
            yield plain_worker_class(named)


def _database_messages(alias: str) -> Iterator[CheckMessage]:
    connection: Any = connections[alias]
    if connection.vendor == "sqlite":
        # One in memory is a process's own: nobody waits there.
        if not connection.is_in_memory_db():
            yield from _sqlite_messages(alias, connection.settings_dict["OPTIONS"])
        return
    if connection.vendor not in ("postgresql", "mysql"):
        yield database_untested(alias, connection.display_name)
    if not connection.features.has_select_for_update_skip_locked:
        yield skip_locked_missing(alias)
    if connection.vendor == "mysql":
        with connection.cursor() as cursor:
            for model in (JobBatch, BatchedJob, FailedJob):
                table = model._meta.db_table
                engine = connection.introspection.get_storage_engine(cursor, table)
                if engine != "InnoDB":
                    yield engine_without_transactions(alias, table, engine)


def _sqlite_messages(alias: str, options: dict[str, Any]) -> Iterator[CheckMessage]:
    if str(options.get("transaction_mode")).upper() not in ("IMMEDIATE", "EXCLUSIVE"):
        yield sqlite_transactions_deferred(alias)
    if options.get("timeout", 5) < MIN_SQLITE_TIMEOUT:
        yield sqlite_timeout_short(alias, options.get("timeout", 5))


# The settings


def django_rq_missing() -> Error:
    return Error(
        "django_rq is not in INSTALLED_APPS, so there is no `rqworker` to run jobs.",
        hint='Add "django_rq" to INSTALLED_APPS.',
        id="jobbatch.E001",
    )


def queues_missing() -> Error:
    return Error(
        "RQ_QUEUES names no queue, so no job can be sent.",
        hint='Set RQ_QUEUES = {"default": {"URL": "redis://localhost:6379/0"}} or the like.',
        id="jobbatch.E002",
    )


def setting_wrong(problem: Problem) -> Error:
    return Error(problem.message, hint=problem.hint, id=_SETTING_IDS[problem.kind])


def queue_unknown(queue: str, queues: Iterable[str]) -> Error:
    return Error(
        f"Jobs that name no queue go to {queue!r}, which is not in RQ_QUEUES.",
        hint=f'Set JOBBATCH["QUEUE"] to a queue of RQ_QUEUES. {did_you_mean(queue, queues)}',
        id="jobbatch.E007",
    )


def time_zones_off() -> Error:
    return Error(
        "USE_TZ is False, and jobs that wait for a time need one that is the same everywhere.",
        hint="Set USE_TZ = True.",
        id="jobbatch.E008",
    )


def moved_target_missing(path: str, error: FunctionNotFound) -> Error:
    return Error(
        f"The jobs that were dispatched as {path} would fail: it has moved to {error}",
        hint=f'Set JOBBATCH["MOVED"]["{path}"] to the dotted path where the function is now.',
        id="jobbatch.E009",
    )


def worker_class_missing(named: str, error: ImportError) -> Error:
    return Error(
        f'RQ["WORKER_CLASS"] is {named!r}, which cannot be imported: {error}.',
        hint='Set it to "django_jobbatch.worker.BatchWorker", or to a class of yours.',
        id="jobbatch.E010",
    )


def plain_worker_class(named: object) -> Info:
    return Info(
        f"Workers are of the class {named}, which does not see to batches: what a dead worker or"
        " a restarted Redis has lost waits until `manage.py reconcile_batches` runs.",
        hint='Set RQ = {"WORKER_CLASS": "django_jobbatch.worker.BatchWorker"}, or have that'
        " command run every minute and silence this in SILENCED_SYSTEM_CHECKS.",
        id="jobbatch.I001",
    )


# The databases


def sqlite_transactions_deferred(alias: str) -> Warning:
    return Warning(
        f"The SQLite database {alias!r} takes its lock in the middle of a transaction, where it"
        ' cannot wait for it: "database is locked".',
        hint=f'Put "transaction_mode": "IMMEDIATE" into the OPTIONS of DATABASES[{alias!r}].',
        id="jobbatch.W001",
    )


def sqlite_timeout_short(alias: str, seconds: float) -> Warning:
    return Warning(
        f"A process waits only {seconds} seconds for the SQLite database {alias!r}, and a dispatch"
        " of many jobs can take longer.",
        hint=f'Put "timeout": 30 into the OPTIONS of DATABASES[{alias!r}].',
        id="jobbatch.W002",
    )


def engine_without_transactions(alias: str, table: str, engine: str) -> Warning:
    return Warning(
        f"The table {table} of the database {alias!r} is, or would be, stored by {engine}, which"
        " cannot keep jobs and counters together.",
        hint=f"Use InnoDB: ALTER TABLE {table} ENGINE = InnoDB, or the server's default_storage_engine.",
        id="jobbatch.W003",
    )


def skip_locked_missing(alias: str) -> Warning:
    return Warning(
        f"The database {alias!r} has no SKIP LOCKED, so workers on one batch get in each other's way.",
        hint="Use MariaDB 10.6, MySQL 8.0.1, PostgreSQL, or one that is newer.",
        id="jobbatch.W004",
    )


def database_untested(alias: str, name: str) -> Warning:
    return Warning(
        f"The database {alias!r} is {name}, on which batches have not been tested.",
        hint="Use PostgreSQL, MariaDB, MySQL or SQLite, or test the races of your own use.",
        id="jobbatch.W005",
    )
