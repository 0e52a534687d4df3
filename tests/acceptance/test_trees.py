"""Chains, batches of chains and batches in chains with real workers, and what must come of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TypeVar

import pytest
from django.utils import timezone

from django_jobbatch import bus, transport
from django_jobbatch.bus import Builder, JobBuilder
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.operations import prune
from tests import jobs
from tests.acceptance.conftest import Start
from tests.event_log import End, EventLog
from tests.servers import wait_until

B = TypeVar("B", bound=Builder)


@dataclass(frozen=True)
class Forest:
    """Builds jobs and batches that all write into one event_log."""

    event_log: EventLog

    def job(self, name: str) -> JobBuilder:
        return bus.job(jobs.record, self.event_log.path("jobs"), name)

    def gated(self, name: str) -> JobBuilder:
        """A job that fails until the gate of its name is opened."""
        return bus.job(jobs.require, self.event_log.path("jobs"), self.event_log.path(name))

    def named(self, name: str, builder: B) -> B:
        """The batch with callbacks that say its name."""
        calls = self.event_log.path("calls")
        return (
            builder.named(name)
            .catch(jobs.record_failure, calls, f"{name} catch")
            .then(jobs.record_call, calls, f"{name} then")
            .finally_(jobs.record_call, calls, f"{name} finally")
        )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A tree, how its batches finish, and what its jobs and callbacks record, in this order.

    Then gates are opened and a batch is retried (the root if none is named), if `retried` says
    how many links the retry must reset.
    """

    build: Callable[[Forest], Builder]
    ends: dict[str, End]
    ran: list[str]
    calls: list[str]
    retried: int | None = None
    retry_of: str = "root"
    then_ends: dict[str, End] = field(default_factory=dict)
    then_ran: list[str] = field(default_factory=list)
    then_calls: list[str] = field(default_factory=list)


def good(total: int, *, run: int = 1) -> End:
    return End(outcome="succeeded", total=total, succeeded=total, run=run)


