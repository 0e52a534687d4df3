"""Rows that are read from a replica: a change, and every read that decides about it, avoids it."""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import django_rq
import pytest
from django.core.management import call_command
from django.db import connections
from django.test import Client

from django_jobbatch import bus
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.operations import previews, reach
from django_jobbatch.states import BatchStatus, LinkStatus
from tests import jobs
from tests.integration.admin.pages import address
from tests.jobs import ADD
from tests.settings import ROOT

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server", "replica"),
]


class Replica:
    """The statements that reach the replica. Between `closed` and its end it answers none."""

    def __init__(self) -> None:
        self.statements: list[str] = []
        self.is_closed = False

    def __call__(self, execute: Callable[..., Any], sql: str, *arguments: Any) -> Any:
        self.statements.append(sql)
        assert sql.lstrip().startswith("SELECT"), f"a replica rejects {sql}"
        # Whether a transaction is open is a question to the connection, not to its rows.
        asks_rows = sql != "SELECT @@in_transaction"
        assert not (self.is_closed and asks_rows), f"a lagging replica decides by {sql}"
        return execute(sql, *arguments)

    @contextmanager
    def closed(self) -> Iterator[None]:
        self.is_closed = True
        yield
        self.is_closed = False


@pytest.fixture
def replica(other: str, settings: Any) -> Iterator[Replica]:
    """The routers read batches from `other` and write them to the default database."""
    settings.DATABASE_ROUTERS = ["tests.routers.OtherIsReplica"]
    replica = Replica()
    connections[other].ensure_connection()
    with connections[other].execute_wrapper(replica):
        yield replica


def read(pk: uuid.UUID) -> JobBatch:
    """The batch as a view of a project reads it, from the replica."""
    batch = JobBatch.objects.get(pk=pk)
    assert batch._state.db == "other"
    return batch


def open_batch() -> JobBatch:
    return read(bus.batch([ADD, ADD]).dispatch().pk)


def failed_batch() -> JobBatch:
    """A batch that has run inline: one job failed, and its child batch was cancelled with it."""
    inner = bus.batch(ADD)
    return read(bus.chain(bus.job(jobs.fail), inner).on_queue("sync").dispatch().pk)


def retry_chosen(batch: JobBatch) -> object:
    return batch.retry(BatchedJob.objects.filter(batch=batch.pk).failed())


def retry_failures(batch: JobBatch) -> object:
    return batch.retry(batch.failed_job_ids)


def first_job(batch: JobBatch) -> BatchedJob:
    return BatchedJob.objects.filter(batch=batch.pk).order_by("pk")[0]


@pytest.mark.parametrize(
    ("dispatched", "change", "status"),
    [
        (open_batch, lambda batch: batch.cancel(), BatchStatus.FINISHED),
        (open_batch, lambda batch: batch.cancel(stop_running=True), BatchStatus.FINISHED),
        (open_batch, lambda batch: batch.add(ADD), BatchStatus.PENDING),
        (open_batch, lambda batch: batch.delete(), None),
        (failed_batch, lambda batch: batch.delete(), None),
        (failed_batch, lambda batch: batch.retry(), BatchStatus.FINISHED),
    ],
    ids=["cancel", "stop", "add", "delete", "delete failed", "retry"],
)
def test_a_batch_that_was_read_from_a_replica_changes_on_the_database_of_writes(
    dispatched: Callable[[], JobBatch],
    change: Callable[[JobBatch], object],
    status: BatchStatus | None,
    replica: Replica,
) -> None:
    batch = dispatched()

    with replica.closed():
        change(batch)

    stored = JobBatch.objects.using("default").filter(pk=batch.pk)
    assert list(stored.values_list("status", flat=True)) == ([status] if status else [])


@pytest.mark.parametrize("retry", [retry_chosen, retry_failures])
def test_jobs_that_were_read_from_a_replica_are_retried_on_the_database_of_writes(
    retry: Callable[[JobBatch], object],
) -> None:
    batch = failed_batch()

    retry(batch)

    runs = JobBatch.objects.using("default").filter(pk=batch.pk).values_list("run", flat=True)
    assert list(runs) == [2]


@pytest.mark.parametrize("method", ["append", "prepend"])
def test_a_job_that_was_read_from_a_replica_extends_its_lane_on_the_database_of_writes(
    method: str, replica: Replica
) -> None:
    batch = open_batch()
    job = first_job(batch)

    with replica.closed():
        getattr(job, method)(ADD)

    assert BatchedJob.objects.using("default").filter(batch=batch.pk).count() == 3


def test_previews_of_a_batch_on_the_database_of_writes_read_it_there(replica: Replica) -> None:
    pk = failed_batch().pk
    batch = JobBatch.objects.for_write().get(pk=pk)

    with replica.closed():
        counts = (
            previews.can_cancel(batch),
            previews.can_retry(batch),
            previews.count_cancelled(batch).jobs,
            previews.count_retried(batch).jobs,
            previews.count_retried(batch, list(batch.jobs.failed())).jobs,
            previews.callbacks_of_cancel(batch),
        )

    assert counts == (False, True, 0, 2, 2, [])


