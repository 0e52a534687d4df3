"""Rows as the ledger leaves them: counters that agree with links, payloads signed for their batch."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from typing import Any

import factory
from django.utils import timezone

from django_jobbatch.ledger import insert_jobs
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.payload import Seal
from django_jobbatch.specs import JobSpec
from django_jobbatch.states import (
    CALLBACKS,
    NOT_BEGUN,
    BatchStatus,
    LinkStatus,
    Outcome,
    Role,
)

#: What the links of the factories call.
CALL = JobSpec("tests.jobs.add", (1, 2))

_COUNTED = {
    LinkStatus.FAILED: "failed_jobs",
    LinkStatus.CANCELLED: "cancelled_jobs",
    LinkStatus.SKIPPED: "skipped_jobs",
}


def signed(batch_id: uuid.UUID, spec: JobSpec = CALL) -> str:
    """The payload of a link of this batch."""
    return Seal(batch_id).pack(spec, "a job")


def registered(batch_id: uuid.UUID, roles: Sequence[Role], queue: str) -> list[dict[str, str]]:
    """Callbacks as a batch stores them; the roles in the order in which they run."""
    return [
        {"role": str(role), "queue": queue, "payload": signed(batch_id)}
        for role in sorted(roles, key=CALLBACKS.index)
    ]


def options(*, unique: str | None = None, **named: object) -> dict[str, Any]:
    """The options of a batch as a dispatch stores them."""
    return {
        "jobs": {},
        "callbacks": {},
        "progress": [],
        "isolated": False,
        "store_results": False,
        "unique": unique,
        **named,
    }


class JobBatchFactory(factory.django.DjangoModelFactory[JobBatch]):
    """A batch without links; `jobs=3`, or `jobs=[LinkStatus.FAILED, ...]`, gives it some.

    `roles` are its callbacks. The traits set its state; links count themselves.
    """

    class Meta:
        model = JobBatch
        skip_postgeneration_save = True

    class Params:
        roles = ()
        pending = factory.Trait(status=BatchStatus.PENDING)
        running = factory.Trait(
            status=BatchStatus.RUNNING, started_at=factory.LazyFunction(timezone.now)
        )
        stopping = factory.Trait(running=True, status=BatchStatus.STOPPING)
        finished = factory.Trait(
            running=True,
            status=BatchStatus.FINISHED,
            outcome=Outcome.SUCCEEDED,
            finished_at=factory.LazyFunction(timezone.now),
        )
        failed = factory.Trait(finished=True, outcome=Outcome.FAILED)
        cancelled = factory.Trait(
            finished=True,
            outcome=Outcome.CANCELLED,
            cancelled_at=factory.LazyFunction(timezone.now),
        )

    id = factory.LazyFunction(uuid.uuid4)
    name = factory.Sequence("batch {}".format)
    queue = "default"
    queues = factory.LazyAttribute(lambda batch: [batch.queue])
    options = factory.LazyAttribute(lambda batch: options(unique=batch.unique_key))
    callbacks = factory.LazyAttribute(
        lambda batch: registered(batch.id, list(batch.roles), batch.queue)
    )

    @factory.post_generation
    def jobs(
        batch: JobBatch,  # noqa: N805 - what a post-generation hook is given
        create: bool,  # noqa: FBT001 - factory_boy's signature
        extracted: int | Sequence[LinkStatus] | None,
        **kwargs: Any,
    ) -> None:
        if not extracted:
            return
        statuses = [LinkStatus.PENDING] * extracted if isinstance(extracted, int) else extracted
        links = [
            BatchedJobFactory.build(batch=batch, lane=lane, status=status, **kwargs)
            for lane, status in enumerate(statuses)
        ]
        _count(batch, statuses)
        if create:
            batch.save(using=batch._state.db)
            insert_jobs(str(batch._state.db), links)


class BatchedJobFactory(factory.django.DjangoModelFactory[BatchedJob]):
    """One link; its batch does not count it unless it was made by `JobBatchFactory(jobs=...)`."""

    class Meta:
        model = BatchedJob

    batch = factory.SubFactory(JobBatchFactory)
    lane = factory.Sequence(lambda number: number)
    queue = factory.SelfAttribute("batch.queue")
    payload = factory.LazyAttribute(lambda link: signed(link.batch.pk))


class FailedJobFactory(factory.django.DjangoModelFactory[FailedJob]):
    """What went wrong with one job, which is made for it."""

    class Meta:
        model = FailedJob

    job = factory.SubFactory(BatchedJobFactory, status=LinkStatus.FAILED)
    batch = factory.SelfAttribute("job.batch")
    payload = factory.SelfAttribute("job.payload")
    queue = factory.SelfAttribute("job.queue")
    of_callback = factory.SelfAttribute("job.is_callback")
    exception_class = "tests.jobs.JobFailed"
    message = "failed on purpose"
    traceback = "tests.jobs.JobFailed: failed on purpose\n"


def _count(batch: JobBatch, statuses: Sequence[LinkStatus]) -> None:
    """Move the counters of an unsaved batch by links in these statuses."""
    batch.total_jobs += len(statuses)
    for status in statuses:
        if status in NOT_BEGUN or status == LinkStatus.RUNNING:
            batch.pending_jobs += 1
        elif column := _COUNTED.get(status):
            setattr(batch, column, getattr(batch, column) + 1)
