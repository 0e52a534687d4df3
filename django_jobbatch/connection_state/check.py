"""The check that a call leaves no transaction open, and no other setting of a connection."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from django.db.backends.base.base import BaseDatabaseWrapper

from django_jobbatch.connection_state import reset, statements
from django_jobbatch.connection_state.drivers import DriverState, driver_state, is_clean
from django_jobbatch.connection_state.held_transaction import HeldTransaction
from django_jobbatch.exceptions import JobBatchError, TransactionLeftOpen


class _Seen:
    """The statements of a call on one connection that do more than to read or write rows."""

    __slots__ = ("changed", "ended", "may_have_started")

    def __init__(self) -> None:
        self.changed = self.ended = self.may_have_started = False

    def note(self, vendor: str, sql: object) -> None:
        """Note one statement."""
        if statements.changes_session(vendor, sql) and not statements.is_connecting():
            self.changed = True
        if statements.ends_transaction(sql):
            self.ended = True
        if vendor == "mysql" and statements.may_start_transaction(sql):
            self.may_have_started = True


class ConnectionCheck:
    """A block around one call of a function of the project.

    After the block every connection is as it was before. An open transaction is rolled back, and
    `TransactionLeftOpen` or `TransactionBroken` is raised. An exception of the call remains, with a
    note. `own` is the database whose transaction the caller rolls back if the block raises.

    With `close`, connections belong to this package: those with an open transaction are closed, and
    those whose settings a statement has changed.
    """

    # Fast jobs pay for each step here.
    __slots__ = ("_close", "_held", "_known", "_own", "_seen", "enclosing")

    def __init__(self, *, close: bool, own: str | None = None) -> None:
        self._close = close
        self._own = own
        self._held: dict[BaseDatabaseWrapper, HeldTransaction] | None = None
        self._seen: dict[BaseDatabaseWrapper, _Seen] | None = None

    def __enter__(self) -> None:
        # Connections that are opened in the block are added to this list.
        self._known = known = reset.known()
        for connection in known:
            if connection.in_atomic_block:
                self._hold(connection)
        for connection in known:
            connection.execute_wrappers.append(self)
        thread = reset.thread
        self.enclosing: ConnectionCheck | None = thread.check
        thread.check = self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        reset.thread.check = self.enclosing
        found: JobBatchError | None = None
        for connection in self._known:
            wrappers = connection.execute_wrappers
            if wrappers and wrappers[-1] is self:
                wrappers.pop()
            elif self in wrappers:  # the call has left a wrapper of its own
                wrappers.remove(self)
            if self._held is None and self._seen is None and is_clean(connection):
                continue
            found = self._restore(connection, error) or found
        if found is None:
            return
        if error is None:
            raise found
        _add_note(error, str(found))

    def _hold(self, connection: BaseDatabaseWrapper) -> None:
        if self._held is None:
            self._held = {}
        is_own = connection.alias == self._own
        self._held[connection] = HeldTransaction(connection, is_own=is_own)

    def __call__(
        self,
        execute: Callable[..., Any],
        sql: Any,
        params: Any,
        many: bool,  # noqa: FBT001 - the signature of Django's wrappers
        context: dict[str, Any],
    ) -> Any:
        """Note a statement of the call that changes more than rows, and execute it."""
        connection = context["connection"]
        if self._seen is None:
            self._seen = {}
        seen = self._seen.get(connection)
        if seen is None:
            seen = self._seen[connection] = _Seen()
        if not statements.is_common(sql):
            seen.note(connection.vendor, sql)
        return execute(sql, params, many, context)

    def _restore(
        self, connection: BaseDatabaseWrapper, raised: BaseException | None
    ) -> JobBatchError | None:
        held = self._held.get(connection) if self._held else None
        seen = self._seen.get(connection) if self._seen else None
        if held is not None:
            has_ended = seen is not None and seen.ended
            return held.restore(raised=raised is not None, used=seen is not None, ended=has_ended)
        found = None
        if not is_clean(connection) or (
            seen is not None and seen.may_have_started and reset.is_in_transaction(connection)
        ):
            found = self._reset(connection)
        if seen is not None and seen.changed and self._close:
            reset.discard(connection)
        return found

    def _reset(self, connection: BaseDatabaseWrapper) -> JobBatchError | None:
        was_usable = driver_state(connection) != DriverState.UNUSABLE
        problem = reset.describe(connection)
        reset.reset(connection, close=self._close)
        if not was_usable:
            return None  # closed without Django, or lost: the next statement opens another one
        return TransactionLeftOpen(
            f"{problem} on the connection to database {connection.alias!r}. Its writes were rolled"
            " back. Write `with transaction.atomic():`."
        )


def _add_note(error: BaseException, note: str) -> None:
    with suppress(Exception):  # the exception may forbid it
        if note not in getattr(error, "__notes__", ()):
            error.add_note(note)
