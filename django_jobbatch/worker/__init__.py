"""The worker class for RQ: `RQ = {"WORKER_CLASS": "django_jobbatch.worker.BatchWorker"}`."""

from __future__ import annotations

from django_jobbatch.worker.mixin import BatchWorker, BatchWorkerMixin

__all__ = [
    "BatchWorker",
    "BatchWorkerMixin",
]
