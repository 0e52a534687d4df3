"""Admin pages of batches, jobs and failures.

Users with a view permission view them. Users with another permission cancel and retry, after a page
of confirmation, through `operations`. Nobody adds, changes or deletes rows.
"""

from __future__ import annotations

from django_jobbatch.admin.batches import JobBatchAdmin
from django_jobbatch.admin.failures import FailedJobAdmin
from django_jobbatch.admin.jobs import BatchedJobAdmin

__all__ = ["BatchedJobAdmin", "FailedJobAdmin", "JobBatchAdmin"]
