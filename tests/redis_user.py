"""The settings of the tests, with the user of Redis that `test_redis_user` creates."""

from __future__ import annotations

from urllib.parse import urlsplit

from tests.settings import *  # noqa: F403
from tests.settings import REDIS_URL, RQ_QUEUES

RQ_QUEUES = {
    name: {**queue, "URL": f"unix://jobs@{urlsplit(REDIS_URL).path}?password=password"}
    for name, queue in RQ_QUEUES.items()
}
