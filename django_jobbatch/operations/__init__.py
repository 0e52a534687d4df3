"""What can be done to a batch: create, add, cancel, retry, delete, and read its results.

Each is one function that the builder, the model, commands and pages call alike.
"""

from __future__ import annotations

from django_jobbatch.operations.ending import cancel, delete, retry
from django_jobbatch.operations.entering import add, create
from django_jobbatch.operations.reading import results

__all__ = ["add", "cancel", "create", "delete", "results", "retry"]
