"""reconcile_batches: what it prints, and what it says of what it could not do."""

from __future__ import annotations

import json
import uuid

import pytest

from django_jobbatch import bus, transport
from django_jobbatch.models import JobBatch
from tests.factories import JobBatchFactory
from tests.integration.management.calling import manage
from tests.jobs import ADD
from tests.ledger.helpers import claim, store_tree
from tests.servers import RedisServer

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


def test_every_finding_is_a_line() -> None:
    batch = store_tree(bus.batch([ADD, ADD, ADD.on_queue("slow")]))

    assert manage("reconcile_batches") == (
        f"{batch.pk} ticket: jobs or callbacks are due, and tickets are missing (1 on queue default)\n"
        f"{batch.pk} ticket: jobs or callbacks are due, and tickets are missing (1 on queue slow)\n"
        "Made 2 repairs.\n",
        "",
        0,
    )
    assert manage("reconcile_batches") == ("Nothing to repair.\n", "", 0)
    assert manage("reconcile_batches", "--verbosity=0") == ("", "", 0)


def test_a_dry_run_says_what_it_would_repair() -> None:
    rested = JobBatchFactory.create(jobs=["succeeded"], finished=True)

    for _ in range(2):
        assert manage("reconcile_batches", "--dry-run") == (
            f"{rested.pk} at_rest: nothing is left to do, and the batch is not marked\n"
            "Would make 1 repair.\n",
            "",
            0,
        )


def test_findings_are_printed_as_json() -> None:
    batch = store_tree(bus.batch([ADD]))

    first, second = (manage("reconcile_batches", "--json") for _ in range(2))

    assert json.loads(first.out) == [
        {"kind": "ticket", "batch": str(batch.pk), "queue": "default", "count": 1}
    ]
    assert json.loads(second.out) == []


def test_only_the_tree_of_one_batch_is_inspected() -> None:
    batch, other = (store_tree(bus.batch([ADD])) for _ in range(2))
    unknown = uuid.uuid4()

    answer = manage("reconcile_batches", "--batch", batch.pk, "--database=default")

    assert answer.out.splitlines()[0].startswith(str(batch.pk))
    assert transport.waiting_tickets(other.pk, "default").queued == 0
    assert manage("reconcile_batches", "--batch", unknown) == (
        "",
        f"There is no batch {unknown}.\n",
        1,
    )


def test_a_queue_missing_in_the_settings_is_named() -> None:
    JobBatchFactory.create(jobs=1)
    JobBatch.objects.update(queues=["gone"])

    assert manage("reconcile_batches") == (
        "",
        "There is no queue 'gone' in RQ_QUEUES; it has default, json, other, slow, sync."
        " Its tickets are not inspected.\n",
        1,
    )


def test_a_dry_run_names_a_redis_that_does_not_answer(our_redis: RedisServer) -> None:
    rested = JobBatchFactory.create(jobs=["succeeded"], finished=True)
    our_redis.stop()

    assert manage("reconcile_batches", "--dry-run") == (
        f"{rested.pk} at_rest: nothing is left to do, and the batch is not marked\nWould make 1 repair.\n",
        "Redis does not answer, so queue default is not inspected. Call this command again when Redis"
        " answers.\n",
        1,
    )


def test_a_redis_that_does_not_answer_is_named_once(our_redis: RedisServer) -> None:
    for _ in range(3):
        claim(JobBatchFactory.create(jobs=2), 1)
    our_redis.stop()

    assert manage("reconcile_batches") == (
        "",
        "Redis does not answer, so queue default is not inspected. Call this command again when Redis"
        " answers.\n",
        1,
    )
