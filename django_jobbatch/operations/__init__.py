"""The verbs of a batch: create, add, cancel, retry, delete, prune, and read its results.

The builder, the models, the commands and the pages all call these functions.
"""

from __future__ import annotations

from django_jobbatch.operations.cancellation import cancel
from django_jobbatch.operations.creation import create
from django_jobbatch.operations.deletion import delete
from django_jobbatch.operations.extension import add, append, prepend
from django_jobbatch.operations.pruning import Pruned, RetainedRow, prune
from django_jobbatch.operations.retries import retry
from django_jobbatch.operations.stored_results import previous_result, results

__all__ = [
    "Pruned",
    "RetainedRow",
    "add",
    "append",
    "cancel",
    "create",
    "delete",
    "prepend",
    "previous_result",
    "prune",
    "results",
    "retry",
]
