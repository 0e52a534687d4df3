"""The log lines of outcomes. They are written after the settlement, so logging changes no outcome."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final

from django_jobbatch import error_text
from django_jobbatch.ledger import Failure
from django_jobbatch.logs import get_logger
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.shutdown import traceback_of

logger = get_logger("django_jobbatch")

#: Packages whose frames are left out at the start of a traceback: the job's own code follows.
_OUR_FRAMES: Final = ("django_jobbatch.", "contextlib", "asgiref.")


#: The frames of the failures of one group. Jobs that fail mostly do so at one place.
_known: Final = error_text.KnownFrames()


def start_group() -> None:
    """Forget the frames of earlier failures: a file of the source may have changed since."""
    _known.clear()


def failed(link: BatchedJob, error: BaseException) -> tuple[Failure, Callable[[], None]]:
    """Return the failure to be stored for an exception, and its log line, with the exception."""
    trace = _own_traceback(error)
    text = _known.text(error, trace)
    line = _line(
        logger.error,
        "%s failed: job %d of batch %s",
        link,
        exc_info=(type(error), error, trace),
        exc_text=text,
    )
    return Failure.of(error, trace, text), line


def lost(link: BatchedJob, error: BaseException) -> Callable[[], None]:
    """Return the log line of a link that counts a worker loss for this error, with the error."""
    text = "%s has no known outcome and counts a worker loss: job %d of batch %s"
    return _line(logger.error, text, link, exc_info=(type(error), error, traceback_of(error)))


def failed_by(link: BatchedJob, failure: Failure) -> Callable[[], None]:
    """Return the log line of a final failure that no exception of the job has caused."""
    return _line(logger.error, "%s failed: job %d of batch %s. %s", link, failure.message)


def retried(link: BatchedJob, error: BaseException) -> Callable[[], None]:
    """Return the log line of a further attempt. It does not keep the exception alive."""
    # The text is made here, since the exception may raise when the log asks for it.
    text = "%s gets another attempt: job %d of batch %s. It raised %s"
    return _line(logger.info, text, link, error_text.summary(error))


def ids_of(subject: BatchedJob | JobBatch) -> dict[str, str]:
    """Return the ids of a link or a batch, for the attributes of a log record."""
    if isinstance(subject, JobBatch):
        return {"batch_id": str(subject.pk)}
    return {"batch_id": str(subject.batch_id), "job_id": str(subject.pk)}


def _line(
    log: Callable[..., None], text: str, link: BatchedJob, *args: object, **options: object
) -> Callable[[], None]:
    extra = ids_of(link)
    line = partial(log, text, link.func, link.pk, link.batch_id, *args, extra=extra, **options)
    unwritten = [line]

    def write() -> None:
        # The line is forgotten with its exception, whose frames lead back to the settlement that
        # has this function. The garbage collection would take longer for such circles than the rest.
        while unwritten:
            unwritten.pop()()

    return write


def _own_traceback(error: BaseException) -> TracebackType | None:
    """Return the traceback from the first frame of the job's own code."""
    trace = traceback_of(error)
    while trace is not None and trace.tb_next is not None:
        module = str(trace.tb_frame.f_globals.get("__name__", ""))
        if not module.startswith(_OUR_FRAMES):
            break
        trace = trace.tb_next
    return trace
