"""Rows as the ledger leaves them: counters that agree with links, payloads signed for their batch."""

# factory_boy is typed in part only.
# mypy: disable-error-code="no-untyped-call, untyped-decorator"

from __future__ import annotations

import uuid
from collections.abc import Collection
from typing import Any

from django.utils import timezone
from factory.declarations import (
    LazyAttribute,
    LazyFunction,
    SelfAttribute,
    Sequence,
    SubFactory,
    Trait,
)
from factory.django import DjangoModelFactory
from factory.helpers import post_generation

from django_jobbatch.counters import COUNTER_BY_STATUS
from django_jobbatch.ledger import LinkRow
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.payload import CallSigner
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.states import (
    CALLBACKS,
    NOT_STARTED,
    BatchStatus,
    LinkStatus,
    Outcome,
    Role,
)

#: The function that the links of the factories call.
CALL = JobSpec("tests.jobs.add", (1, 2))


def signed(batch_id: uuid.UUID, spec: JobSpec = CALL, *, role: str = Role.JOB) -> str:
    """The payload of a link of this batch in this role."""
    return CallSigner(batch_id, role).sign(spec, "a job")


def link_row(batch: JobBatch, lane: int, **named: Any) -> LinkRow:
    """A job of this batch as a dispatch inserts it."""
    values = {
        "position": 0,
        "status": LinkStatus.PENDING,
        "queue": batch.queue,
        "payload": signed(batch.pk),
        "options": {},
        "available_at": None,
    }
    return LinkRow(batch_id=batch.pk, lane=lane, **{**values, **named})


def registered(batch_id: uuid.UUID, roles: Collection[Role], queue: str) -> list[dict[str, Any]]:
    """Callbacks as a batch stores them; the roles in the order in which they run."""
    return [
        {"role": str(role), "queue": queue, "payload": signed(batch_id, role=role), "options": {}}
        for role in sorted(roles, key=CALLBACKS.index)
    ]


def batch_options(*, unique: str | None = None, **named: object) -> dict[str, Any]:
    """The options of a batch as a dispatch stores them."""
    return {
        "jobs": {},
        "progress": [],
        "isolated": False,
        "store_results": False,
        "unique": unique,
        **named,
    }


class JobBatchFactory(DjangoModelFactory[JobBatch]):
    """A batch without links; `jobs=3`, or `jobs=[LinkStatus.FAILED, ...]`, gives it some.

    `roles` are its callbacks. The traits set its state; links count themselves.
    """

    class Meta:
        model = JobBatch
        skip_postgeneration_save = True

    class Params:
        roles = ()
        pending = Trait(status=BatchStatus.PENDING)
        running = Trait(status=BatchStatus.RUNNING, started_at=LazyFunction(timezone.now))
        stopping = Trait(running=True, status=BatchStatus.STOPPING)
        finished = Trait(
            running=True,
            status=BatchStatus.FINISHED,
            outcome=Outcome.SUCCEEDED,
            finished_at=LazyFunction(timezone.now),
        )
        failed = Trait(finished=True, outcome=Outcome.FAILED)
        cancelled = Trait(
            finished=True,
            outcome=Outcome.CANCELLED,
            cancelled_at=LazyFunction(timezone.now),
        )

    id = LazyFunction(uuid.uuid4)
    name = Sequence("batch {}".format)
    queue = "default"
    unique_key = None
    queues = LazyAttribute(lambda batch: [batch.queue])
    options = LazyAttribute(lambda batch: batch_options(unique=batch.unique_key))
    callbacks = LazyAttribute(lambda batch: registered(batch.id, list(batch.roles), batch.queue))

    @post_generation
    def jobs(
        batch: JobBatch,  # noqa: N805 - what a post-generation hook is given
        create: bool,  # noqa: FBT001 - factory_boy's signature
        extracted: int | Collection[LinkStatus] | None,
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
            BatchedJob.objects.using(batch._state.db).bulk_create(links)


class BatchedJobFactory(DjangoModelFactory[BatchedJob]):
    """One link; its batch does not count it unless it was made by `JobBatchFactory(jobs=...)`."""

    class Meta:
        model = BatchedJob

    batch = SubFactory(JobBatchFactory)
    lane = Sequence(lambda number: number)
    queue = SelfAttribute("batch.queue")
    role = Role.JOB
    payload = LazyAttribute(lambda link: signed(link.batch.pk, role=link.role))


class FailedJobFactory(DjangoModelFactory[FailedJob]):
    """The failure of a job that is made for it."""

    class Meta:
        model = FailedJob

    job = SubFactory(BatchedJobFactory, status=LinkStatus.FAILED)
    batch = SelfAttribute("job.batch")
    payload = SelfAttribute("job.payload")
    queue = SelfAttribute("job.queue")
    of_callback = SelfAttribute("job.is_callback")
    exception_class = "tests.jobs.JobFailed"
    message = "failed on purpose"
    traceback = "tests.jobs.JobFailed: failed on purpose\n"


def _count(batch: JobBatch, statuses: Collection[LinkStatus]) -> None:
    """Move the counters of an unsaved batch by links in these statuses."""
    batch.total_jobs += len(statuses)
    for status in statuses:
        if status in NOT_STARTED or status == LinkStatus.RUNNING:
            batch.pending_jobs += 1
        elif column := COUNTER_BY_STATUS.get(status):
            setattr(batch, column, getattr(batch, column) + 1)
