"""Random trees of batches, chains and jobs: drawn from a seed, printed, and built."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias

from benchmarks.chaos import jobs
from django_jobbatch import bus
from django_jobbatch.bus import Builder

#: What jobs do, the usual more often than what is rare.
JOBS: Final = {
    "work": 16,
    "fail_first": 4,
    "fail": 1,
    "fail_runs": 2,
    "kill_horse": 1,
    "load": 2,
    "extend": 1,
    "write": 4,
}
SECONDS: Final = (0, 0, 0.02, 0.05, 0.1, 0.2)
CALLBACKS: Final = ("then", "catch", "finally_", "each_failure")
DEPTH: Final = 3


@dataclass(frozen=True)
class Job:
    """A call of a function of `jobs`."""

    func: str
    argument: float
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Group:
    """A batch or a chain; callbacks by kind: the function of `jobs`, and its arguments."""

    items: tuple[Item, ...]
    chain: bool = False
    allow_failures: bool = False
    isolated: bool = False
    callbacks: dict[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict)


Item: TypeAlias = Job | Group


def draw(random: Random, depth: int = DEPTH) -> Group:
    """A batch or chain with `depth` levels at most, itself included."""
    chain = random.random() < (0.1 if depth == DEPTH else 0.5)
    most = {DEPTH: 10, DEPTH - 1: 4}.get(depth, 3)
    return Group(
        items=tuple(_item(random, depth) for _ in range(random.randint(most // 2, most))),
        chain=chain,
        allow_failures=not chain and random.random() < 0.7,
        isolated=not chain and random.random() < 0.1,
        callbacks={name: _callback(random, name) for name in CALLBACKS if random.random() < 0.4},
    )


def build(tree: Group) -> Builder:
    """The tree as the app takes it."""
    items = [_built(item) for item in tree.items]
    builder: Any = bus.chain(*items) if tree.chain else bus.batch(items)
    if tree.allow_failures:
        builder = builder.allow_failures()
    if tree.isolated:
        builder = builder.isolated()
    for name, (func, arguments) in tree.callbacks.items():
        builder = getattr(builder, name)(getattr(jobs, func), *arguments)
    made: Builder = builder
    return made


def outline(item: Item, indent: str = "") -> Iterator[str]:
    """The tree as lines of text."""
    if isinstance(item, Job):
        options = "".join(f", {name}={value}" for name, value in item.options.items())
        yield f"{indent}{item.func}({item.argument}){options}"
        return
    marks = [name for name in ("allow_failures", "isolated") if getattr(item, name)]
    told = [f"{name}: {func}{args}" for name, (func, args) in item.callbacks.items()]
    yield f"{indent}{'chain' if item.chain else 'batch'} {'; '.join(marks + told)}".rstrip()
    for each in item.items:
        yield from outline(each, f"{indent}  ")


def _item(random: Random, depth: int) -> Item:
    if depth > 1 and random.random() < 0.3:
        return draw(random, depth - 1)
    return _job(random)


def _job(random: Random) -> Job:
    [func] = random.choices(list(JOBS), list(JOBS.values()))
    options: dict[str, Any] = {}
    if random.random() < 0.25:
        options["queue"] = "other"
    if random.random() < 0.03:
        options["delay"] = 1
    if func == "fail_first" or random.random() < 0.1:
        options |= {"retry": 2, "retry_interval": random.choice([0, 0, 0, 0, 1])}
    if func == "write":
        options["transactional"] = True
    return Job(func, _argument(random, func), options)


def _argument(random: Random, func: str) -> float:
    if func in ("work", "fail", "write"):
        return random.choice(SECONDS)
    return random.choice([1, 1, 1, 1, 3])


def _callback(random: Random, name: str) -> tuple[str, tuple[float, ...]]:
    if name in ("catch", "each_failure"):
        return "told_failure", (random.choice(SECONDS),)
    chance = random.random()
    if chance < 0.1:
        return "told_and_dies", (random.choice([1, 2]),)
    if chance < 0.2:
        return "told_badly", ()
    return "told", (random.choice(SECONDS),)


def _built(item: Item) -> object:
    if isinstance(item, Group):
        return build(item)
    job = bus.job(getattr(jobs, item.func), item.argument)
    return job.options(**item.options) if item.options else job
