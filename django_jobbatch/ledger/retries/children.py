"""The child batches that a retry of their parent reopens although they succeeded."""

from __future__ import annotations

from django_jobbatch.db import chunked
from django_jobbatch.ledger import rows
from django_jobbatch.ledger.retries import reset
from django_jobbatch.ledger.retries.reset import BatchRetry, LinkToReset
from django_jobbatch.ledger.retries.rules import stand_ins_with_retryable_jobs
from django_jobbatch.models import BatchedJob, JobBatchQuerySet


def children_of(retry: BatchRetry) -> JobBatchQuerySet:
    """Return the child batches of the batch; without a query if it has none."""
    children = rows.batches(retry.transition.using).filter(parent__batch_id=retry.batch.pk)
    return children if retry.batch.child_batches else children.none()


def partial_stand_ins(retry: BatchRetry, children: JobBatchQuerySet) -> list[LinkToReset]:
    """Lock and return the succeeded stand-ins of these children whose tree has retryable jobs."""
    pks = stand_ins_with_retryable_jobs(children, include_cancelled=retry.include_cancelled)
    links = BatchedJob.objects.using(retry.transition.using).succeeded()
    return [
        each
        for chunk in chunked(sorted(pks))
        for each in reset.read_links(links.filter(pk__in=chunk))
    ]