CASES = {
    "a chain runs in order": Case(
        build=lambda f: f.named("root", bus.chain(f.job("a"), f.job("b"), f.job("c"))),
        ends={"root": good(3)},
        ran=["a", "b", "c"],
        calls=["root then succeeded", "root finally succeeded"],
    ),
    "a link in the middle of a chain fails, and the chain continues from there": Case(
        build=lambda f: f.named("root", bus.chain(f.job("a"), f.gated("b"), f.job("c"))),
        ends={"root": End(outcome="failed", total=3, succeeded=1, failed=1, skipped=1)},
        ran=["a", "b"],
        calls=["root catch b is closed", "root finally failed"],
        retried=2,
        then_ends={"root": good(3, run=2)},
        then_ran=["b", "c"],
        then_calls=["root then succeeded", "root finally succeeded"],
    ),
    "a first link of a batch of chains fails": Case(
        build=lambda f: f.named(
            "root",
            bus.batch(
                [
                    [f.gated("a1"), f.job("a2")],
                    bus.chain(f.job("b1"), f.job("b2")),
                    [f.job("c1"), f.job("c2")],
                ]
            ),
        ),
        ends={"root": End(outcome="failed", total=6, failed=1, skipped=1, cancelled=4)},
        ran=["a1"],
        calls=["root catch a1 is closed", "root finally failed"],
        retried=6,
        then_ends={"root": good(6, run=2)},
        then_ran=["a1", "a2", "b1", "b2", "c1", "c2"],
        then_calls=["root then succeeded", "root finally succeeded"],
    ),
    "a first link of a batch of chains fails and may": Case(
        build=lambda f: f.named(
            "root",
            bus.batch(
                [
                    [f.gated("a1"), f.job("a2")],
                    [f.job("b1"), f.job("b2")],
                    [f.job("c1"), f.job("c2")],
                ]
            ).allow_failures(),
        ),
        ends={"root": End(outcome="partial", total=6, succeeded=4, failed=1, skipped=1)},
        ran=["a1", "b1", "b2", "c1", "c2"],
        calls=["root catch a1 is closed", "root then partial", "root finally partial"],
        retried=2,
        then_ends={"root": good(6, run=2)},
        then_ran=["a1", "a2"],
        then_calls=["root then succeeded", "root finally succeeded"],
    ),
    "a batch in a chain fails, and the chain is retried": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(
                f.job("a"), f.named("inner", bus.batch([f.gated("b"), f.job("c")])), f.job("d")
            ),
        ),
        ends={
            "root": End(outcome="failed", total=3, succeeded=1, failed=1, skipped=1),
            "inner": End(outcome="failed", total=2, failed=1, cancelled=1),
        },
        ran=["a", "b"],
        calls=[
            "inner catch b is closed",
            "inner finally failed",
            "root catch b is closed",
            "root finally failed",
        ],
        retried=3,
        then_ends={"root": good(3, run=2), "inner": good(2, run=2)},
        then_ran=["b", "c", "d"],
        then_calls=[
            "inner then succeeded",
            "inner finally succeeded",
            "root then succeeded",
            "root finally succeeded",
        ],
    ),
    "a batch in a chain fails, and that batch alone is retried": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(
                f.job("a"), f.named("inner", bus.batch([f.gated("b"), f.job("c")])), f.job("d")
            ),
        ),
        ends={
            "root": End(outcome="failed", total=3, succeeded=1, failed=1, skipped=1),
            "inner": End(outcome="failed", total=2, failed=1, cancelled=1),
        },
        ran=["a", "b"],
        calls=[
            "inner catch b is closed",
            "inner finally failed",
            "root catch b is closed",
            "root finally failed",
        ],
        retried=2,
        retry_of="inner",
        then_ends={"root": good(3, run=2), "inner": good(2, run=2)},
        then_ran=["b", "c", "d"],
        then_calls=[
            "inner then succeeded",
            "inner finally succeeded",
            "root then succeeded",
            "root finally succeeded",
        ],
    ),
    "a chain continues from a partial batch, and its failures are retried with the chain": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(
                f.named("inner", bus.batch([f.gated("b"), f.job("c")]).allow_failures()),
                f.job("d"),
            ),
        ),
        ends={
            "root": End(outcome="partial", total=2, succeeded=2),
            "inner": End(outcome="partial", total=2, succeeded=1, failed=1),
        },
        ran=["b", "c", "d"],
        calls=[
            "inner catch b is closed",
            "inner then partial",
            "inner finally partial",
            "root then partial",
            "root finally partial",
        ],
        retried=1,
        then_ends={"root": good(2, run=2), "inner": good(2, run=2)},
        then_ran=["b"],
        then_calls=[
            "inner then succeeded",
            "inner finally succeeded",
            "root then succeeded",
            "root finally succeeded",
        ],
    ),
    "a partial batch makes its ancestors partial, and its retry makes them succeed": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(
                f.named(
                    "middle",
                    bus.batch(
                        [
                            f.named("inner", bus.batch([f.gated("b")]).allow_failures()),
                            f.named("whole", bus.batch([f.job("a")])),
                        ]
                    ),
                ),
                f.job("c"),
            ),
        ),
        ends={
            "root": End(outcome="partial", total=2, succeeded=2),
            "middle": End(outcome="partial", total=2, succeeded=2),
            "inner": End(outcome="partial", total=1, failed=1),
            "whole": good(1),
        },
        ran=["b", "a", "c"],
        calls=[
            "inner catch b is closed",
            "inner then partial",
            "inner finally partial",
            "whole then succeeded",
            "whole finally succeeded",
            "middle then partial",
            "middle finally partial",
            "root then partial",
            "root finally partial",
        ],
        retried=1,
        then_ends={
            "root": good(2, run=2),
            "middle": good(2, run=2),
            "inner": good(1, run=2),
            "whole": good(1),
        },
        then_ran=["b"],
        then_calls=[
            "inner then succeeded",
            "inner finally succeeded",
            "middle then succeeded",
            "middle finally succeeded",
            "root then succeeded",
            "root finally succeeded",
        ],
    ),
    "an empty batch in a chain": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(f.job("a"), bus.batch([]), f.named("inner", bus.batch([])), f.job("d")),
        ),
        ends={"root": good(4), "inner": good(0)},
        ran=["a", "d"],
        calls=[
            "inner then succeeded",
            "inner finally succeeded",
            "root then succeeded",
            "root finally succeeded",
        ],
    ),
    "a chain of nothing but empty batches": Case(
        build=lambda f: f.named("root", bus.chain(bus.batch([]), bus.chain(bus.batch([])))),
        ends={"root": good(2)},
        ran=[],
        calls=["root then succeeded", "root finally succeeded"],
    ),
    "batches in lanes of batches": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(
                f.job("a"),
                f.named(
                    "middle",
                    bus.batch(
                        [
                            f.job("b"),
                            [f.job("c"), f.named("inner", bus.batch([f.job("d"), f.job("e")]))],
                        ]
                    ),
                ),
                f.job("f"),
            ),
        ),
        ends={"root": good(3), "middle": good(3), "inner": good(2)},
        ran=["a", "b", "c", "d", "e", "f"],
        calls=[
            "inner then succeeded",
            "inner finally succeeded",
            "middle then succeeded",
            "middle finally succeeded",
            "root then succeeded",
            "root finally succeeded",
        ],
    ),
    "a link waits for the callbacks of the batch before it": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(
                f.named("inner", bus.batch([f.job("a")])),
                bus.job(jobs.record, f.event_log.path("calls"), "next"),
            ),
        ),
        ends={"root": good(2), "inner": good(1)},
        ran=["a"],
        calls=[
            "inner then succeeded",
            "inner finally succeeded",
            "next",
            "root then succeeded",
            "root finally succeeded",
        ],
    ),
    "a loader in a batch in a chain": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(
                f.named(
                    "inner", bus.batch(bus.job(jobs.load_lanes, f.event_log.path("jobs"), "bc"))
                ),
                f.job("d"),
            ),
        ),
        ends={"root": good(2), "inner": good(6)},
        ran=["loader", "b1", "c1", "b2", "c2", "in a batch", "d"],
        calls=[
            "inner then succeeded",
            "inner finally succeeded",
            "root then succeeded",
            "root finally succeeded",
        ],
    ),
    "links appended and prepended": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(bus.job(jobs.extend_lane, f.event_log.path("jobs"), "x"), f.job("middle")),
        ),
        ends={"root": good(6)},
        ran=["x", "x first", "x in a batch", "middle", "x last", "x in a last batch"],
        calls=["root then succeeded", "root finally succeeded"],
    ),
    "links have queues of their own": Case(
        build=lambda f: f.named(
            "root",
            bus.chain(
                bus.job(jobs.record_origin, f.event_log.path("jobs")),
                bus.job(jobs.record_origin, f.event_log.path("jobs")).on_queue("other"),
                bus.batch([bus.job(jobs.record_origin, f.event_log.path("jobs"))]),
                bus.batch([bus.job(jobs.record_origin, f.event_log.path("jobs"))]).on_queue(
                    "default"
                ),
            ).on_queue("slow"),
        ),
        ends={"root": good(4)},
        ran=["slow", "other", "slow", "default"],
        calls=["root then succeeded", "root finally succeeded"],
    ),
    "a link reads what the one before returned, and then reads all": Case(
        build=lambda f: (
            bus.chain(
                bus.job(jobs.add, 1, 1),
                bus.job(jobs.add_to_previous, 3),
                bus.batch([bus.job(jobs.add, 1, 1), bus.job(jobs.add, 2, 2)]),
                bus.job(jobs.sum_of_previous),
            )
            .store_results()
            .named("root")
            .then(jobs.record_results, f.event_log.path("calls"))
        ),
        ends={"root": good(4)},
        ran=[],
        calls=["[2, 5, 6]"],
    ),
}


