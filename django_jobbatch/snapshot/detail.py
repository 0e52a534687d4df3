"""All there is to say about one batch, in types that JSON can hold."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

from django_jobbatch.models import FailedJob, JobBatch
from django_jobbatch.snapshot.batches import iso, summary
from django_jobbatch.snapshot.callbacks import CallbackState, callback_states
from django_jobbatch.snapshot.calls import call_line
from django_jobbatch.snapshot.failures import FailureGroups, failure_groups
from django_jobbatch.snapshot.progress_bar import running_jobs

Show: TypeAlias = Callable[[FailedJob], dict[str, Any]]


def detail(batch: JobBatch, *, with_messages: bool, with_calls: bool = False) -> dict[str, Any]:
    """The snapshot of the batch, its running jobs, queues, callbacks and failures.

    `with_messages` is for those who may see failures: what an exception says may quote arguments.
    `with_calls` is for those who may see payloads: what has failed, with its arguments.

    Two queries for a finished flat batch without callbacks; at most six for a flat one.
    """
    show = partial(_failure, with_messages=with_messages, with_calls=with_calls)
    return {
        **summary(batch),
        "running_jobs": running_jobs(batch),
        "queues": batch.queues,
        "cancel_reason": batch.cancel_reason,
        "cancelled_by": batch.cancelled_by,
        "callbacks": [_callback(state, show) for state in callback_states(batch)],
        "failures": _failures(failure_groups(batch), show),
    }


def _callback(state: CallbackState, show: Show) -> dict[str, Any]:
    return {
        "role": str(state.role),
        "function": state.path,
        "run": state.run,
        "state": str(state.state),
        "job": state.link.pk if state.link else None,
        "failure": show(state.failure) if state.failure else None,
    }


def _failures(groups: FailureGroups, show: Show) -> dict[str, Any]:
    return {
        "counted": groups.counted,
        "has_more": groups.has_more,
        "by_exception": [
            {
                "exception": group.exception_class,
                "count": group.count,
                "retried": group.retried,
                "newest": show(group.newest),
                "to_retry": [
                    {"batch": str(batch_id), "job": job_id} for batch_id, job_id in group.retryable
                ],
            }
            for group in groups.groups
        ],
    }


def _failure(failure: FailedJob, *, with_messages: bool, with_calls: bool) -> dict[str, Any]:
    shown = {
        "batch": str(failure.batch_id),
        "job": failure.job_id,
        "function": failure.func,
        "exception": failure.exception_class,
        "failed_at": iso(failure.failed_at),
    }
    if with_messages:
        shown["message"] = failure.message
    if with_calls:
        shown["call"] = call_line(failure.payload)
    return shown
