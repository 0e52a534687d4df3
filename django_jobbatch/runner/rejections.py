"""Settling outcomes that the database may reject: a value too large for it, or a full disk.

A rejected group is settled one by one. An outcome that is rejected alone becomes a failure with the
words of the database. If even that is rejected, the database takes nothing, and is waited for as if
it were lost.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Final

from django.db import Error, connections

from django_jobbatch import db, error_text, ledger, tuning
from django_jobbatch.exceptions import OutcomeRejected
from django_jobbatch.ledger import Change, Claimant, Failure, NextClaim, Settlement
from django_jobbatch.logs import get_logger
from django_jobbatch.runner import failure_log
from django_jobbatch.states import LinkStatus

logger = get_logger(__name__)

#: Errors of a database driver that cannot write a value, beside those of the database.
_DRIVER_ERRORS: Final = (ValueError, OverflowError, MemoryError)

#: MariaDB and MySQL drop the connection over a statement that is too large.
_CONNECTION_LOST: Final = frozenset({1153, 2006, 2013})

#: Bytes that a statement has beside the outcome: keys and names of columns.
_STATEMENT_OVERHEAD: Final = 4096


def settle(
    claimant: Claimant,
    outcomes: Sequence[Settlement],
    *,
    next_claim: NextClaim | None = None,
    seconds: float | None = None,
) -> Iterator[tuple[Sequence[Settlement], Change]]:
    """Settle outcomes in one transaction, or one by one if the database rejects that.

    Yield the settled outcomes with their change, after each commit. The one transaction of all
    outcomes may claim by `next_claim`. A lost database is waited for as long as `seconds`, by default
    RETRY_SECONDS.
    """

    def write(settlements: Sequence[Settlement], **options: Any) -> Change:
        return ledger.settle(claimant.using, claimant.batch_id, settlements, **options)

    writer = _Writer(claimant.using, write, seconds)
    try:
        change = writer.write(outcomes, next_claim=next_claim)
    except (Error, *_DRIVER_ERRORS) as error:
        if not is_rejected(error, claimant.using, outcomes):
            raise
        rejected = error
    else:
        yield outcomes, change
        return
    if len(outcomes) == 1:
        settled, change = writer.write_rejected(outcomes[0], rejected)
        yield [settled], change
        return
    logger.warning(
        "The database rejected %d outcomes of batch %s. They are settled one by one. %s",
        len(outcomes),
        claimant.batch_id,
        error_text.summary(rejected),
        extra={"batch_id": str(claimant.batch_id)},
    )
    for each in outcomes:
        settled, change = writer.write_alone(each)
        yield [settled], change


def settle_callback(
    using: str, settlement: Settlement, *, next_claim: NextClaim | None = None, seconds: float
) -> tuple[Settlement, Change]:
    """Settle a callback; if the database rejects its outcome, it fails with the database's words.

    Return the settled outcome, and the change. The settlement may claim by `next_claim`.
    """

    def write(settlements: Sequence[Settlement], **options: Any) -> Change:
        return ledger.settle_callback(using, settlements[0], **options)

    return _Writer(using, write, seconds).write_alone(settlement, next_claim=next_claim)


def is_rejected(error: Exception, using: str, outcomes: Sequence[Settlement]) -> bool:
    """Return whether the database answered, and does not take these outcomes as they are."""
    if not isinstance(error, Error):
        return isinstance(error, _DRIVER_ERRORS)
    return _packet_size(error, using, outcomes) is not None or not db.is_transient(error, using)


def explained(error: Exception, using: str, settlement: Settlement | None) -> Exception:
    """Return the error, or one that says more if MariaDB dropped the connection over an outcome."""
    if settlement is None or _packet_size(error, using, [settlement]) is None:
        return error
    return _rejection(settlement, error, using)


def _rejection(settlement: Settlement, error: Exception, using: str) -> OutcomeRejected:
    """Return the error of a job whose outcome the database rejected with `error`."""
    words = error_text.first_line(error).rstrip(".")
    if packet := _packet_size(error, using, [settlement]):
        words += f". It accepts max_allowed_packet = {packet:,} bytes"
    outcome = ""
    if settlement.failure is not None:
        raised = settlement.failure
        start = raised.message[: tuning.MAX_ERROR_LOGGED]
        outcome = f" The job had raised {raised.exception_class}: {start}"
    elif settlement.result is not None:
        outcome = f" The result has {len(settlement.result):,} characters as JSON."
    return OutcomeRejected(f"The database rejected the outcome: {words}.{outcome}")


@dataclass(frozen=True, slots=True)
class _Writer:
    """A way to write outcomes to a database, which may be waited for."""

    using: str
    _write: Callable[..., Change]
    seconds: float | None

    def write(
        self, settlements: Sequence[Settlement], *, next_claim: NextClaim | None = None
    ) -> Change:
        """Write outcomes in one transaction, and repeat it while the database is lost."""

        def may_repeat(error: Error, using: str) -> bool:
            return not is_rejected(error, using, settlements)

        return self._write(
            settlements, next_claim=next_claim, seconds=self.seconds, may_repeat=may_repeat
        )

    def write_alone(
        self, settlement: Settlement, *, next_claim: NextClaim | None = None
    ) -> tuple[Settlement, Change]:
        """Write one outcome, or the failure that replaces it; return the one that was written."""
        try:
            return settlement, self.write([settlement], next_claim=next_claim)
        except (Error, *_DRIVER_ERRORS) as error:
            if not is_rejected(error, self.using, [settlement]):
                raise
            return self.write_rejected(settlement, error)

    def write_rejected(self, settlement: Settlement, error: Exception) -> tuple[Settlement, Change]:
        """Write the failure of a rejected outcome; return the outcome that was written.

        If the database takes nothing, the outcome is not to blame: it is tried again too.
        """
        # An earlier commit may have succeeded without an answer.
        original = replace(settlement, maybe_written=True)
        small = _replacement(original, error, self.using)
        candidates = [small]

        def attempt() -> tuple[Settlement, Change]:
            *others, last = candidates
            candidates[:] = [original, small]
            for each in others:
                with suppress(Error, *_DRIVER_ERRORS):
                    return each, self._write([each])
            return last, self._write([last])

        return db.retry_transient(
            self.using, attempt, seconds=self.seconds, may_repeat=lambda error, using: True
        )


def _replacement(settlement: Settlement, error: Exception, using: str) -> Settlement:
    """Return the failure that replaces a rejected outcome. One without a value stays as it is."""
    has_value = settlement.status in (LinkStatus.SUCCEEDED, LinkStatus.FAILED)
    if not (has_value or settlement.available_at is not None):
        return settlement
    failure = Failure.of(_rejection(settlement, error, using))
    write_line = failure_log.failed_by(settlement.link, failure)
    return replace(
        settlement,
        status=LinkStatus.FAILED,
        result=None,
        available_at=None,
        failure=failure,
        log=partial(_log_both, settlement.log, write_line),
    )


def _log_both(first: Callable[[], None] | None, second: Callable[[], None]) -> None:
    if first is not None:
        first()
    second()


def _packet_size(error: Exception, using: str, outcomes: Sequence[Settlement]) -> int | None:
    """Return MariaDB's bound of a statement, if it dropped the connection over these outcomes."""
    number = error.args[0] if error.args else None
    connection = connections[using]
    if connection.vendor != "mysql" or number not in _CONNECTION_LOST or connection.in_atomic_block:
        return None
    connection.close_if_unusable_or_obsolete()
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT @@max_allowed_packet")
            (packet,) = cursor.fetchone()
    except Error:
        return None
    size = sum(_bytes_of(each) for each in outcomes) + _STATEMENT_OVERHEAD
    return int(packet) if size > packet else None


def _bytes_of(settlement: Settlement) -> int:
    """Return about how many bytes an outcome takes in a statement, where a backslash is doubled."""
    texts = [settlement.result or ""]
    if settlement.failure is not None:
        texts += [settlement.failure.message, settlement.failure.traceback, settlement.link.payload]
    escaped = sum(text.count(mark) for text in texts for mark in "'\"\\\n\r")
    return escaped + sum(len(text.encode()) for text in texts)
