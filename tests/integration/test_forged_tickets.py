"""A client of Redis can forge tickets: what these can do, which is next to nothing."""

from __future__ import annotations

import logging
import uuid

import django_rq
import pytest
from rq.registry import FailedJobRegistry

from django_jobbatch import bus, transport
from django_jobbatch.models import JobBatch
from django_jobbatch.runner import work
from django_jobbatch.transport.tickets import PREFIX, TICKET_FUNCTION
from tests import jobs
from tests.event_log import End, EventLog
from tests.servers import Workers

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("redis_server")]

SOME_BATCH = "0198c1f0-0000-7000-8000-000000000001"


@pytest.mark.parametrize(
    ("args", "why"),
    [
        ((SOME_BATCH, "default", "elsewhere"), f"There is no database 'elsewhere' in DATABASES; it has default. The ticket is of batch {SOME_BATCH}."),
        ((SOME_BATCH, "nowhere", "default"), f"There is no queue 'nowhere' in RQ_QUEUES; it has default, json, other, slow, sync. The ticket is of batch {SOME_BATCH} in database 'default'."),
        (("../../etc/passwd", "default", "default"), "'../../etc/passwd' is not the id of a batch."),
        (("", "default", "default"), "'' is not the id of a batch."),
        ((7, ["default"], None), "Its arguments 7, ['default'] and None are not all strings."),
    ],
)  # fmt: skip
def test_a_ticket_with_an_unknown_name_is_rejected_and_sends_no_other(
    args: tuple[str, str, str], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "django_jobbatch"):
        work(*args)

    assert caplog.messages == [f"A ticket was rejected, and it ran no job: {why}"]
    assert len(django_rq.get_queue("default")) == 0


@pytest.mark.parametrize(
    "args",
    [
        (SOME_BATCH, "default", "elsewhere"),
        (SOME_BATCH, "nowhere", "default"),
        ("x", "default", "default"),
        (SOME_BATCH, "default", ["default"]),
        ("x",),
        (),
    ],
)
def test_a_worker_remembers_nothing_of_such_a_ticket(args: tuple[object, ...]) -> None:
    job = django_rq.get_queue("default").create_job(
        TICKET_FUNCTION, args=args, job_id=f"{PREFIX}forged"
    )

    assert transport.parse_ticket(job) is None


def test_a_ticket_of_a_deleted_batch_does_nothing(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "django_jobbatch"):
        work(str(uuid.uuid4()), "default", "default")

    assert caplog.messages == []
    assert len(django_rq.get_queue("default")) == 0


def test_a_ticket_does_not_start_a_batch_whose_turn_has_not_come(event_log: EventLog) -> None:
    path = event_log.path("jobs")
    chain = bus.chain(
        bus.job(jobs.record, path, "first"), bus.batch(bus.job(jobs.record, path, "second"))
    ).dispatch()
    child = chain.children.get()

    work(str(child.pk), "default", "default")

    now = JobBatch.objects.get(pk=child.pk)
    assert (now.status, now.version) == ("waiting", child.version)
    assert event_log.ran() == []


def test_a_ticket_does_not_run_again_what_is_settled(event_log: EventLog) -> None:
    batch = bus.batch(event_log.job()).dispatch()

    for _ in range(3):
        work(str(batch.pk), "default", "default")

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert event_log.ran() == ["run"]


@pytest.mark.parametrize("worker_class", ["rq.Worker", "tests.worker_classes.HastyBatchWorker"])
def test_a_worker_continues_after_forged_tickets(
    workers: Workers, event_log: EventLog, worker_class: str
) -> None:
    queue = django_rq.get_queue("default")
    for args in (("x", "default", "default"), (SOME_BATCH, "default", "elsewhere"), ("x",)):
        queue.enqueue(TICKET_FUNCTION, args=args, job_id=f"{PREFIX}forged-{len(queue)}")
    batch = bus.batch(event_log.job()).dispatch()

    workers(1, "default", "--worker-class", worker_class)

    assert End.of(batch) == End(outcome="succeeded", total=1, succeeded=1)
    assert len(queue) == 0
    # RQ itself keeps the one that cannot even be called.
    assert len(FailedJobRegistry(queue=queue).get_job_ids()) == 1
    assert workers.logs().count("A ticket was rejected") == 2
    assert "could not" not in workers.logs()


@pytest.mark.parametrize(
    "name", ["my-ticket", "-", f"{PREFIX}mine", f"{PREFIX}{uuid.UUID(int=7).hex}-0123456g"]
)
def test_a_ticket_with_an_id_that_is_no_tickets_runs_its_batch(
    name: str, workers: Workers, event_log: EventLog
) -> None:
    queue = django_rq.get_queue("default")
    batch = bus.batch([event_log.job()] * 3).dispatch()
    queue.empty()
    queue.enqueue(TICKET_FUNCTION, args=(str(batch.pk), "default", "default"), job_id=name)

    workers(1, "default", "--worker-class", "rq.SimpleWorker")

    assert End.of(batch) == End(outcome="succeeded", total=3, succeeded=3)
    assert event_log.ran() == ["run"] * 3
    assert FailedJobRegistry(queue=queue).get_job_ids() == []