def batches_of(root: JobBatch) -> dict[str, JobBatch]:
    """The named batches of a tree."""
    descendants = JobBatch.objects.filter(root=root)
    return {batch.name: batch for batch in [root, *descendants]}


def ends_of(root: JobBatch, names: dict[str, End]) -> dict[str, End]:
    End.of(root)
    batches = batches_of(root)
    return {name: End.of(batches[name]) for name in names}


@pytest.mark.slow
def test_how_trees_finish_and_continue(
    start: Start, event_log: EventLog, tickets: Callable[[], list[str]]
) -> None:
    forests = {name: Forest(event_log.child_log(name)) for name in CASES}
    roots = {name: case.build(forests[name]).dispatch() for name, case in CASES.items()}
    start(1, "default", "slow", "other")

    ends = {name: ends_of(roots[name], case.ends) for name, case in CASES.items()}
    recorded = {name: (f.event_log.lines("jobs"), f.event_log.calls) for name, f in forests.items()}

    assert ends == {name: case.ends for name, case in CASES.items()}
    assert {name: (in_order(ran), calls) for name, (ran, calls) in recorded.items()} == {
        name: (in_order(case.ran), case.calls) for name, case in CASES.items()
    }

    retries = {name: case for name, case in CASES.items() if case.retried is not None}
    for name in retries:
        forests[name].event_log.open("a1", "b")
    retried = {
        name: batches_of(roots[name])[case.retry_of].retry() for name, case in retries.items()
    }
    ends = {name: ends_of(roots[name], case.then_ends) for name, case in retries.items()}
    wait_until(lambda: not tickets())

    assert retried == {name: case.retried for name, case in retries.items()}
    assert ends == {name: case.then_ends for name, case in retries.items()}
    for name, case in retries.items():
        ran, calls = recorded[name]
        assert in_order(forests[name].event_log.lines("jobs")[len(ran) :]) == in_order(
            case.then_ran
        )
        assert forests[name].event_log.calls[len(calls) :] == case.then_calls


