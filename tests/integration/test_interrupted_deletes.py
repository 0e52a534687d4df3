"""A delete that dies between two of its commits: what is left comes to its end, and can be deleted."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from functools import partial
from itertools import count as count_from
from uuid import UUID

import pytest
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from django.utils import timezone

from django_jobbatch import bus
from django_jobbatch.bus import BatchBuilder
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.models.tree import descendant_levels
from django_jobbatch.operations import deletion, pruning
from django_jobbatch.reconcile import reconcile
from django_jobbatch.states import UNSETTLED
from tests import jobs
from tests.event_log import EventLog
from tests.integration.tickets import work_on_all
from tests.jobs import ADD
from tests.ledger.helpers import ALIAS, claim, counters, start_child, store_tree
from tests.thoroughness import tries
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


class Killed(BaseException):
    """The process that deletes is dead."""


def killed_after(commits: int, action: Callable[[], object]) -> bool:
    """Kill who does this once it has committed so many transactions; whether it came to that."""
    committed = count_from(1)
    commit = BaseDatabaseWrapper.commit

    def killing(connection: BaseDatabaseWrapper) -> None:
        commit(connection)
        if next(committed) == commits:
            raise Killed

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BaseDatabaseWrapper, "commit", killing)
        try:
            action()
        except Killed:
            return True
    return False


def tree(event_log: EventLog) -> BatchBuilder:
    """A batch of a job and of two lanes that start with child batches; one of these has a child."""

    def saying(builder: BatchBuilder, name: str) -> BatchBuilder:
        return builder.finally_(jobs.record_call, event_log.path("calls"), name).named(name)

    child = saying(bus.batch([ADD, [ADD, ADD]]), "inside")
    deep = saying(bus.batch([[ADD, saying(bus.batch([ADD, ADD]), "deepest")], ADD]), "deep")
    return saying(bus.batch([ADD, [child, ADD], [deep, ADD]]), "root")


def none_started(root: JobBatch) -> None:
    """Nothing of it has run."""


def under_way(root: JobBatch) -> None:
    """Jobs of it and of its child batches are running."""
    claim(root, 1, "dies with its job")
    child, deep = start_child(root), start_child(root)
    claim(child, 2, "dies too")
    claim(deep, 1, "dies too")


def over(root: JobBatch) -> None:
    """All has ended, and no callback was called."""
    under_way(root)
    root.cancel("enough", stop_running=True)


def at_rest(root: JobBatch) -> None:
    """All has ended, callbacks too."""
    over(root)
    finish_everything()


def deleted(root: JobBatch) -> None:
    root.delete()


def pruned(root: JobBatch) -> None:
    pruning.prune(finished=timedelta(0), unfinished=timedelta(0))
    pruning.prune(finished=timedelta(0), unfinished=timedelta(0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("state", "allow_failures", "remove", "page"),
    [
        (none_started, False, deleted, 2),
        (under_way, False, deleted, 2),
        (under_way, True, deleted, 1),
        (under_way, True, pruned, 3),
        (over, False, deleted, 2),
        (at_rest, True, pruned, 1),
    ],
)
def test_a_tree_after_an_interrupted_delete_finishes_and_can_be_deleted(
    state: Callable[[JobBatch], None],
    remove: Callable[[JobBatch], None],
    page: int,
    event_log: EventLog,
    tuning: Tuning,
    *,
    allow_failures: bool,
) -> None:
    """Die after each single commit, in another tree each time, until there is none to die after.

    After every third one only, where it is to be quick.
    """
    tuning(LINKS_CHUNK=page)
    step = tries(quick=3, full=1)
    commits, was_killed = 1 - step, True
    while was_killed:
        commits += step
        calls = event_log.child_log(str(commits))
        root = store_tree(tree(calls))
        JobBatch.objects.update(allow_failures=allow_failures)
        state(root)
        called = calls_of(calls)

        was_killed = killed_after(commits, partial(remove, root))
        assert wrong() == []
        left = Counter(JobBatch.objects.values_list("name", flat=True))
        finish_everything()

        assert wrong() == []
        assert calls_of(calls) == called | left
        assert all(JobBatch.objects.values_list("at_rest", flat=True))
        remove(root)
        assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)


def test_a_child_that_is_added_while_its_tree_is_deleted_is_deleted_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    root = store_tree(bus.batch([[bus.batch([ADD]), ADD]]))
    child = start_child(root)

    def levels_before_an_add(batch: JobBatch) -> Iterator[list[UUID]]:
        yield from descendant_levels(batch)
        monkeypatch.undo()
        child.add(bus.batch([ADD, bus.batch([ADD])]))  # its transaction was open before

    monkeypatch.setattr(f"{deletion.__name__}.descendant_levels", levels_before_an_add)
    with transaction.atomic():
        count, _ = root.delete()

    assert (JobBatch.objects.count(), BatchedJob.objects.count()) == (0, 0)
    assert count == 5 + 6


def calls_of(event_log: EventLog) -> Counter[str]:
    """How often `finally_` was called, by the names of the batches."""
    return Counter(line.split()[0] for line in event_log.calls)


def wrong() -> list[tuple[str, dict[str, int], dict[str, int]]]:
    """The batches whose counters are not those of their rows: their names, the counters, the rows."""
    found = [(each.name, counters(each), in_rows(each)) for each in JobBatch.objects.all()]
    return [each for each in found if each[1] != each[2]]


def in_rows(batch: JobBatch) -> dict[str, int]:
    """The counters that a batch should have."""
    statuses = batch.jobs.jobs_only().values_list("status", flat=True)
    return dict(
        Counter("pending" if status in UNSETTLED else status for status in statuses)
        + Counter(total=len(statuses))
    )


def finish_everything() -> None:
    """Have all leases be over, and repair and work until there is nothing to repair."""
    held = BatchedJob.objects.exclude(lease_until=None)
    held.update(lease_until=timezone.now() - timedelta(seconds=1))
    list(reconcile(ALIAS))
    work_on_all()
    while list(reconcile(ALIAS)):
        work_on_all()
