"""The `progress` callbacks of a batch, which are called in place."""

from __future__ import annotations

from django_jobbatch import payload, transport
from django_jobbatch.logs import get_logger
from django_jobbatch.models import JobBatch
from django_jobbatch.runner.calls import call_stored
from django_jobbatch.runner.failure_log import ids_of
from django_jobbatch.runner.interruptions import is_stop

logger = get_logger("django_jobbatch")


def report_progress(batch: JobBatch) -> None:
    """Call the `progress` callbacks of the batch; their exceptions are logged and change nothing."""
    for entry in batch.options.get("progress", ()):
        try:
            call_stored(
                batch.pk,
                payload.PROGRESS,
                entry,
                batch,
                queue=batch.queue,
                timeout=transport.default_timeout(batch.queue),
            )
        except BaseException as error:
            if is_stop(error, batch.queue):
                raise
            logger.exception(
                "A progress callback of batch %s raised", batch.pk, extra=ids_of(batch)
            )
