"""What can be done to a batch: create, add, cancel, retry, delete, prune, and read its results.

Each is one function that the builder, the model, commands and pages call alike.
"""

from __future__ import annotations

from django_jobbatch.operations.ending import cancel, delete, retry
from django_jobbatch.operations.entering import add, append, create, prepend
from django_jobbatch.operations.pruning import Kept, Pruned, prune
from django_jobbatch.operations.reading import previous_result, results

__all__ = [
    "Kept",
    "Pruned",
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
