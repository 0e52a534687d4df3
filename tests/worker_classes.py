"""Worker classes of a project, as `--worker-class` names them.

A spawned work-horse imports this before Django is set up.
"""

from __future__ import annotations

from rq.worker import HerokuWorker, RoundRobinWorker, SimpleWorker, SpawnWorker

from django_jobbatch.worker import BatchWorker, BatchWorkerMixin


class HastyBatchWorker(BatchWorker):
    """Reconciles every second."""

    reconcile_interval = 1


class HastySimpleBatchWorker(BatchWorkerMixin, SimpleWorker):
    reconcile_interval = 1


class SimpleBatchWorker(BatchWorkerMixin, SimpleWorker): ...


class HerokuBatchWorker(BatchWorkerMixin, HerokuWorker): ...


class RoundRobinBatchWorker(BatchWorkerMixin, RoundRobinWorker): ...


class SpawnBatchWorker(BatchWorkerMixin, SpawnWorker): ...
