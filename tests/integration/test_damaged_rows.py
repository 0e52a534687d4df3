"""Rows and keys that other programs have damaged: the others are treated, and the one is named."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from django.apps import apps
from django.contrib import admin
from django.core.management import call_command
from django.db import connection
from django.db.models import JSONField, Model, Value
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from django_jobbatch import bus, dispatch, ledger, operations, snapshot, transport
from django_jobbatch.exceptions import BatchBusy, BatchCancelled
from django_jobbatch.models import BatchedJob, JobBatch, tree
from django_jobbatch.reconcile import Repair, RepairKind, reconcile
from django_jobbatch.runner import work
from django_jobbatch.transport import work_horse
from tests import jobs
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import ALIAS, age, claim, read, statuses
from tests.servers import RedisServer, Workers
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]

LIST = "rq:queue:default"


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The ids that the errors of this package name, in their order."""
    return [
        record.__dict__.get("batch_id", record.getMessage())
        for record in caplog.records
        if record.name.startswith("django_jobbatch") and record.levelname == "ERROR"
    ]


def lost_batch(**columns: object) -> JobBatch:
    """A batch with two jobs of a dead ticket, and these columns."""
    batch = JobBatchFactory.create(jobs=2, running=True)
    claim(batch)
    age(batch)
    damage(batch, columns)
    return batch


def damage(batch: JobBatch, columns: dict[str, Any]) -> None:
    """Write these values into JSON columns, None as the null of JSON."""
    values = {name: Value(value, JSONField()) for name, value in columns.items()}
    if values:
        JobBatch.objects.filter(pk=batch.pk).update(**values)


def repairs_of(*batches: JobBatch) -> set[Repair]:
    return {Repair(RepairKind.LOST, batch.pk, "default", 2) for batch in batches}


# Links that no ticket can claim


def forge_run(batch: JobBatch) -> None:
    """Give the batch a job with a run that no job has."""
    link = batch.jobs.jobs_only().order_by("-pk")[0]
    BatchedJob.objects.filter(pk=link.pk).update(run=5)


def forge_role(batch: JobBatch) -> None:
    """Make a job of the batch a callback that no run has."""
    JobBatch.objects.filter(pk=batch.pk).update(callbacks=[])
    link = batch.jobs.jobs_only().order_by("-pk")[0]
    BatchedJob.objects.filter(pk=link.pk).update(role="then", run=1)


FORGED: list[Callable[[JobBatch], None]] = [forge_run, forge_role]


@pytest.mark.parametrize("forge", FORGED)
def test_a_job_that_no_ticket_can_claim_sends_no_further_ticket(
    forge: Callable[[JobBatch], None], redis_server: RedisServer
) -> None:
    batch = bus.batch([ADD, ADD]).finally_(jobs.add, 1).dispatch()
    forge(batch)
    redis_server.client.delete(LIST)

    work(str(batch.pk), "default", ALIAS)

    assert [each.status for each in batch.jobs.order_by("pk")] == ["succeeded", "pending"]
    assert redis_server.client.llen(LIST) == 0
    assert list(reconcile(ALIAS)) == []


def test_workers_are_idle_beside_a_job_that_no_ticket_can_claim(
    workers: Workers, redis_server: RedisServer
) -> None:
    batch = bus.batch([ADD, ADD]).finally_(jobs.add, 1).dispatch()
    forge_run(batch)
    other = bus.batch([ADD]).dispatch()
    (worker,) = workers(1, "default", "--burst", ready=False)

    worker.wait_for_log("done, quitting")

    assert read(other).is_finished
    assert statuses(batch) == ["succeeded", "pending"]


