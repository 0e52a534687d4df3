"""Details of one batch, in JSON types."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from django_jobbatch.models import FailedJob, JobBatch
from django_jobbatch.models.shape import readable_queues
from django_jobbatch.snapshot.batches import iso, summary
from django_jobbatch.snapshot.callbacks import CallbackState, callback_states
from django_jobbatch.snapshot.calls import call_line
from django_jobbatch.snapshot.failures import FailureGroups, failure_groups
from django_jobbatch.snapshot.progress_bar import running_jobs

ToDict: TypeAlias = Callable[[FailedJob], dict[str, Any]]


def detail(batch: JobBatch, *, with_messages: bool, with_calls: bool = False) -> dict[str, Any]:
    """Return the summary of the batch with its running jobs, queues, callbacks and failures.

    `with_messages` is for users who may view failures: a message may quote arguments. `with_calls`
    is for users who may view payloads: it adds the calls that failed, with their arguments.

    A flat batch takes at most six queries; a finished one without callbacks takes two.
    """
    to_dict = partial(_failure, with_messages=with_messages, with_calls=with_calls)
    return {
        **summary(batch),
        "running_jobs": running_jobs(batch),
        "queues": readable_queues(batch),
        "cancel_reason": batch.cancel_reason,
        "cancelled_by": batch.cancelled_by,
        "callbacks": [_callback(state, to_dict) for state in callback_states(batch)],
        "failures": _failures(failure_groups(batch), to_dict),
    }


def _callback(state: CallbackState, to_dict: ToDict) -> dict[str, Any]:
    return {
        "role": str(state.role),
        "function": state.path,
        "run": state.run,
        "state": str(state.state),
        "job": state.link.pk if state.link else None,
        "failure": to_dict(state.failure) if state.failure else None,
    }


def _failures(groups: FailureGroups, to_dict: ToDict) -> dict[str, Any]:
    return {
        "counted": groups.counted,
        "has_more": groups.has_more,
        "by_exception": [
            {
                "exception": group.exception_class,
                "count": group.count,
                "retried": group.retried,
                "newest": to_dict(group.newest),
                "retryable": [
                    {"batch": str(batch_id), "job": job_id} for batch_id, job_id in group.retryable
                ],
            }
            for group in groups.groups
        ],
    }


def _failure(failure: FailedJob, *, with_messages: bool, with_calls: bool) -> dict[str, Any]:
    values = {
        "batch": str(failure.batch_id),
        "job": failure.job_id,
        "function": failure.func,
        "exception": failure.exception_class,
        "failed_at": iso(failure.failed_at),
    }
    if with_messages:
        values["message"] = failure.message
    if with_calls:
        values["call"] = call_line(failure.payload)
    return values
