"""System checks: errors of settings and databases, reported before a batch is dispatched.

Each message is a function, and `docs/reference/checks.md` has a row for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, Final, cast

from django.apps import apps
from django.conf import settings as django_settings
from django.core.checks import CheckMessage, Error, Info, Warning  # noqa: A004 - Django's name
from django.db import connections, router
from django.utils.module_loading import import_string

from django_jobbatch import conf
from django_jobbatch.conf import Problem, ProblemKind, did_you_mean
from django_jobbatch.exceptions import FunctionNotFound
from django_jobbatch.functions import loader
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.worker import BatchWorkerMixin

#: Database connections that a work-horse needs at the same time: for jobs, and for the heartbeat.
MIN_POOL_SIZE: Final = 2

#: Minimum seconds that a process should wait for SQLite. A dispatch of 100,000 jobs locks it for several.
MIN_SQLITE_TIMEOUT: Final = 20

_SETTING_IDS: Final = {
    ProblemKind.SHAPE: "jobbatch.E003",
    ProblemKind.KEY: "jobbatch.E004",
    ProblemKind.VALUE: "jobbatch.E005",
    ProblemKind.LEASE: "jobbatch.E006",
}


def check_settings(**kwargs: object) -> list[CheckMessage]:
    """Check the settings of the project, without a query."""
    return list(_settings_messages())


def check_workers(**kwargs: object) -> list[CheckMessage]:
    """Check that the workers reconcile batches, for `check --deploy`.

    A project may schedule `reconcile_batches` instead, so other commands do not mention it.
    """
    worker_class = _worker_class() if _has_worker_queue() else None
    if worker_class is None or issubclass(worker_class, BatchWorkerMixin):
        return []
    return [plain_worker_class(_worker_setting())]


def check_databases(
    *, databases: Iterable[str] | None = None, **kwargs: object
) -> list[CheckMessage]:
    """Check these databases, except those that the routers keep free of batches."""
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
    if _has_worker_queue():
        try:
            _import_worker_class()
        except ImportError as error:
            yield worker_class_missing(_worker_setting(), error)


def _has_worker_queue() -> bool:
    """Return whether a queue needs a worker, as all but those with `ASYNC: False` do."""
    queues = getattr(django_settings, "RQ_QUEUES", None)
    if not isinstance(queues, dict):
        return False
    return any(queue.get("ASYNC", True) for queue in queues.values())


def _worker_setting() -> Any:
    return getattr(django_settings, "RQ", {}).get("WORKER_CLASS", "rq.Worker")


def _import_worker_class() -> type:
    setting = _worker_setting()
    return cast(type, import_string(setting) if isinstance(setting, str) else setting)


def _worker_class() -> type | None:
    """Return the worker class of the settings, or None if it cannot be imported."""
    try:
        return _import_worker_class()
    except ImportError:
        return None


def _database_messages(alias: str) -> Iterator[CheckMessage]:
    connection: Any = connections[alias]
    if connection.vendor == "sqlite":
        # A database in memory has one process, so no process waits for another.
        if not connection.is_in_memory_db():
            yield from _sqlite_messages(alias, connection.settings_dict["OPTIONS"])
        return
    yield from _pool_messages(alias, connection.settings_dict["OPTIONS"].get("pool"))
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


def _pool_messages(alias: str, pool: object) -> Iterator[CheckMessage]:
    if not isinstance(pool, dict):
        return  # no pool, or one of psycopg's default size, which is larger
    size = pool.get("max_size") or pool.get("min_size", MIN_POOL_SIZE)
    if size < MIN_POOL_SIZE:
        yield pool_small(alias, size)


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
        f"Jobs without a queue go to {queue!r}, which is not in RQ_QUEUES.",
        hint=f'Set JOBBATCH["QUEUE"] to a queue of RQ_QUEUES. {did_you_mean(queue, queues)}',
        id="jobbatch.E007",
    )


def time_zones_off() -> Error:
    return Error(
        "USE_TZ is False, but delayed jobs need times with a time zone.",
        hint="Set USE_TZ = True.",
        id="jobbatch.E008",
    )


def moved_target_missing(path: str, error: FunctionNotFound) -> Error:
    return Error(
        f"Jobs dispatched as {path} would fail, because its new path leads to no function: {error}",
        hint=f'Set JOBBATCH["MOVED"]["{path}"] to the present dotted path of the function.',
        id="jobbatch.E009",
    )


def worker_class_missing(named: str, error: ImportError) -> Error:
    return Error(
        f'RQ["WORKER_CLASS"] is {named!r}, which cannot be imported: {error}.',
        hint='Set it to "django_jobbatch.worker.BatchWorker", or to your own worker class.',
        id="jobbatch.E010",
    )


def plain_worker_class(named: object) -> Info:
    return Info(
        f"Workers of the class {named} do not reconcile batches. After a crash of a worker or of"
        " Redis, jobs wait until `manage.py reconcile_batches` runs.",
        hint='Set RQ = {"WORKER_CLASS": "django_jobbatch.worker.BatchWorker"}, or schedule the'
        " command every minute and silence this check in SILENCED_SYSTEM_CHECKS.",
        id="jobbatch.I001",
    )


# The databases


def sqlite_transactions_deferred(alias: str) -> Warning:
    return Warning(
        f"The SQLite database {alias!r} takes its lock in the middle of a transaction. There it"
        ' cannot wait, and the transaction fails with "database is locked".',
        hint=f'Put "transaction_mode": "IMMEDIATE" into the OPTIONS of DATABASES[{alias!r}].',
        id="jobbatch.W001",
    )


def sqlite_timeout_short(alias: str, seconds: float) -> Warning:
    return Warning(
        f"A process waits at most {seconds} seconds for the SQLite database {alias!r}. A dispatch"
        " of many jobs can lock it for longer.",
        hint=f'Put "timeout": 30 into the OPTIONS of DATABASES[{alias!r}].',
        id="jobbatch.W002",
    )


def engine_without_transactions(alias: str, table: str, engine: str) -> Warning:
    return Warning(
        f"The table {table} of the database {alias!r} uses the engine {engine}, which has no"
        " transactions. Jobs and counters would differ after a crash.",
        hint=f"Use InnoDB: ALTER TABLE {table} ENGINE = InnoDB. Before `migrate`, set the server's"
        " default_storage_engine.",
        id="jobbatch.W003",
    )


def skip_locked_missing(alias: str) -> Warning:
    return Warning(
        f"The database {alias!r} has no SKIP LOCKED, so workers on one batch wait for each other.",
        hint="Use PostgreSQL, MariaDB 10.6 or MySQL 8.0.1, or a newer version.",
        id="jobbatch.W004",
    )


def database_untested(alias: str, name: str) -> Warning:
    return Warning(
        f"The database {alias!r} is {name}. This package is not tested on it.",
        hint="Use PostgreSQL, MariaDB, MySQL or SQLite, or test your batches on it.",
        id="jobbatch.W005",
    )


def pool_small(alias: str, size: int) -> Warning:
    return Warning(
        f"The pool of the database {alias!r} has at most {size} connection, but a work-horse needs"
        f" {MIN_POOL_SIZE}: one for jobs, one for the heartbeat. During a long job no lease is renewed"
        " and nothing is settled, so jobs may run twice.",
        hint=f'Set "max_size" of "pool" in the OPTIONS of DATABASES[{alias!r}] to {MIN_POOL_SIZE} or'
        " more.",
        id="jobbatch.W006",
    )