def in_order(ran: list[str]) -> list[str]:
    """Return the records by lane: parallel lanes run in any order, and a letter names each lane."""
    return sorted(ran, key=lambda text: text[0])


def test_a_cancel_reaches_jobs_three_levels_down(start: Start, event_log: EventLog) -> None:
    f = Forest(event_log)
    start(1)
    holding = bus.job(jobs.hold_until_cancelled, event_log.path("jobs"))
    root = f.named(
        "root",
        bus.chain(
            f.named("middle", bus.batch([f.named("inner", bus.batch([holding, f.job("never")]))])),
            f.named("waiting", bus.batch([f.job("never")])),
        ),
    ).dispatch()
    wait_until(lambda: event_log.lines("jobs") == ["began"])
    wait_until(lambda: batches_of(root)["inner"].jobs.running().count() == 1)

    closed = root.cancel("enough", by="ann")
    ends = ends_of(root, dict.fromkeys(["root", "middle", "inner", "waiting"], good(0)))

    assert closed
    assert ends == {
        "root": End(outcome="cancelled", total=2, cancelled=2),
        "middle": End(outcome="cancelled", total=1, cancelled=1),
        "inner": End(outcome="cancelled", total=2, succeeded=1, cancelled=1),
        "waiting": End(outcome="cancelled", total=1, cancelled=1),
    }
    assert event_log.lines("jobs") == ["began", "saw the cancel"]
    assert sorted(event_log.calls) == [
        "inner finally cancelled",
        "middle finally cancelled",
        "root finally cancelled",
        "waiting finally cancelled",
    ]
    assert {batch.cancel_reason for batch in batches_of(root).values()} == {"enough"}


