"""The admin pages of batches, jobs and failures.

Everybody who may view them looks; who may cancel or retry does so through `operations`, after a
page that says what would happen. Nothing is added, changed or deleted by hand.
"""

from __future__ import annotations

from django_jobbatch.admin.batches import JobBatchAdmin
from django_jobbatch.admin.failures import FailedJobAdmin
from django_jobbatch.admin.jobs import BatchedJobAdmin

__all__ = ["BatchedJobAdmin", "FailedJobAdmin", "JobBatchAdmin"]
