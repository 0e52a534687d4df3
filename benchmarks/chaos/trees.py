"""Random trees of batches, chains and jobs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias

from benchmarks.chaos import jobs
from django_jobbatch import bus
from django_jobbatch.bus import Builder

#: Functions of jobs, with their weights.
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
    """Call of a function of `jobs`."""

    func: str
    argument: float
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tree:
    """Batch or chain, with its callbacks by role: a function of `jobs` and its arguments."""

    items: tuple[Item, ...]
    chain: bool = False
    allow_failures: bool = False
    isolated: bool = False
    callbacks: dict[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict)


Item: TypeAlias = Job | Tree


def random_tree(random: Random, depth: int = DEPTH) -> Tree:
    """Return a random batch or chain with at most `depth` levels, its own included."""
    chain = random.random() < (0.1 if depth == DEPTH else 0.5)
    maximum = {DEPTH: 10, DEPTH - 1: 4}.get(depth, 3)
    return Tree(
        items=tuple(
            _random_item(random, depth) for _ in range(random.randint(maximum // 2, maximum))
        ),
        chain=chain,
        allow_failures=not chain and random.random() < 0.7,
        isolated=not chain and random.random() < 0.1,
        callbacks={
            name: _random_callback(random, name) for name in CALLBACKS if random.random() < 0.4
        },
    )


def build(tree: Tree) -> Builder:
    """Return the builder of the tree."""
    items = [_build_item(item) for item in tree.items]
    builder: Any = bus.chain(*items) if tree.chain else bus.batch(items)
    if tree.allow_failures:
        builder = builder.allow_failures()
    if tree.isolated:
        builder = builder.isolated()
    for name, (func, arguments) in tree.callbacks.items():
        builder = getattr(builder, name)(getattr(jobs, func), *arguments)
    built: Builder = builder
    return built


def outline(item: Item, indent: str = "") -> Iterator[str]:
    """Yield the tree as lines of text."""
    if isinstance(item, Job):
        job_options = "".join(f", {name}={value}" for name, value in item.options.items())
        yield f"{indent}{item.func}({item.argument}){job_options}"
        return
    options = [name for name in ("allow_failures", "isolated") if getattr(item, name)]
    callbacks = [f"{name}: {func}{args}" for name, (func, args) in item.callbacks.items()]
    yield f"{indent}{'chain' if item.chain else 'batch'} {'; '.join(options + callbacks)}".rstrip()
    for child in item.items:
        yield from outline(child, f"{indent}  ")


def _random_item(random: Random, depth: int) -> Item:
    if depth > 1 and random.random() < 0.3:
        return random_tree(random, depth - 1)
    return _random_job(random)


def _random_job(random: Random) -> Job:
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
    return Job(func, _random_argument(random, func), options)


def _random_argument(random: Random, func: str) -> float:
    if func in ("work", "fail", "write"):
        return random.choice(SECONDS)
    return random.choice([1, 1, 1, 1, 3])


def _random_callback(random: Random, name: str) -> tuple[str, tuple[float, ...]]:
    if name in ("catch", "each_failure"):
        return "failure_callback", (random.choice(SECONDS),)
    chance = random.random()
    if chance < 0.1:
        return "dying_callback", (random.choice([1, 2]),)
    if chance < 0.2:
        return "failing_callback", ()
    return "callback", (random.choice(SECONDS),)


def _build_item(item: Item) -> object:
    if isinstance(item, Tree):
        return build(item)
    job = bus.job(getattr(jobs, item.func), item.argument)
    return job.options(**item.options) if item.options else job