@pytest.mark.parametrize("allow", [False, True], ids=["strict", "allowing"])
def test_a_cancelled_child_batch_stops_its_lane(
    start: Start,
    event_log: EventLog,
    allow: bool,  # noqa: FBT001 - a parameter of the test
) -> None:
    f = Forest(event_log)
    start(1)
    inner = f.named(
        "inner", bus.batch([bus.job(jobs.hold_until_cancelled, event_log.path("jobs"))])
    )
    parent = bus.batch([[inner, f.job("behind")], [f.gated("beside"), f.job("end")]])
    event_log.open("beside")
    root = f.named("root", parent.allow_failures() if allow else parent).dispatch()
    wait_until(lambda: "began" in event_log.lines("jobs"))

    batches_of(root)["inner"].cancel("this one")
    ends = ends_of(root, dict.fromkeys(["root", "inner"], good(0)))

    assert ends["inner"] == End(outcome="cancelled", total=1, succeeded=1)
    assert (ends["root"].outcome, ends["root"].total, ends["root"].skipped) == (
        "partial" if allow else "cancelled",
        4,
        1,
    )
    assert "behind" not in event_log.lines("jobs")
    assert root.cancel_reason == ("" if allow else "this one")
    assert event_log.calls == [
        "inner finally cancelled",
        *(["root then partial", "root finally partial"] if allow else ["root finally cancelled"]),
    ]


def test_the_progress_and_the_failures_of_a_tree_are_those_of_all_its_jobs(
    start: Start, event_log: EventLog
) -> None:
    f = Forest(event_log)
    start(1)
    held = event_log.blocking_job("held", "end")
    inner = bus.batch([f.gated("b"), f.job("c"), held]).allow_failures()
    root = bus.chain(f.job("a"), inner, f.job("d")).dispatch()
    event_log.wait_for("held began")
    wait_until(lambda: JobBatch.objects.get(pk=root.pk).tree_jobs.processed == 3)
    root.refresh_from_db()

    half = (root.progress, root.tree_jobs._asdict(), root.total_jobs, root.processed_jobs)
    event_log.open("end")
    end = End.of(root)

    # Five jobs, of which the chain has two itself; what stands in it for the batch is a third link.
    counts = {"total": 5, "pending": 2, "succeeded": 2, "failed": 1, "cancelled": 0, "skipped": 0}
    assert half == (60, counts, 3, 1)
    assert end == End(outcome="partial", total=3, succeeded=3)
    assert root.tree_jobs._asdict() == {**counts, "pending": 0, "succeeded": 4}
    assert [failure.message for failure in root.failures] == ["b is closed"]


def test_a_running_tree_is_deleted_and_its_running_jobs_are_not_counted(
    start: Start, event_log: EventLog
) -> None:
    f = Forest(event_log)
    (worker,) = start(1)
    held = event_log.blocking_job("held", "end")
    root = bus.chain(bus.batch([bus.batch([held, f.job("never")])]), f.job("never")).dispatch()
    event_log.wait_for("held began")
    wait_until(lambda: BatchedJob.objects.running().filter(child=None).count() == 1)

    root.delete()
    event_log.open("end")
    worker.wait_for_log("were late and changed nothing")

    assert JobBatch.objects.count() == 0
    assert BatchedJob.objects.count() == 0
    assert event_log.lines("jobs") == ["held began", "held done"]


def test_a_tree_is_pruned_by_the_age_of_its_root(start: Start, event_log: EventLog) -> None:
    f = Forest(event_log)
    start(1)
    root = bus.chain(bus.batch([f.job("a")]), f.job("b")).dispatch()
    End.of(root)
    long_ago = timezone.now() - timedelta(days=2)

    JobBatch.objects.filter(root=root).update(finished_at=long_ago)
    young = prune()
    JobBatch.objects.filter(pk=root.pk).update(finished_at=long_ago)
    old = prune()

    assert (young.batches, old.batches) == (0, 2)
    assert JobBatch.objects.count() == 0


