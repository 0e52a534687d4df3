"""The aims: a row for each kind of work, with the bounds of its values."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from benchmarks.scale.measured import Measured, NotMeasured, Value


class Check(NamedTuple):
    """Value with its bound; `other_bound` is for databases other than PostgreSQL, where it differs."""

    title: str
    value: Callable[[Measured], Value]
    bound: float
    at_least: bool = False
    other_bound: float | None = None

    def judge(self, measured: Measured) -> dict[str, Any]:
        """Return the value, its bound and whether it is met; None if it is not measured."""
        is_other = measured.database != "postgres" and self.other_bound is not None
        bound = self.other_bound if is_other and self.other_bound is not None else self.bound
        value = self.value(measured)
        found: dict[str, Any] = {"title": self.title, "aim": self._aim(bound)}
        if isinstance(value, NotMeasured):
            return {**found, "value": None, "met": None, "share": None, "reason": value.reason}
        median = value["median"]
        met = median >= bound if self.at_least else median <= bound
        return {**found, "value": value, "met": met, "share": self._share(median, bound)}

    def _aim(self, bound: float) -> str:
        return f"{'≥' if self.at_least else '≤'} {bound:g}"

    def _share(self, median: float, bound: float) -> float:
        """Return how far the aim is reached; it is met from 1 on."""
        if self.at_least:
            return median / bound
        return bound / median if median > 0 else 100.0


@dataclass(frozen=True)
class Row:
    """Kind of work: the measurement that it needs, its checks, and figures that are shown too.

    Only a row `with_parent` is measured on the parent.
    """

    title: str
    study: str
    checks: Sequence[Check]
    shown: Sequence[str] = ()
    with_parent: bool = False

    def judge(self, measured: Measured) -> dict[str, Any]:
        """Return the row with its values; it is met if all its checks are."""
        checks = [check.judge(measured) for check in self.checks]
        met = [check["met"] for check in checks]
        return {
            "title": self.title,
            "value": checks[0]["value"],
            "aim": "; ".join(f"{check['title']} {check['aim']}" for check in checks),
            "met": False if False in met else None if None in met else True,
            "checks": checks,
            "figures": measured.figures(self.shown),
        }


def own(name: str) -> Callable[[Measured], Value]:
    return lambda measured: measured.own(name)


def quotient(name: str, by: str) -> Callable[[Measured], Value]:
    return lambda measured: measured.quotient(name, by)


def difference(name: str, less: str) -> Callable[[Measured], Value]:
    return lambda measured: measured.difference(name, less)


def to_parent(name: str) -> Callable[[Measured], Value]:
    return lambda measured: measured.to_parent(name)


def to_peer(work: str, side: str) -> Callable[[Measured], Value]:
    return lambda measured: measured.to_peer(work, side)


ROWS: Final = {
    "small_batches": Row(
        "batches of 10 jobs with `then` and `finally_`, in one `BatchWorker`",
        "small_batches",
        [
            Check(
                "ratio to Celery's chords of 10", to_peer("batch_10", "celery"), 1.5, at_least=True
            )
        ],
        ["small_per_s"],
    ),
    "small_statements": Row(
        "statements of such a batch in the worker",
        "small_costs",
        [
            Check(
                "statements with `BEGIN` and `COMMIT`", own("small_statements"), 24, other_bound=30
            ),
            Check("transactions", own("small_transactions"), 5),
        ],
        ["small_first_statements", "small_first_transactions"],
    ),
    "small_redis": Row(
        "commands to Redis in the worker, beside RQ's own for a ticket",
        "small_costs",
        [
            Check("first batch of a row", own("redis_first"), 15),
            Check("each further batch", own("redis_further"), 12),
        ],
        ["redis_rq_ticket"],
    ),
    "small_dispatch": Row(
        "dispatch of such a batch",
        "small_dispatch",
        [
            Check("processor time, ratio to the parent", to_parent("dispatch_small_cpu_ms"), 0.3),
            Check("statements beside `BEGIN` and `COMMIT`", own("dispatch_small_statements"), 4),
            Check("round trips to Redis", own("dispatch_small_round_trips"), 1),
        ],
        ["dispatch_small_cpu_ms", "redis_dispatch"],
        with_parent=True,
    ),
    "dispatch_large": Row(
        "dispatch of a large batch from a generator",
        "dispatch_large",
        [
            Check(
                "ratio to `enqueue_many`",
                quotient("dispatch_per_s", "enqueue_many_per_s"),
                3,
                at_least=True,
                other_bound=1.5,
            )
        ],
        ["dispatch_per_s", "enqueue_many_per_s"],
    ),
    "dispatch_huge": Row(
        "dispatch of a huge batch",
        "dispatch_huge",
        [
            Check(
                "rate, ratio to a large batch",
                quotient("huge_per_s", "large_per_s"),
                0.9,
                at_least=True,
            ),
            Check("MB of memory beside it", own("huge_memory_mb"), 1.5),
        ],
        ["huge_per_s"],
    ),
    "run_large": Row(
        "run of a large batch of jobs that do nothing",
        "run_large",
        [
            Check("ratio to the parent", to_parent("run_per_s"), 1.5, at_least=True),
            Check("ratio to Celery's plain tasks", to_peer("tasks", "celery"), 8, at_least=True),
        ],
        ["run_per_s", "run_cpu_us"],
        with_parent=True,
    ),
    "isolated": Row(
        "`isolated()` jobs with one query",
        "isolated",
        [
            Check(
                "ratio to RQ's `Worker`",
                quotient("isolated_per_s", "rq_query_per_s"),
                0.72,
                at_least=True,
            )
        ],
        ["isolated_per_s", "rq_query_per_s"],
    ),
    "chain": Row(
        "a long chain of jobs that do nothing",
        "chain",
        [
            Check(
                "links a second, ratio to the parent", to_parent("links_per_s"), 3, at_least=True
            ),
            Check(
                "statements of a hop with `BEGIN` and `COMMIT`",
                own("hop_statements"),
                6,
                other_bound=8,
            ),
            Check("transactions of a hop", own("hop_transactions"), 1),
        ],
        ["links_per_s", "link_cpu_us"],
        with_parent=True,
    ),
    "child": Row(
        "a child batch of one job, from its start to its settlement",
        "children",
        [
            Check("statements beside `BEGIN` and `COMMIT`", own("child_statements"), 20),
            Check("transactions", own("child_transactions"), 3),
        ],
        ["children_per_s"],
    ),
    "two_workers": Row(
        "two workers on one large batch",
        "two_workers",
        [
            Check(
                "ratio to one worker",
                quotient("two_workers_per_s", "one_worker_per_s"),
                1.7,
                at_least=True,
            ),
            Check("share of the time that waits for a lock", own("lock_share"), 0.05),
        ],
        ["one_worker_per_s", "two_workers_per_s"],
    ),
    "many_writers": Row(
        "16 writers that settle one batch job by job",
        "writers",
        [
            Check(
                "ratio to 4 writers",
                quotient("many_writers_per_s", "few_writers_per_s"),
                0.8,
                at_least=True,
            )
        ],
        ["many_writers_per_s", "few_writers_per_s", "many_updates_per_s", "few_updates_per_s"],
    ),
    "cancel": Row(
        "cancel of a large pending batch",
        "cancel",
        [
            Check("seconds of the call", own("cancel_call_s"), 0.5),
            Check("whole, ratio to one UPDATE", quotient("cancel_whole_s", "cancel_plain_s"), 1.5),
        ],
        ["cancel_whole_s", "cancel_plain_s"],
    ),
    "retry": Row(
        "retry of a large batch of failed jobs",
        "failures",
        [
            Check("seconds of the call", own("retry_call_s"), 1),
            Check("whole, ratio to one UPDATE", quotient("retry_whole_s", "retry_plain_s"), 2.5),
        ],
        ["retry_whole_s", "retry_plain_s"],
    ),
    "failing": Row(
        "a large batch whose jobs all fail",
        "failures",
        [
            Check(
                "ratio to the same batch succeeding",
                quotient("failing_per_s", "succeeding_per_s"),
                0.4,
                at_least=True,
            )
        ],
        ["failing_per_s", "succeeding_per_s"],
    ),
    "callback": Row(
        "from the end of the last job to the start of `then`",
        "callbacks",
        [
            Check("ms on the same queue", own("then_same_queue_ms"), 10),
            Check(
                "ms on another queue, beside an idle job of RQ",
                difference("then_other_queue_ms", "idle_rq_job_ms"),
                10,
            ),
        ],
        ["then_other_queue_ms", "idle_rq_job_ms"],
    ),
    "after_large": Row(
        "a batch of 10 after a running huge batch on the same queue, one worker",
        "after_large",
        [
            Check(
                "seconds for each ticket in line",
                quotient("after_large_s", "after_large_others"),
                1,
            )
        ],
        ["after_large_s", "after_large_others"],
    ),
    "mixed": Row(
        "long and short jobs in random order, 4 workers",
        "mixed",
        [Check("ratio to the ideal time", quotient("mixed_s", "mixed_ideal_s"), 1.3)],
        ["mixed_s", "mixed_ideal_s"],
    ),
    "idle_workers": Row(
        "ten jobs of 0.2 s on ten idle workers",
        "idle_workers",
        [Check("seconds", own("idle_workers_s"), 0.6)],
    ),
    "tree": Row(
        "import of airports as a tree of batches",
        "airports",
        [
            Check(
                "processor time, ratio to one flat batch",
                quotient("tree_cpu_s", "flat_cpu_s"),
                1.15,
            )
        ],
        ["tree_cpu_s", "flat_cpu_s"],
    ),
}
