"""The one read model of a batch: what pages, JSON and metrics show.

Each query here is bounded, whatever the number of jobs.

What goes out as JSON, and to whom: `of` holds states, numbers, dates, names and paths of functions, for whoever
may see the batch. `in_full` adds who cancelled it and why, and the kinds of exceptions; what these
said, which may quote arguments, only `with_messages`, for who may see failures. Arguments, results,
tracebacks, `meta` and options are in neither: the first three have pages with permissions of their own.
"""

from __future__ import annotations

from django_jobbatch.snapshot.batches import duration, state, state_label, summary
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
    "state",
    "state_label",
    "steps",
    "summary",
]
