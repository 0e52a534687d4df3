"""The ids under which Django's Tasks know the results of jobs."""

from __future__ import annotations

import pytest

from django_jobbatch import bus
from django_jobbatch.states import Role
from tests import jobs
from tests.factories import BatchedJobFactory

pytestmark = pytest.mark.django_db(transaction=True)

TASK = bus.job(jobs.result_id).on_queue("sync")


def test_a_task_has_the_id_of_its_batch_and_lane() -> None:
    batch = bus.batch([TASK, TASK]).store_results().on_queue("sync").dispatch()

    assert list(batch.results()) == [f"{batch.pk.hex}-0", f"{batch.pk.hex}-1"]


def test_only_the_first_task_of_a_lane_has_the_number_of_the_lane() -> None:
    chain = bus.chain(TASK, TASK).store_results().on_queue("sync").dispatch()

    second = chain.jobs.get(lane=0, position__gt=0)
    assert list(chain.results()) == [f"{chain.pk.hex}-0", f"{chain.pk.hex}-j{second.pk}"]


def test_a_callback_has_an_id_of_its_own() -> None:
    callback = BatchedJobFactory.create(role=Role.FINALLY, run=1)

    assert callback.result_id == f"{callback.batch_id.hex}-j{callback.pk}"
