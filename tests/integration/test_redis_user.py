"""A user of Redis with the rights that `docs/how-to/workers.md` names, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from redis import Redis
from redis.exceptions import NoPermissionError

from django_jobbatch import bus
from django_jobbatch.reconcile import reconcile
from tests.event_log import End, EventLog
from tests.jobs import ADD
from tests.servers import RedisServer, Workers, wait_until
from tests.settings import ROOT

HASTY = "tests.worker_classes.HastyBatchWorker"


@pytest.fixture
def address(our_redis: RedisServer, settings: Any) -> Iterator[str]:
    """The address of Redis for that user, which the queues of the settings have too."""
    page = (ROOT / "docs" / "how-to" / "workers.md").read_text()
    (rule,) = re.findall(r"^(ACL SETUSER jobs .*)$", page, re.MULTILINE)
    our_redis.client.execute_command(*rule.split())
    our_redis.client.acl_log_reset()
    address = f"unix://jobs@{urlsplit(our_redis.url).path}?password=password"
    settings.RQ_QUEUES = {
        name: {**queue, "URL": address} for name, queue in settings.RQ_QUEUES.items()
    }
    yield address
    our_redis.client.acl_deluser("jobs")


def test_workers_and_senders_need_no_more_than_the_page_on_workers_allows(
    workers: Workers, event_log: EventLog, our_redis: RedisServer, address: str
) -> None:
    """Batches, delays, a cancel that kills, a reconcile, RQ's scheduler and maintenance."""
    user = Redis.from_url(address)
    workers(
        1, "default", "--worker-class", HASTY, "--with-scheduler", "--settings", "tests.redis_user"
    )
    tree = bus.chain(event_log.job("one"), bus.batch(event_log.job("two")), event_log.job("three"))
    batches = [tree.dispatch(), bus.batch(event_log.job("late").options(delay=1)).dispatch()]

    ends = [End.of(batch).outcome for batch in batches]
    held = bus.batch(event_log.blocking_job("held")).dispatch()
    event_log.wait_for("held began")
    held.cancel(stop_running=True)
    waiting = bus.batch(ADD).options(queue="slow").dispatch()
    waiting.cancel()
    bus.batch(ADD).options(queue="slow").dispatch()
    list(reconcile("default"))
    wait_until(lambda: "killed" in workers.logs().lower() or "stopped" in workers.logs().lower())

    denied = our_redis.client.acl_log()
    with pytest.raises(NoPermissionError):
        user.get("session:7")
    user.close()
    assert ends == ["succeeded", "succeeded"]
    assert End.of(held).outcome == "cancelled"
    assert [(entry["reason"], entry["object"]) for entry in denied] == []
    assert event_log.ran() == ["held began", "late", "one", "three", "two"]
