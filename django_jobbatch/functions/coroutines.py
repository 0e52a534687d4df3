"""Calls of asynchronous functions, and their cancellation at a timeout."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from asgiref.sync import async_to_sync

from django_jobbatch import tuning
from django_jobbatch.logs import get_logger

logger = get_logger(__name__)


def run(make: Callable[[], Awaitable[Any]]) -> Any:
    """Await the coroutine of `make` in an event loop of its own, and return its result.

    The loop runs in another thread. This thread waits, and runs the functions that the coroutine
    passes to `sync_to_async`. If this thread is interrupted, the coroutine is cancelled first.
    """
    return CoroutineCall(make).run()


def cancel_in(thread: int, frame: FrameType | None, error: Exception) -> bool:
    """Cancel the coroutine that this thread waits for; it raises `error` then.

    False if the thread runs code of its own, which can be interrupted directly: there is no
    coroutine, or the coroutine itself waits for a function that it passed to `sync_to_async`.
    `frame` is the innermost frame of the thread.
    """
    call = _calls.get(thread)
    if call is None or _runs_function(frame):
        return False
    return call.cancel(error)


#: By the ids of the threads that wait for them.
_calls: dict[int, CoroutineCall] = {}


class CoroutineCall:
    """One coroutine, and the thread that waits for it."""

    def __init__(self, make: Callable[[], Awaitable[Any]]) -> None:
        self._make = make
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[Any] | None = None
        self._is_cancelled = False
        self._error: Exception | None = None
        self._ended = threading.Event()

    def run(self) -> Any:
        with self._registered():
            try:
                return async_to_sync(self._await)()
            except BaseException:
                if self.cancel():
                    self._wait()
                raise

    def cancel(self, error: Exception | None = None) -> bool:
        """Cancel the coroutine, which raises `error` then; False if it does not run at present."""
        # Read by the coroutine, if it starts only after this.
        self._is_cancelled, self._error = True, error
        if self._loop is None or self._task is None or self._ended.is_set():
            return False
        try:
            self._loop.call_soon_threadsafe(self._task.cancel)
        except RuntimeError:  # the loop is closed: the coroutine has just ended
            return False
        return True

    async def _await(self) -> Any:
        self._task = asyncio.current_task()
        self._loop = asyncio.get_running_loop()
        try:
            self._check()
            return await self._make()
        except asyncio.CancelledError as cancelled:
            if self._error is None:
                raise
            # The traceback says what the coroutine waited for.
            raise self._error.with_traceback(cancelled.__traceback__) from None
        finally:
            self._ended.set()

    def _check(self) -> None:
        """Raise if the cancellation came before the coroutine started."""
        if self._is_cancelled:
            raise asyncio.CancelledError

    def _wait(self) -> None:
        """Wait for the end of a coroutine after an interruption of the thread that runs it."""
        if not self._ended.wait(tuning.COROUTINE_CANCEL_SECONDS):
            logger.warning(
                "A coroutine still runs %g seconds after its cancellation",
                tuning.COROUTINE_CANCEL_SECONDS,
            )

    @contextmanager
    def _registered(self) -> Iterator[None]:
        thread = threading.get_ident()
        enclosing = _calls.get(thread)
        _calls[thread] = self
        try:
            yield
        finally:
            if enclosing is None:
                del _calls[thread]
            else:
                _calls[thread] = enclosing


def _runs_function(frame: FrameType | None) -> bool:
    """Return whether the thread runs a function that its coroutine passed to `sync_to_async`."""
    while frame is not None and frame.f_code is not CoroutineCall.run.__code__:
        if frame.f_globals.get("__name__") == "asgiref.current_thread_executor":
            return frame.f_code.co_name == "run"  # else the thread waits for the next function
        frame = frame.f_back
    return False
