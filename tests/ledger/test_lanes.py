"""The effect of the end of a link on its lane."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_jobbatch import bus, ledger
from django_jobbatch.exceptions import BatchFinished
from django_jobbatch.models import BatchedJob, JobBatch
from tests.factories import BatchedJobFactory, JobBatchFactory
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    cancel,
    claim,
    counters,
    fail,
    failure,
    finish_child,
    read,
    reopen,
    settle,
    start_child,
    state,
    statuses,
    store_tree,
    succeed,
    success,
    sweep,
)
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db


def places(batch: JobBatch) -> list[int]:
    """The positions in the only lane of a chain."""
    return list(batch.jobs.jobs_only().order_by("position").values_list("position", flat=True))


def in_order(batch: JobBatch) -> list[BatchedJob]:
    """The links in the only lane of a chain."""
    return list(batch.jobs.jobs_only().order_by("position"))


def extend(link: BatchedJob, count: int = 1, *, at_end: bool = False) -> list[int]:
    """Make room after a link; the free positions."""
    with transaction.atomic():
        return ledger.reserve_positions(ALIAS, link, count, at_end=at_end)[1]


def test_a_success_makes_the_next_link_due() -> None:
    batch = store_tree(bus.batch([[ADD, ADD.on_queue("other"), ADD], [ADD]]))

    change = succeed(batch, claim(batch, 1))

    assert change.due == {"other": 1}
    assert statuses(batch) == ["succeeded", "pending", "waiting", "pending"]


def test_a_delay_starts_when_the_turn_of_its_link_comes() -> None:
    batch = store_tree(bus.chain(ADD, ADD.options(delay=60)))
    before = timezone.now()

    change = succeed(batch, claim(batch))

    delayed = batch.jobs.get(status="pending")
    assert delayed.available_at is not None
    assert delayed.available_at >= before + timedelta(seconds=60)
    assert (change.due, change.next_event_at) == ({}, delayed.available_at)
    assert read(batch).next_event_at == delayed.available_at


def test_a_failure_skips_the_remaining_links_of_its_lane_only() -> None:
    batch = store_tree(bus.batch([[ADD, ADD, ADD], [ADD, ADD]]).allow_failures())

    change = fail(batch, claim(batch, 1))

    assert statuses(batch) == ["failed", "skipped", "skipped", "pending", "waiting"]
    assert counters(batch) == {"total": 5, "pending": 2, "failed": 1, "skipped": 2}
    assert (change.stopping, change.finished) == (False, False)


def test_a_success_in_a_stopping_batch_makes_nothing_due() -> None:
    batch = store_tree(bus.chain(ADD, ADD))
    links = claim(batch)
    ledger.cancel(ALIAS, batch.pk)

    change = succeed(batch, links)

    assert (change.due, change.finished) == ({}, False)
    assert statuses(batch) == ["succeeded", "waiting"]
    assert [change.finished for change in sweep(batch)] == [True]


def test_a_failure_in_a_stopping_batch_leaves_its_lane_to_the_sweep() -> None:
    batch = store_tree(bus.chain(ADD, ADD, ADD))
    links = claim(batch)
    ledger.cancel(ALIAS, batch.pk)

    fail(batch, links)
    waiting = statuses(batch)
    sweep(batch)

    assert waiting == ["failed", "waiting", "waiting"]
    assert counters(batch) == {"total": 3, "failed": 1, "cancelled": 2}
    assert state(batch) == ("finished", "cancelled", 1)


def test_a_failure_of_a_group_stops_a_strict_batch_before_anything_is_released() -> None:
    batch = store_tree(bus.batch([[ADD, ADD], [ADD, ADD]]))
    links = claim(batch)

    change = settle(batch, success(links[0]), failure(links[1]))

    assert (change.due, change.stopping) == ({}, True)
    assert statuses(batch) == ["succeeded", "waiting", "failed", "skipped"]


def test_a_retry_continues_from_the_failed_link() -> None:
    batch = store_tree(bus.chain(ADD, ADD, ADD))
    succeed(batch, claim(batch))
    fail(batch, claim(batch))

    changes = reopen(batch)

    assert [change.due for change in changes] == [{"default": 1}]
    assert statuses(batch) == ["succeeded", "pending", "waiting"]
    assert state(batch) == ("running", "", 2)


def test_pages_of_a_retry_take_lanes_whole(tuning: Tuning) -> None:
    tuning(LINKS_CHUNK=2)
    batch = store_tree(bus.batch([[ADD, ADD, ADD], [ADD], [ADD, ADD]]).allow_failures())
    fail(batch, claim(batch))

    pages = [change.reset_count for change in reopen(batch)]

    assert sum(pages) == 6
    assert len(pages) > 1
    assert statuses(batch) == ["pending", "waiting", "waiting", "pending", "pending", "waiting"]


def test_later_chunks_of_a_retry_leave_out_cancelled_links_too(
    tuning: Tuning,
) -> None:
    tuning(LINKS_CHUNK=1)
    batch = store_tree(bus.batch([ADD, ADD, bus.batch([ADD])]).allow_failures())
    fail(batch, claim(batch, 2))
    child = start_child(batch)
    cancel(child)
    ledger.settle_stand_in(ALIAS, read(child))

    reopened = sum(change.reset_count for change in reopen(batch))

    assert reopened == 2
    assert statuses(batch) == ["pending", "pending", "cancelled"]


def test_no_statement_of_a_retry_names_more_links_than_fit(tuning: Tuning) -> None:
    tuning(KEYS_CHUNK=2)
    inner = bus.batch([ADD])
    batch = store_tree(bus.batch([[inner, ADD]] * 5).allow_failures())
    for _ in range(5):
        finish_child(batch, failure)
    chosen = list(batch.jobs.failed().values_list("pk", flat=True))

    with CaptureQueriesContext(connection) as captured:
        reopen(batch, chosen)

    named = re.findall(r"(?:id|lane)[`\"] IN \(([^)]*)\)", str([each["sql"] for each in captured]))
    assert max(len(keys.split(",")) for keys in named) == 2
    assert counters(batch) == {"total": 10, "pending": 10}
    assert statuses(batch) == ["pending", "waiting"] * 5


# extend


def test_links_inserted_after_one_precede_its_followers() -> None:
    batch = store_tree(bus.chain(ADD, ADD))
    (link,) = claim(batch)

    assert extend(link, 3) == [256, 512, 768]
    assert extend(link, 2, at_end=True) == [2048, 3072]
    assert places(batch) == [0, 1024]


def test_without_room_the_links_move_that_are_nearest() -> None:
    batch = store_tree(bus.chain(ADD, ADD, ADD, ADD))
    first, second, third, fourth = batch.jobs.order_by("position")
    BatchedJob.objects.filter(pk=second.pk).update(position=1)

    free = extend(first)

    assert free == [1024 // 3]
    assert places(batch) == [0, 2 * (1024 // 3), 2048, 3072]
    assert in_order(batch) == [first, second, third, fourth]
    assert set(batch.jobs.values_list("run", flat=True)) == {0}


def test_without_room_for_many_as_many_links_move_as_need_be() -> None:
    batch = store_tree(bus.chain(ADD, ADD, ADD))
    first, second, third = batch.jobs.order_by("position")

    free = extend(first, 2000)

    step = 2**19 // 2003  # 1.5 ** 19 is the first power that 2,002 links are not too many for
    assert free == [step * number for number in range(1, 2001)]
    assert places(batch) == [0, step * 2001, step * 2002]
    assert in_order(batch) == [first, second, third]


def test_links_are_inserted_after_one_that_was_moved_meanwhile() -> None:
    batch = store_tree(bus.chain(ADD, ADD, ADD))
    first, second, _ = batch.jobs.order_by("position")
    extend(first, 2000)

    _, second_place, third_place = places(batch)

    assert extend(second) == [(second_place + third_place) // 2]


def test_the_last_positions_of_the_column_are_shared_out(tuning: Tuning) -> None:
    tuning(MAX_POSITION=4002)
    batch = store_tree(bus.chain(ADD, ADD, ADD))
    first, second, third = batch.jobs.order_by("position")

    free = extend(first, 1998)

    assert free == list(range(2, 3998, 2))
    assert places(batch) == [0, 3998, 4000]
    assert in_order(batch) == [first, second, third]


def test_where_no_stretch_takes_so_many_they_stand_as_in_a_new_lane(
    tuning: Tuning,
) -> None:
    tuning(DENSITY_BASE=1)
    batch = store_tree(bus.chain(ADD, ADD, ADD))
    first, second, third = batch.jobs.order_by("position")

    free = extend(first, 2000)

    assert free == [1024 * number for number in range(1, 2001)]
    assert places(batch) == [0, 1024 * 2001, 1024 * 2002]
    assert in_order(batch) == [first, second, third]
    assert extend(first, at_end=True) == [1024 * 2003]


@pytest.mark.parametrize("place", ["the same", "after the last"])
def test_links_that_are_inserted_one_by_one_move_few_others(place: str, tuning: Tuning) -> None:
    tuning(POSITION_STEP=4)
    moved = 0
    batch = JobBatchFactory.create(jobs=1, has_lanes=True, roles=[])
    first = previous = batch.jobs.get()
    for number in range(1, 200):
        BatchedJobFactory.create(batch=batch, lane=0, position=4 * number, status="waiting")
    expected = in_order(batch)

    for _ in range(200):
        before = dict(batch.jobs.values_list("pk", "position"))
        (position,) = extend(previous)
        moved += sum(before[pk] != at for pk, at in batch.jobs.values_list("pk", "position"))
        new = BatchedJobFactory.create(batch=batch, lane=0, position=position, status="waiting")
        expected.insert(expected.index(previous) + 1, new)
        previous = first if place == "the same" else new

    assert in_order(batch) == expected
    assert moved < 10 * 200


def test_nothing_follows_a_link_that_is_settled() -> None:
    batch = store_tree(bus.chain(ADD, ADD, ADD))
    (link,) = claim(batch)
    succeed(batch, [link])
    claim(batch)

    with pytest.raises(BatchFinished, match="nothing can follow there"):
        extend(link)
    with pytest.raises(BatchFinished, match="nothing can follow there"):
        extend(link, at_end=True)


def test_nothing_is_inserted_before_a_failed_link() -> None:
    inner = bus.batch([ADD]).allow_failures()
    batch = store_tree(bus.batch([[inner, ADD], [ADD]]).allow_failures())
    finish_child(batch, failure)
    reopen(batch.children[0])
    fail(batch, [link for link in claim(batch) if not link.is_stand_in])
    stand_in = batch.jobs.exclude(child=None).get()

    with pytest.raises(BatchFinished, match="nothing can follow there"):
        extend(stand_in, at_end=True)