def test_a_retry_resets_what_was_cancelled_three_levels_down(
    start: Start, event_log: EventLog
) -> None:
    f = Forest(event_log)
    inner = f.named("inner", bus.batch([f.job("c"), f.job("d")]))
    middle = f.named("middle", bus.chain(f.job("b"), inner, f.job("e")))
    root = f.named("root", bus.chain(f.job("a"), middle, f.job("f"))).dispatch()
    names = ["root", "middle", "inner"]
    batches_of(root)["inner"].cancel("this one")
    start(1)
    first = ends_of(root, dict.fromkeys(names, good(0)))

    retried = root.retry(include_cancelled=True)
    second = ends_of(root, dict.fromkeys(names, good(0)))

    assert first == {
        "root": End(outcome="cancelled", total=3, succeeded=1, cancelled=1, skipped=1),
        "middle": End(outcome="cancelled", total=3, succeeded=1, cancelled=1, skipped=1),
        "inner": End(outcome="cancelled", total=2, cancelled=2),
    }
    assert retried == 4
    assert second == {
        "root": good(3, run=2),
        "middle": good(3, run=2),
        "inner": good(2, run=2),
    }
    assert event_log.lines("jobs") == ["a", "b", "c", "d", "e", "f"]


def test_a_retry_leaves_a_cancelled_descendant_unless_it_includes_cancelled(
    start: Start, event_log: EventLog
) -> None:
    f = Forest(event_log)
    inner = f.named("inner", bus.batch([f.job("c")]))
    deep = f.named("deep", bus.batch([inner, f.gated("b")]).allow_failures())
    middle = f.named("middle", bus.batch([[deep, f.job("d")]]))
    root = f.named("root", bus.chain(middle, f.gated("e"))).dispatch()
    names = ["root", "middle", "deep", "inner"]
    batches_of(root)["inner"].cancel("this one")
    start(1)
    ends_of(root, dict.fromkeys(names, good(0)))
    event_log.open("b", "e")

    counts = [root.retry()]
    first = ends_of(root, dict.fromkeys(names, good(0)))
    counts.append(batches_of(root)["middle"].retry())
    counts.append(batches_of(root)["middle"].retry(include_cancelled=True))
    second = ends_of(root, dict.fromkeys(names, good(0)))

    assert counts == [2, 0, 1]
    assert first == {
        "root": End(outcome="partial", total=2, succeeded=2, run=2),
        "middle": End(outcome="partial", total=2, succeeded=2, run=2),
        "deep": End(outcome="partial", total=2, succeeded=1, cancelled=1, run=2),
        "inner": End(outcome="cancelled", total=1, cancelled=1),
    }
    assert second == {
        "root": good(2, run=3),
        "middle": good(2, run=3),
        "deep": good(2, run=3),
        "inner": good(1, run=2),
    }
    assert event_log.lines("jobs") == ["b", "d", "e", "b", "e", "c"]


def test_a_tree_is_deleted_with_its_root(start: Start, event_log: EventLog) -> None:
    f = Forest(event_log)
    start(1)
    root = bus.chain(f.job("a"), bus.batch([f.gated("b")]).allow_failures(), f.job("c")).dispatch()
    End.of(root)

    root.delete()

    assert JobBatch.objects.count() == 0
    assert BatchedJob.objects.count() == 0
    assert FailedJob.objects.count() == 1


def test_links_of_one_lane_delivered_twice_run_once(start: Start, event_log: EventLog) -> None:
    f = Forest(event_log)
    names = [f"{number:03}" for number in range(100)]
    root = f.named("root", bus.chain(*(f.job(name) for name in names))).dispatch()
    transport.send(transport.Ticket(root.pk, "default", "default", 120, "again"), 20)
    start(2)

    end = End.of(root)

    assert end == good(100)
    assert event_log.lines("jobs") == names
    assert event_log.calls == ["root then succeeded", "root finally succeeded"]
