"""Commands of a project with more than one database: they name the one that they mean."""

from __future__ import annotations

import uuid

import pytest
from django.db import connections

from django_jobbatch.models import JobBatch
from tests.factories import FailedJobFactory, JobBatchFactory
from tests.integration.management.calling import manage
from tests.ledger.helpers import FAILED, pks

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]


@pytest.fixture
def alias(other: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """An alias to which no router writes; it has the rows of the default database."""
    connections[other].ensure_connection()  # Django's test case forbids it afterwards
    monkeypatch.setitem(connections.settings, other, connections[other].settings_dict)
    return other


def test_a_batch_that_is_not_there_may_be_in_another_database(alias: str) -> None:
    unknown = uuid.uuid4()

    answers = [
        manage(command, unknown, *options)
        for command in ("show_batch", "cancel_batch", "retry_batch")
        for options in ([], ["--database", alias])
    ]

    hint = "--database names another database"
    one, other = (
        ("", f"There is no batch {unknown} in database {using}; {hint}.\n", 1)
        for using in ("default", alias)
    )
    assert answers == [one, other] * 3


def test_a_retry_command_that_is_printed_names_the_database(alias: str) -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[FAILED])
    elsewhere: JobBatch = JobBatchFactory.create(failed=True, jobs=[FAILED])
    (job,) = pks(batch)
    FailedJobFactory.create(job=batch.jobs.get())
    command = f"retry_batch {str(batch.pk)[:8]} --job {job}"

    shown = [
        manage("show_batch", batch.pk, *options).out for options in ([], ["--database", alias])
    ]
    rejected = manage("retry_batch", elsewhere.pk, f"--job={job}", "--database", alias).err

    printed = [
        [line.strip() for line in out.splitlines() if "retry_batch" in line] for out in shown
    ]
    assert printed == [[command], [f"{command} --database {alias}"]]
    assert rejected.endswith(f": {command} --database {alias}\n")


def test_a_repair_in_another_database_names_it(alias: str) -> None:
    batch = JobBatchFactory.create(jobs=["pending"])

    here = manage("reconcile_batches", "--dry-run")
    there = manage("reconcile_batches", "--dry-run", "--database", alias)

    repair = f"{batch.pk} ticket: jobs or callbacks are due, and tickets are missing (1 on queue default)"
    assert here.out.splitlines()[0] == repair
    assert there.out.splitlines()[0] == f"{repair} in database {alias}"
