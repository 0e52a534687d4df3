"""Every error that this package raises. The docstring of a class is its default message."""

from __future__ import annotations

from typing import Self


class JobBatchError(Exception):
    """An error occurred in django-jobbatch."""

    def __init__(self, message: str | None = None) -> None:
        super().__init__(message or (type(self).__doc__ or "").partition("\n")[0])


class InvalidJob(JobBatchError, TypeError):
    """The object cannot be a job, a link or a callback of a batch."""


class InvalidOption(JobBatchError, ValueError):
    """An option has a value that cannot be used."""


class UnencodableArgument(JobBatchError, TypeError):
    """An argument or a result cannot be stored as JSON."""


class UnknownQueue(JobBatchError, LookupError):
    """The queue is not in RQ_QUEUES."""


class BuilderSpent(JobBatchError):
    """This builder reads an iterator and was dispatched before; build a new one, or give it a list."""


class BatchFinished(JobBatchError):
    """The batch has finished and takes no more jobs; dispatch a new batch."""


class BatchDeleted(BatchFinished):
    """The batch was deleted, and its jobs with it."""

    @classmethod
    def of(cls, batch_id: object) -> Self:
        """Return the error that names this batch."""
        return cls(f"Batch {batch_id} was deleted, and its jobs with it.")


class BatchCancelled(JobBatchError):
    """The batch was cancelled."""


class BatchBusy(JobBatchError):
    """The batch is still stopping; wait until it has finished."""


class NotInBatch(JobBatchError):
    """No job of a batch is running here; call this inside a job, or pass default=. A thread needs a copy of the job's context."""


class ResultsNotStored(JobBatchError):
    """The batch does not store results; build it with .store_results()."""


class DoNotRetry(JobBatchError):
    """A job raises DoNotRetry to fail at once, without further attempts."""


class RetryReturned(JobBatchError, TypeError):
    """The job returned a Retry of RQ, which has no effect in a batch: raise an exception instead, and give the job options(retry=...)."""


class JobTimeout(JobBatchError):
    """The job ran longer than its timeout."""


class TransactionLeftOpen(JobBatchError):
    """The job left a transaction open on a database connection; write `with transaction.atomic():`."""


class TransactionBroken(JobBatchError):
    """The job ended or spoiled a transaction that other code had opened; leave it and its connection as they are."""


class WorkerLost(JobBatchError):
    """Several times the worker of this job was lost before an outcome was stored: look for the cause in the logs of the workers and of the database (memory, a crash, os._exit, an error of the worker), then retry."""


class OutcomeRejected(JobBatchError):
    """The database rejected the outcome of this job."""


class ResultTooLarge(JobBatchError, ValueError):
    """The result of this job is larger than JOBBATCH["MAX_RESULT"] allows."""


class PayloadRefused(JobBatchError):
    """The stored call was not signed by this application for this batch and role, so it was not run. If SECRET_KEY has changed since the dispatch, put the former key into SECRET_KEY_FALLBACKS and retry the job."""


class FunctionNotFound(JobBatchError):
    """The function of this job cannot be imported."""


class TransportError(JobBatchError):
    """The Redis server did not accept or answer a request."""
