"""Whatever dies: every job settles, every callback fires once, and nothing is counted twice."""

from __future__ import annotations

import pytest

from django_jobbatch import bus
from tests import jobs
from tests.acceptance.conftest import Start
from tests.diary import Diary, End
from tests.servers import RedisServer


def record(diary: Diary, text: str) -> bus.JobBuilder:
    return bus.job(jobs.record, diary.path("jobs"), text)


def hold(diary: Diary, text: str) -> bus.JobBuilder:
    return bus.job(jobs.hold, diary.path("jobs"), text, diary.path("gate"))


# Redis


def test_a_redis_that_is_restarted_with_what_it_had_costs_nothing(
    start: Start, redis_server: RedisServer, diary: Diary
) -> None:
    if not redis_server.is_ours:
        pytest.skip("the Redis in REDIS_URL is not ours to stop")
    start(1)
    builder = bus.batch([hold(diary, "a"), record(diary, "b")])
    batch = diary.told_to(builder).dispatch()
    diary.wait_for("a began")

    redis_server.restart(keep=True)
    diary.open("gate")

    assert End.of(batch) == End(outcome="succeeded", total=2, succeeded=2)
    assert diary.lines("jobs") == ["a began", "a done", "b"]
    assert diary.calls == ["then succeeded", "finally succeeded"]
