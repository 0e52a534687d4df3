"""The `progress` callbacks of a batch, which are called in place."""

from __future__ import annotations

from django_jobbatch import payload, transport
from django_jobbatch.functions import invocation
from django_jobbatch.functions.loader import load_call
from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.failure_log import ids_of
from django_jobbatch.runner.interruptions import is_stop
from django_jobbatch.runner.time_limit import time_limit

logger = get_logger("django_jobbatch")


def report_progress(batch: JobBatch) -> None:
    """Call the `progress` callbacks of the batch; log what they raise, which changes nothing else."""
    for entry in batch.options.get("progress", ()):
        try:
            target, call = load_call(batch.pk, payload.PROGRESS, entry)
            with time_limit(transport.default_timeout(batch.queue)):
                invocation.invoke(target, (batch, *call.args), call.kwargs)
        except BaseException as error:
            if is_stop(error, batch.queue):
                raise
            logger.exception(
                "A progress callback of batch %s raised", batch.pk, extra=ids_of(batch)
            )
