"""Random trees of batches, chains and jobs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final, TypeAlias

from benchmarks.chaos import hostile, hostile_jobs, jobs
from django_jobbatch import bus
from django_jobbatch.bus import Builder

#: Functions of jobs, with their weights.
JOBS: Final = {
    "work": 16.0,
    "fail_first": 4,
    "fail": 1,
    "fail_runs": 2,
    "kill_horse": 1,
    "load": 2,
    "extend": 1,
    "write": 4,
}
SECONDS: Final = (0, 0, 0.02, 0.05, 0.1, 0.2)
CALLBACKS: Final = ("then", "catch", "finally_", "each_failure", "progress")
DEPTH: Final = 3


@dataclass(frozen=True)
class Job:
    """Call of a function of `jobs` or `hostile_jobs`."""

    func: str
    argument: float
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Tree:
    """Batch or chain, with its callbacks by role: the name of a function and its arguments."""

    items: tuple[Item, ...]
    chain: bool = False
    allow_failures: bool = False
    isolated: bool = False
    stores_results: bool = False
    callbacks: dict[str, tuple[str, tuple[float, ...]]] = field(default_factory=dict)


Item: TypeAlias = Job | Tree


def random_tree(random: Random, depth: int = DEPTH, kinds: Sequence[str] = ()) -> Tree:
    """Return a random batch or chain with at most `depth` levels, its own included.

    `kinds` are the kinds of its hostile jobs and callbacks.
    """
    chain = random.random() < (0.1 if depth == DEPTH else 0.5)
    maximum = {DEPTH: 10, DEPTH - 1: 4}.get(depth, 3)
    return Tree(
        items=tuple(
            _random_item(random, depth, kinds) for _ in range(random.randint(maximum // 2, maximum))
        ),
        chain=chain,
        allow_failures=not chain and random.random() < 0.7,
        isolated=not chain and random.random() < 0.1,
        stores_results=random.random() < 0.3,
        callbacks={
            name: _random_callback(random, name, kinds)
            for name in CALLBACKS
            if random.random() < 0.4
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
    if tree.stores_results:
        builder = builder.store_results()
    for name, (func, arguments) in tree.callbacks.items():
        builder = getattr(builder, name)(_function(func), *arguments)
    built: Builder = builder
    return built


def outline(item: Item, indent: str = "") -> Iterator[str]:
    """Yield the tree as lines of text."""
    if isinstance(item, Job):
        job_options = "".join(f", {name}={value}" for name, value in item.options.items())
        yield f"{indent}{item.func}({item.argument}){job_options}"
        return
    names = ("allow_failures", "isolated", "stores_results")
    options = [name for name in names if getattr(item, name)]
    callbacks = [f"{name}: {func}{args}" for name, (func, args) in item.callbacks.items()]
    yield f"{indent}{'chain' if item.chain else 'batch'} {'; '.join(options + callbacks)}".rstrip()
    for child in item.items:
        yield from outline(child, f"{indent}  ")


def _random_item(random: Random, depth: int, kinds: Sequence[str]) -> Item:
    if depth > 1 and random.random() < 0.3:
        return random_tree(random, depth - 1, kinds)
    return _random_job(random, kinds)


def _random_job(random: Random, kinds: Sequence[str]) -> Job:
    weights = JOBS | hostile.weights(kinds)
    [func] = random.choices(list(weights), list(weights.values()))
    options: dict[str, Any] = {}
    if random.random() < 0.25:
        options["queue"] = "other"
    if random.random() < 0.03:
        options["delay"] = 1
    if func == "fail_first" or random.random() < 0.1:
        options |= {"retry": 2, "retry_interval": random.choice([0, 0, 0, 0, 1])}
    if func == "write":
        options["transactional"] = True
    if job := hostile.JOBS.get(func):
        options |= job.options
        if func.startswith("leave_") and random.random() < 0.3 and job.may_be_transactional:
            options["transactional"] = True
    return Job(func, _random_argument(random, func), options)


def _random_argument(random: Random, func: str) -> float:
    if func in ("work", "fail", "write"):
        return random.choice(SECONDS)
    return random.choice([1, 1, 1, 1, 3])


def _random_callback(
    random: Random, name: str, kinds: Sequence[str]
) -> tuple[str, tuple[float, ...]]:
    if name == "progress":
        func = random.choice(["progress", *hostile.progress(kinds)])
        return func, (random.choice([0, 1, 2]),)
    if name in ("catch", "each_failure"):
        return "failure_callback", (random.choice(SECONDS),)
    chance = random.random()
    if chance < 0.1:
        return "dying_callback", (random.choice([1, 2]),)
    if chance < 0.2:
        return "failing_callback", ()
    if chance < 0.25 and (names := hostile.callbacks(kinds)):
        return random.choice(names), (random.choice([0, 1, 2]),)
    return "callback", (random.choice(SECONDS),)


def _build_item(item: Item) -> object:
    if isinstance(item, Tree):
        return build(item)
    job = bus.job(_function(item.func), item.argument)
    return job.options(**item.options) if item.options else job


def _function(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(jobs, name, None) or getattr(hostile_jobs, name)
    return found
