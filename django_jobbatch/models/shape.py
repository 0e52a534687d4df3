"""The shape of the JSON columns of a batch row, which other programs may have written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from django_jobbatch import error_text, tuning
from django_jobbatch.logs import get_logger
from django_jobbatch.states import CALLBACKS
from django_jobbatch.text import short_repr

if TYPE_CHECKING:
    from django_jobbatch.models.batch import JobBatch

logger = get_logger(__name__)

#: The types of the values of one entry of `callbacks`.
_ENTRY: Final = {"role": str, "queue": str, "payload": str, "options": dict}


def shape_error(batch: JobBatch) -> str:
    """Return which JSON column of the batch has a wrong shape, or an empty string."""
    if not _is_list_of_texts(batch.queues):
        return f"its queues are no list of names: {_short(batch.queues)}"
    if not isinstance(batch.callbacks, list) or not all(map(_is_callback, batch.callbacks)):
        return f"its callbacks are no list of registered calls: {_short(batch.callbacks)}"
    if not isinstance(batch.options, dict):
        return f"its options are no object: {_short(batch.options)}"
    if not isinstance(batch.retry_cursor, dict | None):
        return f"its retry_cursor is no object: {_short(batch.retry_cursor)}"
    return ""


def readable_queues(batch: JobBatch) -> list[str]:
    """Return the queues of the batch, without entries that are no names."""
    queues = batch.queues if isinstance(batch.queues, list) else []
    return [each for each in queues if isinstance(each, str)]


def readable_callbacks(batch: JobBatch) -> list[tuple[int, dict[str, Any]]]:
    """Return the registered callbacks with their positions, without entries that are none."""
    entries = batch.callbacks if isinstance(batch.callbacks, list) else []
    return [(position, each) for position, each in enumerate(entries) if _is_callback(each)]


def report_unreadable(batch_id: object, reason: object) -> None:
    """Log a batch that cannot be read. The others are treated without it."""
    logger.error(
        "Batch %s is unreadable, so it is left out: %s. Correct or delete its rows.",
        batch_id,
        reason_text(reason),
        extra={"batch_id": str(batch_id)},
    )


def report_unreadable_row(pk: object, error: Exception) -> None:
    """Log a row of a page that cannot be read; the page has the others."""
    logger.error(
        "Row %s is unreadable, so a list leaves it out: %s. Correct or delete it.",
        pk,
        reason_text(error),
    )


def reason_text(reason: object) -> str:
    """Return the error of a row, or the sentence about its shape, without a full stop."""
    text = error_text.summary(reason) if isinstance(reason, Exception) else str(reason)
    return text.rstrip(".")


def report_unreadable_link(pk: object, error: Exception) -> None:
    """Log a due link that cannot be read. Tickets run the others."""
    logger.error(
        "Job %s is unreadable, so no ticket can run it: %s. Correct or delete its row.", pk, error
    )


def _is_list_of_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_callback(entry: object) -> bool:
    return (
        isinstance(entry, Mapping)
        and all(isinstance(entry.get(key), type_) for key, type_ in _ENTRY.items())
        and entry["role"] in CALLBACKS
    )


def _short(value: object) -> str:
    return short_repr(value, tuning.MAX_VALUE_SHOWN)