def test_the_reach_of_a_batch_on_the_database_of_writes_is_read_there(replica: Replica) -> None:
    part = bus.batch([bus.job(jobs.fail)]).named("part")
    bus.chain(part, bus.batch([ADD]), ADD).on_queue("sync").dispatch()
    batch = JobBatch.objects.for_write().get(name="part")

    with replica.closed():
        (chain,) = reach.ancestors_of_retry(batch)
        further = reach.count_further(chain)
        cancelled = reach.ancestors_of_cancel(batch)

    assert (further, cancelled) == ((2, 1), [])


@pytest.mark.parametrize(
    ("dispatched", "command"),
    [
        (open_batch, "cancel_batch"),
        (failed_batch, "retry_batch"),
        (failed_batch, "show_batch"),
    ],
)
def test_commands_read_and_write_one_database(
    dispatched: Callable[[], JobBatch], command: str, replica: Replica
) -> None:
    batch = dispatched()

    with replica.closed():
        call_command(command, str(batch.pk)[:8])
        call_command("list_batches")
        call_command("prune_batches", "--hours", "0")
        call_command("reconcile_batches", "--database", "default")

    replica.statements.clear()


def test_the_admin_reads_what_it_is_about_to_change_on_the_database_of_writes(
    admin_client: Client, replica: Replica
) -> None:
    """A list may come from a replica. Its actions and the pages that confirm them do not."""
    batch, failed = open_batch(), failed_batch()
    failure = FailedJob.objects.get(batch=failed.pk)
    lists = [
        (JobBatch, batch.pk, "cancel_selected"),
        (JobBatch, failed.pk, "retry_selected"),
        (BatchedJob, failure.job_id, "retry_selected"),
        (FailedJob, failure.pk, "retry_selected"),
    ]
    pages = []
    for model, pk, action in lists:
        chosen = {"action": action, "_selected_action": str(pk)}
        answer = admin_client.post(address(model), chosen)
        assert answer.status_code == 302
        pages.append(answer["Location"])

    with replica.closed():
        shown = [admin_client.get(page).status_code for page in pages]
        version = admin_client.get(pages[0]).context["form"].initial["version"]
        admin_client.post(pages[0], {"version": version, "running": "finish"})

    stored = JobBatch.objects.using("default").get(pk=batch.pk)
    assert shown == [200] * 4
    assert (stored.status, stored.cancelled_by) == (BatchStatus.FINISHED, "admin")


def test_tickets_carry_the_database_of_writes() -> None:
    batch = open_batch()
    queue = django_rq.get_queue("default")
    queue.empty()

    batch.add(ADD)
    jobs_in_queue = [queue.fetch_job(each) for each in queue.job_ids]

    assert {job.args for job in jobs_in_queue if job} == {(str(batch.pk), "default", "default")}


# `using()`


@pytest.fixture
def answers_other(settings: Any, replica: Replica) -> Iterator[None]:
    """The routers answer `other` for each row, as Django's own `save()` of a row would obey."""
    settings.DATABASE_ROUTERS = ["tests.routers.OtherIsAll"]
    with replica.closed():
        yield


@pytest.mark.usefixtures("answers_other")
def test_a_batch_that_was_read_with_using_is_read_and_changed_there() -> None:
    pk = bus.batch([ADD, ADD]).using("default").dispatch().pk
    explicit = JobBatch.objects.using("default").get(pk=pk)

    explicit.refresh_from_db()
    link = explicit.jobs.order_by("pk")[0]
    (joined, _) = BatchedJob.objects.using("default").select_related("batch").order_by("pk")

    assert {explicit.database, link.database, link.batch.database} == {"default"}
    assert {joined.database, joined.batch.database} == {"default"}
    assert (explicit.progress, explicit.is_settled, explicit.failed_job_ids) == (0, False, [])
    assert (list(explicit.failures), list(explicit.children)) == ([], [])
    assert pickle.loads(pickle.dumps(explicit)).database == "default"  # noqa: S301 - our own
    assert explicit.cancel() is True


@pytest.mark.usefixtures("answers_other")
@pytest.mark.parametrize("item", [ADD, bus.batch(ADD)], ids=["job", "batch"])
def test_a_batch_that_was_dispatched_with_using_stays_there(item: Any) -> None:
    dispatched = bus.batch([item]).using("default").dispatch()

    added = dispatched.add(item)
    dispatched.refresh_from_db()

    assert added == 1
    assert {each.database for each in [dispatched, *dispatched.children]} == {"default"}
    assert list(dispatched.jobs.values_list("status", flat=True)) == [LinkStatus.PENDING] * 2


def test_without_using_the_routers_decide_about_each_row(replica: Replica) -> None:
    batch = open_batch()

    assert batch.database == "default"
    assert first_job(batch).database == "default"
    assert BatchedJob.objects.select_related("batch").first().batch.database == "default"  # type: ignore[union-attr]
    assert [each.database for each in batch.jobs.all()] == ["default"] * 2
    assert JobBatch().database == "default"


def test_no_module_asks_where_a_row_was_read() -> None:
    """`database` is where it is written, and a query that starts from a row is read near it."""
    package = ROOT / "django_jobbatch"

    asking = [path.name for path in package.rglob("*.py") if "_state.db" in path.read_text()]

    assert asking == []
