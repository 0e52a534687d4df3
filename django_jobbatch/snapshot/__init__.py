"""Read model of a batch, for pages, JSON and metrics.

Each query is bounded, for any number of jobs.

`summary` is for users who may view the batch: states, numbers, dates, names and paths of functions.
`detail` adds the user and reason of a cancel, and the classes of exceptions. Messages may quote
arguments, so `detail` contains them only `with_messages`, for users who may view failures. Neither
contains arguments, results, tracebacks, `meta` or options. The first three have pages with
permissions of their own.
"""

from __future__ import annotations

from django_jobbatch.snapshot.batches import duration, short_id, state, state_label, summary
from django_jobbatch.snapshot.callbacks import CallbackState, callback_states
from django_jobbatch.snapshot.calls import DisplayCall, display_call
from django_jobbatch.snapshot.children import ChildOutline, child_outline
from django_jobbatch.snapshot.detail import detail
from django_jobbatch.snapshot.failures import FailureGroup, FailureGroups, failure_groups
from django_jobbatch.snapshot.progress_bar import Segment, running_jobs, segments
from django_jobbatch.snapshot.steps import steps

__all__ = [
    "CallbackState",
    "ChildOutline",
    "DisplayCall",
    "FailureGroup",
    "FailureGroups",
    "Segment",
    "callback_states",
    "child_outline",
    "detail",
    "display_call",
    "duration",
    "failure_groups",
    "running_jobs",
    "segments",
    "short_id",
    "state",
    "state_label",
    "steps",
    "summary",
]
