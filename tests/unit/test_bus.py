"""Builders describe jobs and batches, and store nothing before `dispatch()`."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from typing import Any, cast
from unittest import mock

import pytest

from django_jobbatch import bus
from django_jobbatch.bus import BatchBuilder, JobBuilder
from django_jobbatch.exceptions import InvalidJob, InvalidOption, UnencodableArgument
from django_jobbatch.models import JobBatch
from django_jobbatch.specs.batch import BatchSpec, JobSpec
from django_jobbatch.specs.items import read_lanes
from django_jobbatch.specs.options import Options
from django_jobbatch.states import Role
from tests.unit import targets

LATER = datetime(2027, 1, 1, tzinfo=UTC)
ADD = "tests.unit.targets.add"
HERE = "tests.unit.targets.where_am_i"


def spec_of(builder: BatchBuilder) -> dict[str, Any]:
    """Return the values of a builder that differ from the defaults, without its sources."""
    default = BatchSpec()
    values = {
        name: getattr(builder.spec, name) for name in BatchSpec.__slots__ if name != "sources"
    }
    return {name: value for name, value in values.items() if value != getattr(default, name)}


def jobs_of(builder: BatchBuilder) -> list[JobSpec]:
    """Return the jobs of a flat batch."""
    return [cast(JobSpec, link) for (link,) in read_lanes(builder.spec.sources)]


# job


def test_a_job_is_a_path_and_its_arguments() -> None:
    job = bus.job(targets.add, 1, second=2)

    assert job == JobBuilder(JobSpec(ADD, (1,), {"second": 2}))


@pytest.mark.parametrize("name", ["dispatch", "then", "named"])
def test_a_method_of_batches_has_a_hint_on_a_job(name: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(bus.job(targets.add, 1), name)

    assert str(caught.value) == (
        f"A job has no {name}(), a batch has; put it into one: bus.batch([job]).{name}(...),"
        f" or bus.chain(job).{name}(...)."
    )


def test_a_job_has_nothing_else() -> None:
    with pytest.raises(AttributeError, match="'JobBuilder' object has no attribute 'disptach'"):
        bus.job(targets.add, 1).disptach  # type: ignore[attr-defined]  # noqa: B018


@pytest.mark.parametrize(
    ("builder", "name", "message"),
    [
        (
            bus.chain(),
            "allow_failures",
            "A chain has no allow_failures(); put the chain into one: bus.batch([chain]).allow_failures().",
        ),
        (bus.chain(), "add", "A chain has no add(); add links by append(...)."),
        (
            bus.batch(),
            "append",
            "A batch has no append(); add jobs by add(...), or write bus.chain.",
        ),
        (bus.chain(), "disptach", "'ChainBuilder' object has no attribute 'disptach'"),
        (bus.batch(), "disptach", "'BatchBuilder' object has no attribute 'disptach'"),
    ],
)
def test_a_method_that_a_builder_lacks_has_a_hint(builder: object, name: str, message: str) -> None:
    with pytest.raises(AttributeError) as caught:
        getattr(builder, name)

    assert str(caught.value) == message


def test_a_job_takes_a_keyword_argument_of_any_name() -> None:
    job = bus.job(targets.add, func=1, args=2, self=3)

    assert job.spec.kwargs == {"func": 1, "args": 2, "self": 3}


def test_a_job_can_be_named_by_its_path() -> None:
    assert bus.job("shop.jobs.sync", 7).spec == JobSpec("shop.jobs.sync", (7,))


def test_an_object_that_cannot_be_a_job_is_rejected_at_the_call() -> None:
    with pytest.raises(InvalidJob, match="did you call the function"):
        bus.job(None)


def test_options_of_a_job_take_precedence_over_those_of_its_decorator() -> None:
    job = bus.job(targets.on_imports, 7).options(timeout=timedelta(minutes=1), retry_interval=5)

    assert job.spec.options == Options(queue="imports", timeout=60, retry=2, retry_interval=(5,))


def test_options_of_a_job_are_laid_over_its_earlier_ones() -> None:
    job = bus.job(targets.add).options(retry=1, delay=5).options(retry=2, run_after=LATER)

    assert job.spec.options == Options(retry=2, run_after=LATER)


def test_a_job_has_a_queue_of_its_own() -> None:
    assert bus.job(targets.add).on_queue("imports").spec.options == Options(queue="imports")


def test_an_invalid_option_is_rejected_at_the_call() -> None:
    with pytest.raises(InvalidOption) as caught:
        bus.job(targets.add).options(retry=-1)

    assert (
        str(caught.value) == "retry=-1: pass the number of further attempts, from 0 to 1,000,000."
    )


def test_a_job_does_not_change() -> None:
    job = bus.job(targets.add)

    job.options(retry=1)

    assert job == bus.job(targets.add)
    with pytest.raises(AttributeError):
        job.spec = JobSpec("shop.jobs.sync")  # type: ignore[misc]


# batch


def test_an_empty_batch_has_the_defaults() -> None:
    batch = bus.batch()

    assert jobs_of(batch) == []
    assert spec_of(batch) == {}


def test_a_batch_has_the_jobs_of_an_iterable() -> None:
    batch = bus.batch(bus.job(targets.add, number) for number in range(2))

    assert jobs_of(batch) == [JobSpec(ADD, (0,)), JobSpec(ADD, (1,))]


def test_a_batch_has_a_single_job() -> None:
    assert jobs_of(bus.batch(bus.job(targets.add))) == [JobSpec(ADD)]


def test_a_batch_has_what_was_added() -> None:
    batch = bus.batch([bus.job(targets.add, 0)])

    more = batch.add(bus.job(targets.add, 1)).add([bus.job(targets.add, 2)])

    assert [job.args for job in jobs_of(more)] == [(0,), (1,), (2,)]
    assert [job.args for job in jobs_of(batch)] == [(0,)]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda job: bus.batch(job, job),
            "batch() takes one iterable, not 2 arguments; put them in a list: batch([...]).",
        ),
        (
            lambda job: bus.batch().add(job, job, job),
            "add() takes one iterable, not 3 arguments; put them in a list: add([...]).",
        ),
        (
            lambda _job: bus.batch(None),
            "None is not a job; did you call the function? Write bus.job(func, ...).",
        ),
        (
            lambda _job: bus.batch().add(targets.add),
            "a bare function is not a job; wrap it: bus.job(func, ...).",
        ),
        (
            lambda job: bus.batch([job, [job, [targets.add]]]),
            "item 1: a bare function is not a job; wrap it: bus.job(func, ...).",
        ),
        (
            lambda job: bus.chain(job, (job for _ in range(2))),
            "a generator is not a job; for jobs side by side write bus.batch(...), one after"
            " another bus.chain(*...).",
        ),
    ],
)
def test_invalid_items_are_rejected_at_the_call(
    call: Callable[[JobBuilder], object], message: str
) -> None:
    with pytest.raises(InvalidJob) as caught:
        call(bus.job(targets.add))

    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("build", "spec"),
    [
        (lambda b: b.named("Import"), {"name": "Import"}),
        (lambda b: b.with_meta(a=1).with_meta(b=[None], a=2), {"meta": {"a": 2, "b": [None]}}),
        (lambda b: b.options(queue="a", retry=1), {"options": Options(queue="a", retry=1)}),
        (
            lambda b: b.options(queue="a", retry=1).options(retry=2),
            {"options": Options(queue="a", retry=2)},
        ),
        (lambda b: b.on_queue("a"), {"options": Options(queue="a")}),
        (lambda b: b.allow_failures(), {"allow_failures": True}),
        (lambda b: b.isolated(), {"isolated": True}),
        (lambda b: b.store_results(), {"store_results": True}),
        (lambda b: b.using("other"), {"using": "other"}),
        (lambda b: b.unique("nightly"), {"unique": "nightly"}),
        (
            lambda b: b.callback_options(queue="a", timeout=60).callback_options(
                retry=1, retry_interval=[1, 2]
            ),
            {"callback_options": Options(queue="a", timeout=60, retry=1, retry_interval=(1, 2))},
        ),
        (lambda b: b.before(print).before(len), {"before": (print, len)}),
        (
            lambda b: b.progress(targets.where_am_i, 7, func=1),
            {"progress": (JobSpec(HERE, (7,), {"func": 1}),)},
        ),
        (
            lambda b: b.then(targets.where_am_i, 7, func=1).finally_(targets.where_am_i),
            {
                "callbacks": (
                    (Role.THEN, JobSpec(HERE, (7,), {"func": 1})),
                    (Role.FINALLY, JobSpec(HERE)),
                )
            },
        ),
        (
            lambda b: b.catch(targets.where_am_i).each_failure(targets.on_default),
            {
                "callbacks": (
                    (Role.CATCH, JobSpec(HERE)),
                    (
                        Role.EACH_FAILURE,
                        JobSpec("tests.unit.targets.on_default", options=Options(queue="default")),
                    ),
                )
            },
        ),
    ],
)
def test_each_call_returns_a_new_batch_with_one_more_value(
    build: Callable[[BatchBuilder], BatchBuilder], spec: dict[str, Any]
) -> None:
    batch = bus.batch()

    assert spec_of(build(batch)) == spec
    assert spec_of(batch) == {}


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda b: b.named(""), "name='': pass text of 1 to 255 characters."),
        (lambda b: b.named(None), "name=None: pass text (str)."),
        (lambda b: b.using(None), "using=None: pass text (str)."),
        (lambda b: b.unique(None), "unique=None: pass text (str)."),
        (lambda b: b.unique(7), "unique=7: pass text (str)."),
        (
            lambda b: b.unique("x" * 256),
            f"unique='{'x' * 198}…: pass text of 1 to 255 characters.",
        ),
        (
            lambda b: b.callback_options(retry=True),
            "retry=True: pass the number of further attempts, from 0 to 1,000,000.",
        ),
    ],
)
def test_an_invalid_value_is_rejected_at_the_call(
    build: Callable[[Any], object], message: str
) -> None:
    with pytest.raises(InvalidOption) as caught:
        build(bus.batch())

    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["then", "catch", "each_failure", "finally_", "progress"])
def test_a_callback_that_no_worker_could_call_is_rejected_at_the_call(name: str) -> None:
    with pytest.raises(InvalidJob, match="is a lambda, which no worker can import"):
        getattr(bus.batch(), name)(targets.nameless)


def test_before_takes_any_callable_and_nothing_else() -> None:
    with pytest.raises(InvalidJob) as caught:
        bus.batch().before("shop.jobs.sync")  # type: ignore[arg-type]

    assert str(caught.value) == "before() takes something to call, not 'shop.jobs.sync'."


def test_meta_is_plain_json() -> None:
    with pytest.raises(UnencodableArgument) as caught:
        bus.batch().with_meta(days=[date(2026, 11, 1)])

    assert str(caught.value) == (
        "meta['days'][0]: a date, where only plain JSON is kept, cannot be stored as JSON;"
        " pass .isoformat()"
    )


# dispatch


def test_dispatch_creates_the_batch_that_was_described() -> None:
    stored = JobBatch()
    builder = bus.batch([bus.job(targets.add)]).named("Import")

    with mock.patch("django_jobbatch.operations.create", return_value=stored) as create:
        assert builder.dispatch() is stored

    create.assert_called_once_with(builder.spec)


def test_adispatch_does_the_same_from_asynchronous_code() -> None:
    stored = JobBatch()
    builder = bus.batch([bus.job(targets.add)])

    with mock.patch("django_jobbatch.operations.create", return_value=stored) as create:
        assert asyncio.run(builder.adispatch()) is stored

    create.assert_called_once_with(builder.spec)


def test_importing_the_bus_loads_no_models_and_no_transport() -> None:
    program = (
        "import sys, django_jobbatch.bus;"
        "print([name for name in ('django_jobbatch.models', 'rq', 'django_rq', 'redis')"
        " if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)

    assert (done.stdout, done.stderr) == ("[]\n", "")


def test_an_unknown_option_is_rejected_with_the_known_ones() -> None:
    with pytest.raises(InvalidOption) as caught:
        bus.batch().options(countdown=3)  # type: ignore[call-arg]

    assert str(caught.value) == (
        "options() has no 'countdown'; it has queue, timeout, retry, retry_interval, delay,"
        " run_after, transactional, description."
    )


def test_a_chain_is_lengthened_at_either_end() -> None:
    first, second, third, last = (bus.job(ADD, number, 1) for number in range(4))
    chain = bus.chain(second)

    longer = chain.append(third, last).prepend(first)

    assert longer.spec == bus.chain(first, second, third, last).spec
    assert chain.spec == bus.chain(second).spec