def test_a_ticket_that_can_claim_nothing_leaves_due_links_to_reconcile(
    redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = bus.batch([ADD, ADD]).dispatch()
    redis_server.client.delete(LIST)
    monkeypatch.setattr(ledger, "claim_first", lambda *args, **named: [])

    work(str(batch.pk), "default", ALIAS)
    monkeypatch.undo()

    assert redis_server.client.llen(LIST) == 0
    assert list(reconcile(ALIAS)) == [Repair(RepairKind.TICKET, batch.pk, "default", 1)]


# Child batches that cannot be started


def work_on(batch: JobBatch, redis_server: RedisServer) -> None:
    """Let tickets work on the batch until no further one is sent."""
    for _ in range(10):
        redis_server.client.delete(LIST)
        with suppress(Exception):
            work(str(batch.pk), "default", ALIAS)
        if not redis_server.client.llen(LIST):
            return
    pytest.fail("each ticket sends the next one")


@pytest.mark.parametrize("columns", [{"options": []}, {"queues": 7}], ids=["options", "queues"])
@pytest.mark.parametrize("allow", ["", "allow_failures"])
def test_a_child_batch_that_cannot_be_started_is_cancelled(
    allow: str,
    columns: dict[str, Any],
    redis_server: RedisServer,
    caplog: pytest.LogCaptureFixture,
) -> None:
    lane = bus.chain([bus.batch([ADD]).named("inner"), ADD])
    builder = bus.batch([lane, ADD])
    batch = (builder.allow_failures() if allow else builder).dispatch()
    (inner,) = tree.descendants(batch).filter(name="inner")
    damage(inner, columns)

    for _ in range(4):
        work_on(batch, redis_server)
        list(reconcile(ALIAS))

    others = ["skipped", "succeeded"] if allow else ["cancelled"] * 2
    assert statuses(batch) == ["cancelled", *others]
    assert "could not be started" in caplog.text
    assert read(batch).outcome == ("partial" if allow else "cancelled")
    assert inner.jobs.get().status == "cancelled"


# JSON of a wrong shape

JUNK: dict[str, dict[str, Any]] = {
    "queues are null": {"queues": None},
    "queues are a number": {"queues": 7},
    "queues are no texts": {"queues": [None, {}]},
    "callbacks are a number": {"callbacks": 7},
    "callbacks are no calls": {"callbacks": [7, "x"]},
    "a callback has no queue": {"callbacks": [{"role": "then", "payload": "", "options": {}}]},
    "options are a list": {"options": ["isolated"]},
    "options are null": {"options": None},
    "a cursor is a text": {"retry_cursor": "x"},
}


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_json_of_a_wrong_shape_hides_no_other_batch_from_reconcile(
    junk: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    batches = [lost_batch(), lost_batch(**junk), lost_batch()]

    repairs = set(reconcile(ALIAS))

    assert repairs == repairs_of(batches[0], batches[2])
    assert errors(caplog) == [str(batches[1].pk)]


def test_overdue_batches_of_others_end_no_ticket(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    past = timezone.now() - timedelta(hours=1)
    damaged, delayed = (
        JobBatchFactory.create(jobs=1, running=True, next_event_at=past) for _ in range(2)
    )
    damage(damaged, {"queues": None})
    BatchedJob.objects.filter(batch=delayed).update(available_at=past)

    dispatch.send_overdue(ALIAS)

    assert transport.waiting_tickets(delayed.pk, "default").queued == 1
    assert errors(caplog) == [str(damaged.pk)]


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_commands_name_the_damaged_batch_and_treat_the_others(
    junk: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    damaged, other = (JobBatchFactory.create(jobs=2, running=True) for _ in range(2))
    damage(damaged, junk)
    ids = [str(damaged.pk), str(other.pk)]

    call_command("list_batches")
    listed = capsys.readouterr().out
    with pytest.raises(SystemExit):
        call_command("show_batch", ids[0])
    shown = capsys.readouterr().err
    with pytest.raises(SystemExit):
        call_command("cancel_batch", *ids)

    assert [each[:8] in listed for each in ids] == [True, True]
    assert shown.startswith(f"{damaged.pk}: its ")
    assert capsys.readouterr().err.startswith(f"{damaged.pk}: its ")
    assert read(other).is_cancelled


# Dates that the driver cannot read


#: SQLite stores any text. MariaDB keeps no later year, and its driver reads this one as no date.
UNREADABLE = {
    "postgresql": "12000-01-01 00:00:00",
    "sqlite": "2026-13-01 00:00:00",
    "mysql": "0000-00-00 00:00:00",
}


def write_unreadable_date(table: str, column: str, pk: object) -> None:
    """Write a date that the driver of this database cannot read back."""
    value = UNREADABLE[connection.vendor]
    with connection.cursor() as cursor:
        if connection.vendor == "mysql":
            cursor.execute("SET SESSION sql_mode = ''")
        field = apps.get_model("django_jobbatch", table.rpartition("_")[2])._meta.pk
        key = field.get_db_prep_value(pk, connection)
        sql = f"UPDATE {table} SET {column} = %s WHERE id = %s"  # noqa: S608 - names of this module
        cursor.execute(sql, [value, key])
    connection.close()


def unreadable(batch: JobBatch) -> JobBatch:
    write_unreadable_date("django_jobbatch_jobbatch", "created_at", batch.pk)
    return batch


not_on_mariadb = pytest.mark.skipif(
    connection.vendor == "mysql", reason="MariaDB keeps no date that its driver cannot read"
)


@not_on_mariadb
@pytest.mark.parametrize("chunk", [1, 2, 500])
def test_a_date_that_cannot_be_read_hides_no_other_batch_from_reconcile(
    chunk: int, tuning: Tuning, caplog: pytest.LogCaptureFixture
) -> None:
    tuning(RECONCILE_CHUNK=chunk)
    batches = [lost_batch() for _ in range(4)]
    unreadable(batches[1])

    repairs = set(reconcile(ALIAS))

    assert repairs == repairs_of(batches[0], *batches[2:])
    assert errors(caplog) == [str(batches[1].pk)]


@not_on_mariadb
def test_a_date_of_a_link_that_cannot_be_read_hides_no_other_batch_from_reconcile(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batches = [lost_batch() for _ in range(3)]
    link = batches[1].jobs.all()[0]
    write_unreadable_date("django_jobbatch_batchedjob", "started_at", link.pk)

    repairs = set(reconcile(ALIAS))

    assert repairs == repairs_of(batches[0], batches[2])
    assert errors(caplog) == [str(batches[1].pk)]


@not_on_mariadb
def test_a_next_link_that_cannot_be_read_fails_no_link_before_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    batch = bus.chain(ADD, ADD).dispatch()
    second = batch.jobs.jobs_only().order_by("position")[1]
    write_unreadable_date("django_jobbatch_batchedjob", "started_at", second.pk)

    work(str(batch.pk), "default", ALIAS)

    found = batch.jobs.order_by("position").values_list("status", flat=True)
    assert list(found) == ["succeeded", "pending"]
    assert not batch.failures.exists()
    assert {f"Job {second.pk} is unreadable" in each for each in errors(caplog)} == {True}


@not_on_mariadb
def test_an_unreadable_batch_at_the_head_of_a_queue_ends_no_ticket_of_another(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(work_horse, "_work_horse", None)
    transport.allow_taking_over("rq:worker:ours", [LIST])
    damaged = unreadable(bus.batch([ADD]).dispatch())
    batch = bus.batch([ADD]).dispatch()

    work(str(batch.pk), "default", ALIAS)

    assert (read(batch).outcome, errors(caplog)) == ("succeeded", [str(damaged.pk)])


@not_on_mariadb
@pytest.mark.parametrize("damaged", [[0], [2], [0, 1, 3]])
def test_a_due_job_that_cannot_be_read_hides_no_other_job_from_tickets(
    damaged: list[int], redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    batch = bus.batch([ADD] * 5).dispatch()
    links = list(batch.jobs.order_by("pk").values_list("pk", flat=True))
    for each in damaged:
        write_unreadable_date("django_jobbatch_batchedjob", "started_at", links[each])
    redis_server.client.delete(LIST)

    work(str(batch.pk), "default", ALIAS)

    by_pk = batch.jobs.order_by("pk").values_list("status", flat=True)
    expected = ["pending" if each in damaged else "succeeded" for each in range(5)]
    assert list(by_pk) == expected
    assert {pk for pk in links if f"Job {pk} is unreadable" in caplog.text} == {
        links[each] for each in damaged
    }
    # One ticket more finds nothing that it can claim, and sends no other.
    assert redis_server.client.llen(LIST) <= 1
    redis_server.client.delete(LIST)
    work(str(batch.pk), "default", ALIAS)
    assert redis_server.client.llen(LIST) == 0


def test_a_date_that_cannot_be_read_hides_no_other_batch_in_a_list(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = [JobBatchFactory.create(jobs=1, running=True) for _ in range(3)]
    unreadable(batches[1])

    with pytest.raises(SystemExit):
        call_command("list_batches")

    printed = capsys.readouterr()
    assert [str(each.pk)[:8] in printed.out for each in batches] == [True, False, True]
    assert printed.err.startswith(f"{batches[1].pk}: ")


@not_on_mariadb
def test_a_command_treats_the_batches_after_one_that_cannot_be_read(
    capsys: pytest.CaptureFixture[str],
) -> None:
    batches = [JobBatchFactory.create(jobs=1, running=True) for _ in range(3)]
    unreadable(batches[1])

    with pytest.raises(SystemExit):
        call_command("cancel_batch", *(str(batch.pk) for batch in batches))

    printed = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in printed] == [str(batches[1].pk)]
    assert read(batches[2]).is_cancelled


@not_on_mariadb
def test_prune_deletes_the_others_and_names_the_one_that_cannot_be_read() -> None:
    batches = [JobBatchFactory.create(jobs=["succeeded"], finished=True) for _ in range(3)]
    unreadable(batches[1])

    pruned = operations.prune(ALIAS, finished=timedelta(0))

    assert pruned.batches == 2
    assert [row.id for row in pruned.unreadable] == [batches[1].pk]
    assert list(JobBatch.objects.values_list("pk", flat=True)) == [batches[1].pk]


@not_on_mariadb
def test_a_row_that_cannot_be_read_hides_no_other_row_in_the_admin(
    admin_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [JobBatchFactory.create(jobs=2, running=True) for _ in range(3)]
    unreadable(batches[1])
    links = list(batches[0].jobs.order_by("pk"))
    write_unreadable_date("django_jobbatch_batchedjob", "started_at", links[0].pk)

    listed = admin_client.get(reverse("admin:django_jobbatch_jobbatch_changelist"))
    jobs_listed = admin_client.get(
        reverse("admin:django_jobbatch_batchedjob_changelist"), {"batch": str(batches[0].pk)}
    )

    assert listed.status_code == jobs_listed.status_code == 200
    shown = [each.pk for each in listed.context["cl"].result_list]
    assert set(shown) == {batches[0].pk, batches[2].pk}
    assert str(batches[1].pk) in caplog.text
    assert links[0].pk not in [each.pk for each in jobs_listed.context["cl"].result_list]


@not_on_mariadb
def test_a_child_batch_that_cannot_be_read_hides_no_other_on_the_page_of_its_parent(
    admin_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    parent = JobBatchFactory.create(child_batches=2, running=True)
    stand_ins = [BatchedJobFactory.create(batch=parent, role="job") for _ in range(2)]
    children = [JobBatchFactory.create(parent=each, root=parent) for each in stand_ins]
    unreadable(children[0])

    page = admin_client.get(reverse("admin:django_jobbatch_jobbatch_change", args=[parent.pk]))

    assert page.status_code == 200
    assert page.context["children"] == [children[1]]
    assert str(children[0].pk) in caplog.text


def change_page(client: Client, row: Model) -> Any:
    return client.get(
        reverse(f"admin:django_jobbatch_{row._meta.model_name}_change", args=[row.pk])
    )


def unreadable_root(levels: int) -> list[JobBatch]:
    """A failed and running batch in batches; the first of them cannot be read."""
    batches = [JobBatchFactory.create(child_batches=1, jobs=["failed"], running=True)]
    for _ in range(levels):
        stand_in = BatchedJobFactory.create(batch=batches[-1], role="job")
        batches.append(
            JobBatchFactory.create(
                parent=stand_in,
                root=batches[0],
                jobs=["failed", "pending"],
                running=True,
                child_batches=1,
            )
        )
    unreadable(batches[0])
    return batches


@not_on_mariadb
@pytest.mark.parametrize("levels", [1, 2])
def test_an_ancestor_that_cannot_be_read_leaves_the_page_of_its_descendant_without_buttons(
    levels: int, admin_client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    batch = unreadable_root(levels)[-1]

    page = change_page(admin_client, batch)

    assert page.status_code == 200
    assert [page.context[name] for name in ("can_cancel", "can_retry")] == [False, False]
    assert len([line for line in caplog.messages if "unreadable" in line]) == 1


@not_on_mariadb
@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_an_ancestor_that_cannot_be_read_lets_no_page_confirm_a_change_of_its_descendant(
    verb: str, admin_client: Client
) -> None:
    batch = unreadable_root(1)[-1]
    address = reverse(f"admin:django_jobbatch_jobbatch_{verb}", args=[batch.pk])

    page = admin_client.get(address)
    posted = admin_client.post(address)

    assert page.status_code == posted.status_code == 302
    assert read(batch).status == "running"


@not_on_mariadb
def test_a_batch_that_cannot_be_read_hides_none_of_its_jobs_and_failures(
    admin_client: Client,
) -> None:
    batch = JobBatchFactory.create(jobs=["failed"], running=True)
    job = batch.jobs.get()
    failure = FailedJobFactory.create(job=job)
    unreadable(batch)
    lists = [
        admin_client.get(
            reverse(f"admin:django_jobbatch_{name}_changelist"), {"batch": str(batch.pk)}
        )
        for name in ("batchedjob", "failedjob")
    ]

    pages = [change_page(admin_client, row) for row in (job, failure)]

    assert [page.status_code for page in [*lists, *pages]] == [200] * 4
    assert [page.context["can_retry"] for page in pages] == [False, False]
    assert [len(page.context["cl"].result_list) for page in lists] == [1, 1]


@not_on_mariadb
def test_a_failure_or_callback_that_cannot_be_read_hides_no_other_on_the_page_of_its_batch(
    admin_client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    batch = JobBatchFactory.create(jobs=["failed", "failed"], roles=["finally"], running=True)
    jobs = list(batch.jobs.order_by("pk"))
    failures = [FailedJobFactory.create(job=job) for job in jobs]
    write_unreadable_date("django_jobbatch_failedjob", "failed_at", failures[0].pk)
    callback = BatchedJobFactory.create(batch=batch, role="finally", status="failed")
    write_unreadable_date("django_jobbatch_batchedjob", "started_at", callback.pk)

    page = change_page(admin_client, batch)
    with pytest.raises(SystemExit):  # as it reports errors
        call_command("show_batch", str(batch.pk))

    assert page.status_code == 200
    assert [each.count for each in page.context["failures"].groups] == [1]
    printed = capsys.readouterr()
    assert "1 x tests.jobs.JobFailed" in printed.out
    assert {str(row.pk) for row in (failures[0], callback) if f"Row {row.pk} " in printed.err} == {
        str(failures[0].pk),
        str(callback.pk),
    }


@not_on_mariadb
def test_the_page_of_a_row_that_cannot_be_read_redirects_to_the_list(admin_client: Client) -> None:
    batch = unreadable(JobBatchFactory.create(jobs=1, running=True))

    page = change_page(admin_client, batch)

    assert page.status_code == 302


@not_on_mariadb
@pytest.mark.parametrize("model", ["batchedjob", "failedjob"])
def test_a_page_of_rows_that_cannot_be_read_leads_to_the_rows_after_it(
    model: str, admin_client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    model_admin = admin.site.get_model_admin(apps.get_model("django_jobbatch", model))
    monkeypatch.setattr(model_admin, "list_per_page", 2)
    batch = JobBatchFactory.create(jobs=5, running=True)
    rows: list[Any] = list(batch.jobs.order_by("lane", "position"))
    column = "started_at"
    if model == "failedjob":
        rows = [FailedJobFactory.create(job=row) for row in rows]
        rows.sort(key=lambda row: (row.failed_at, row.pk), reverse=True)
        column = "failed_at"
    for row in rows[:4] if model == "batchedjob" else rows:
        write_unreadable_date(f"django_jobbatch_{model}", column, row.pk)
    address = reverse(f"admin:django_jobbatch_{model}_changelist")

    pages = [admin_client.get(address, {"batch": str(batch.pk)})]
    while (url := pages[-1].context["cl"].next_url) and len(pages) < 9:
        pages.append(admin_client.get(address + url))
    earlier = admin_client.get(address + pages[-1].context["cl"].previous_url)

    listed = [[row.pk for row in page.context["cl"].result_list] for page in pages]
    last = [rows[4].pk] if model == "batchedjob" else []
    assert listed == [[], [], last]
    assert earlier.context["cl"].next_url
    assert earlier.context["cl"].previous_url


@pytest.mark.parametrize("junk", JUNK.values(), ids=JUNK)
def test_the_page_of_a_damaged_batch_shows_what_can_be_read(
    junk: dict[str, Any], admin_client: Client
) -> None:
    batch = JobBatchFactory.create(jobs=2, running=True, roles=["then"])
    damage(batch, junk)

    pages = [
        reverse("admin:django_jobbatch_jobbatch_changelist"),
        reverse("admin:django_jobbatch_jobbatch_change", args=[batch.pk]),
    ]

    assert [admin_client.get(page).status_code for page in pages] == [200, 200]


# Circles of parents


def circle() -> tuple[JobBatch, JobBatch]:
    """Two batches that are the parent of each other, and no root of anything."""
    outermost = bus.batch([bus.batch([ADD]).named("inner")]).named("outermost").dispatch()
    inner = outermost.children.get()
    stand_in = inner.jobs.get()
    BatchedJob.objects.filter(pk=stand_in.pk).update(child=outermost)
    JobBatch.objects.filter(pk=inner.pk).update(child_batches=1)
    JobBatch.objects.filter(pk=outermost.pk).update(parent=stand_in, root=inner)
    return read(outermost), read(inner)


def test_walks_over_a_circle_of_parents_end_and_name_it(caplog: pytest.LogCaptureFixture) -> None:
    outermost, inner = circle()

    assert ledger.ancestor_ids(ALIAS, outermost.pk) == [inner.pk]
    assert [level for level in tree.descendant_levels(outermost) if level] == [[inner.pk]]
    outline = snapshot.child_outline(outermost)
    assert [batch.pk for _, batch in outline.batches] == [inner.pk]
    assert errors(caplog) == [str(outermost.pk)] * 3
    assert outermost.snapshot()["id"] == str(outermost.pk)


def test_verbs_end_in_a_circle_of_parents(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    outermost, _ = circle()

    cancelled = outermost.cancel()
    with pytest.raises(BatchCancelled):
        outermost.retry()
    retried = outermost.retry(include_cancelled=True)
    with pytest.raises(SystemExit):
        call_command("show_batch", str(outermost.pk))
    list(reconcile(ALIAS))
    outermost.cancel()
    with pytest.raises(BatchBusy, match="own ancestor"):
        outermost.delete()

    assert cancelled
    assert retried >= 0
    assert "is its own ancestor" in capsys.readouterr().err
    assert str(outermost.pk) in errors(caplog)


# Keys in Redis


def test_a_key_of_another_type_hides_no_other_batch(
    redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    batches = [bus.batch([ADD]).dispatch() for _ in range(3)]
    redis_server.client.flushdb()
    key = f"jobbatch:{batches[1].pk.hex}:default"
    redis_server.client.set(key, "something else")

    first, second = set(reconcile(ALIAS)), set(reconcile(ALIAS))

    assert first == {
        Repair(RepairKind.TICKET, batch.pk, "default", 1) for batch in (batches[0], batches[2])
    }
    assert second == set()
    assert errors(caplog) == [str(batches[1].pk)] * 2
    assert all(f"the key {key} in Redis" in record.getMessage() for record in caplog.records)
    assert redis_server.client.get(key) == b"something else"


@pytest.mark.parametrize("member", [b"\xff\xfe", b"other", b"a-b-c", b"0" * 200])
def test_members_that_are_no_tickets_are_deleted_from_our_sets(
    member: bytes, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    batch = bus.batch([ADD]).dispatch()
    key = f"jobbatch:{batch.pk.hex}:default"
    redis_server.client.sadd(key, member)

    assert list(reconcile(ALIAS)) == []
    assert transport.waiting_tickets(batch.pk, "default").queued == 1
    assert redis_server.client.scard(key) == 1
    assert [record.levelname for record in caplog.records] == ["WARNING"]


@pytest.mark.parametrize("member", [b"\xff\xfe:1", b"nothing", b":"])
def test_members_that_rq_has_not_written_hide_no_executions(
    member: bytes, redis_server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    batch = lost_batch()
    later = timezone.now().timestamp() + 60
    redis_server.client.zadd("rq:wip:default", {member: later, "one:1": later})

    assert list(reconcile(ALIAS)) == []
    assert statuses(batch) == ["running", "running"]
    assert transport.executing("default") >= {"one"}
    assert {record.levelname for record in caplog.records} <= {"WARNING"}


def test_foreign_ids_in_a_queue_are_no_tickets(redis_server: RedisServer) -> None:
    batch = bus.batch([ADD]).dispatch()
    redis_server.client.rpush(LIST, b"\xff\xfe", b"jb-", b"jb-" + b"z" * 41, b"")

    assert list(reconcile(ALIAS)) == []
    assert transport.waiting_tickets(batch.pk, "default").queued == 1
