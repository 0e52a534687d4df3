"""A connection whose transaction was open before a call, and belongs to the caller."""

from __future__ import annotations

from django.db import Error
from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch import db
from django_jobbatch.connection_state.drivers import DriverState, driver_state
from django_jobbatch.connection_state.reset import ATOMIC_BLOCK
from django_jobbatch.exceptions import JobBatchError, TransactionBroken, TransactionLeftOpen

_WITH_ATOMIC = "Write `with transaction.atomic():`."
_OWN_BLOCK = "Put a statement that may fail into an atomic block of its own, and catch its error outside of that block."
_NOT_YOURS = "Only the code that opened a transaction may end it, or close its connection."


class HeldTransaction:
    """The open transaction of one connection, as it was before a call.

    A savepoint protects the transaction of the caller: a spoiled one is rolled back to it. A
    transaction of this package needs no savepoint, because an error rolls all of it back. Only on
    MariaDB it has one, whose absence proves that the transaction has ended. Elsewhere drivers know.
    """

    def __init__(self, connection: BaseDatabaseWrapper, *, is_own: bool) -> None:
        self.connection = connection
        self._raw = connection.connection
        self._blocks = list(connection.atomic_blocks)
        self._savepoints = list(connection.savepoint_ids)
        self._hooks = list(connection.run_on_commit)
        self._was_broken = connection.needs_rollback
        self._was_open = driver_state(connection) == DriverState.OPEN
        self._savepoint = None
        if not self._was_broken and (not is_own or connection.vendor == "mysql"):
            self._savepoint = connection.savepoint()

    def restore(self, *, raised: bool, used: bool, ended: bool) -> JobBatchError | None:
        """Restore the transaction after the call; return an error if the call did not leave it as it was.

        `raised` says that the call raised, `used` that it sent a statement, and `ended` that a
        statement was one that ends the transaction.
        """
        if self._was_broken:
            return None
        error = self._find_error(raised=raised, used=used, ended=ended)
        if error is None and not self._is_spoiled():
            return self._release()
        self._unwind()
        return error

    def _find_error(self, *, raised: bool, used: bool, ended: bool) -> JobBatchError | None:
        connection, state = self.connection, driver_state(self.connection)
        name = f"database {connection.alias!r}"
        if connection.closed_in_transaction or connection.connection is not self._raw:
            return TransactionBroken(
                f"The connection to {name} was closed in the middle of a transaction, which is lost."
                f" {_NOT_YOURS}"
            )
        if state == DriverState.UNUSABLE:
            return None  # a lost connection is no error of the call
        has_ended = ended or (state == DriverState.IDLE and (self._was_open or used))
        if connection.vendor == "mysql":
            has_ended = ended  # its driver does not know
        if has_ended or not self._has_blocks():
            return TransactionBroken(
                f"The transaction on {name} was committed or rolled back too early. {_NOT_YOURS}"
            )
        if connection.savepoint_ids != self._savepoints:
            return TransactionLeftOpen(
                f"{ATOMIC_BLOCK} on the connection to {name}. {_WITH_ATOMIC}"
            )
        if self._is_spoiled() and not raised:
            return TransactionBroken(
                f"An error in the transaction on {name} was caught, and nothing of it can be"
                f" committed. {_OWN_BLOCK}"
            )
        return None

    def _has_blocks(self) -> bool:
        """Return whether the atomic blocks of the caller are still entered."""
        connection, depth = self.connection, len(self._blocks)
        return connection.in_atomic_block and connection.atomic_blocks[:depth] == self._blocks

    def _is_spoiled(self) -> bool:
        """Return whether the transaction accepts no further statement."""
        if self.connection.needs_rollback:
            return True
        return driver_state(self.connection) == DriverState.FAILED

    def _release(self) -> JobBatchError | None:
        if self._savepoint is None:
            return None
        try:
            self.connection.savepoint_commit(self._savepoint)
        except Error as error:
            if db.is_transient(error, self.connection.alias):
                return None  # the settlement meets it too, and knows what to do
            self._unwind()
            return TransactionBroken(
                f"The transaction on database {self.connection.alias!r} was committed or rolled back"
                f" too early: by a statement, or by a deadlock whose error was caught. {_NOT_YOURS}"
            )
        return None

    def _unwind(self) -> None:
        """Restore Django's view of the transaction, and roll back to the savepoint.

        Without one, the caller must roll back.
        """
        connection = self.connection
        if not connection.in_atomic_block:
            return  # the caller's own block finds out at its end
        connection.savepoint_ids = list(self._savepoints)
        connection.atomic_blocks = list(self._blocks)
        connection.run_on_commit = list(self._hooks)
        if connection.closed_in_transaction:
            return
        if self._savepoint is None:
            connection.needs_rollback = True
            return
        connection.needs_rollback = False
        try:
            connection.savepoint_rollback(self._savepoint)
            connection.savepoint_commit(self._savepoint)
        except Error:
            connection.needs_rollback = True
