"""Asynchronous functions that the tests use as jobs and callbacks."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from typing import TYPE_CHECKING, Any

from asgiref.sync import sync_to_async

from airports.models import CallbackCall
from django_jobbatch import acurrent_batch, current_batch, current_job
from django_jobbatch.models import JobBatch
from tests.jobs import record

if TYPE_CHECKING:
    from django_jobbatch.models import FailedJob


async def record_end(path: str, seconds: float) -> None:
    """Record the start, and the end however it comes."""
    record(path, "began")
    try:
        await asyncio.sleep(seconds)
    finally:
        await asyncio.sleep(0.01)
        record(path, "ended")


async def describe() -> dict[str, Any]:
    """Return what a coroutine finds of its job and its batch, wherever it asks."""
    job = current_job()
    batch = current_batch()
    named = JobBatch.objects.filter(pk=batch.pk)
    await named.aupdate(name="renamed")
    return {
        "job": job.pk,
        "its batch": str(job.batch.pk),
        "batch": batch.name,
        "read again": (await acurrent_batch()).name,
        "in a task": await asyncio.create_task(_job_id()),
        "in a function": await sync_to_async(lambda: current_job().pk)(),
        "read in a function": await sync_to_async(lambda: current_batch().name)(),
        "in a thread of asyncio": await asyncio.to_thread(lambda: current_job().pk),
        "in a plain thread": _in_thread(lambda: current_job(default=None)),
        "in a thread with the context": _in_thread(
            lambda: current_job().pk, contextvars.copy_context()
        ),
    }


async def is_cancelled_meanwhile() -> list[bool]:
    """Return whether the batch is cancelled: before, in the row from before, in it after a look."""
    batch = current_batch()
    found = [batch.is_cancelled]
    await sync_to_async(batch.cancel)()
    found.append(current_batch().is_cancelled)
    await batch.arefresh_from_db()
    return [*found, batch.is_cancelled, (await acurrent_batch()).is_cancelled]


async def _job_id() -> int:
    return current_job().pk


def _in_thread(ask: Any, context: contextvars.Context | None = None) -> Any:
    answers: list[Any] = []

    def run() -> None:
        answers.append(ask())

    thread = threading.Thread(target=run if context is None else lambda: context.run(run))
    thread.start()
    thread.join()
    return answers[0]


async def note_call(batch: JobBatch, path: str, text: str) -> None:
    """A callback: record what it finds of its batch; it writes with the ORM."""
    failures = [each.exception_class async for each in batch.failures]
    await CallbackCall.objects.acreate(batch_id=batch.pk, role=text)
    record(path, f"{text}: {current_batch() == batch}, {batch.failed_jobs} failed, {failures}")


async def note_failure(batch: JobBatch, failure: FailedJob, path: str, text: str) -> None:
    """A callback with a failure: record it."""
    same = await acurrent_batch() == current_batch() == batch
    record(path, f"{text}: {failure.message}, {same}")


async def note_progress(batch: JobBatch, path: str) -> None:
    record(path, f"progress: {current_batch(default=None)}, {batch.progress}")
