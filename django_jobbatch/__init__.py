"""Batches and chains of background jobs for Django, run by RQ workers, stored in the database."""

from __future__ import annotations

from django_jobbatch.context import acurrent_batch, current_batch, current_job
from django_jobbatch.exceptions import (
    BatchBusy,
    BatchCancelled,
    BatchFinished,
    BuilderSpent,
    DoNotRetry,
    FunctionNotFound,
    InvalidJob,
    InvalidOption,
    JobBatchError,
    JobTimeout,
    NotInBatch,
    OutcomeRejected,
    PayloadRefused,
    ResultsNotStored,
    ResultTooLarge,
    RetryReturned,
    TransportError,
    UnencodableArgument,
    UnknownQueue,
    WorkerLost,
)

__all__ = [
    "BatchBusy",
    "BatchCancelled",
    "BatchFinished",
    "BuilderSpent",
    "DoNotRetry",
    "FunctionNotFound",
    "InvalidJob",
    "InvalidOption",
    "JobBatchError",
    "JobTimeout",
    "NotInBatch",
    "OutcomeRejected",
    "PayloadRefused",
    "ResultTooLarge",
    "ResultsNotStored",
    "RetryReturned",
    "TransportError",
    "UnencodableArgument",
    "UnknownQueue",
    "WorkerLost",
    "acurrent_batch",
    "current_batch",
    "current_job",
]
