"""The time limit of one call. A timer that was set before keeps its time."""

from __future__ import annotations

import _signal  # type: ignore[import-not-found]  # the part of `signal` that is in C
import ctypes
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

from django_jobbatch.exceptions import JobTimeout
from django_jobbatch.functions import coroutines
from django_jobbatch.runner import timed_calls

if TYPE_CHECKING:
    from django_jobbatch.models import BatchedJob

#: `signal.signal` without its search for the name of the previous handler, which takes ten times as
#: long as the call.
_set_handler: Final[Any] = _signal.signal
_DEFAULT: Final = int(signal.SIG_DFL)


def time_limit(seconds: int, link: BatchedJob | None = None) -> AbstractContextManager[None]:
    """Raise `JobTimeout` inside the block after `seconds`; -1 is no limit.

    The main thread uses SIGALRM, which also interrupts a blocking call. Another thread is
    interrupted between two bytecodes, so a blocking call returns first. A coroutine is cancelled,
    and raises `JobTimeout` when it has ended.

    `link` is the link that the block calls. The watchdog of the session settles it if the block
    ignores the timeout.
    """
    if seconds < 0:
        return nullcontext()
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _Alarm(seconds, link)
    return _injection(seconds, link)


class _Alarm:
    """SIGALRM for the block. An earlier alarm pauses and continues afterwards."""

    # Fast jobs spend much of their time here.
    __slots__ = (
        "_call",
        "_has_ended",
        "_link",
        "_previous_handler",
        "_previous_seconds",
        "_seconds",
        "_started_at",
    )

    def __init__(self, seconds: int, link: BatchedJob | None) -> None:
        self._seconds = seconds
        self._link = link
        self._has_ended = False

    def __enter__(self) -> None:
        self._started_at = time.monotonic()
        self._call = timed_calls.start(self._seconds, self._link)
        # None is a handler that Python does not know.
        self._previous_handler = _set_handler(signal.SIGALRM, self._expire) or _DEFAULT
        self._previous_seconds, _ = signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *exc_info: object) -> None:
        # A signal from here on is too late: it would leave the timers and the handlers as they are.
        self._has_ended = True
        timed_calls.end(self._call)
        remaining, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        handler = _set_handler(signal.SIGALRM, self._previous_handler)
        if handler != self._expire:
            # Other code took the alarm over, as RQ does at a shutdown, and keeps it.
            _set_handler(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, remaining)
        elif self._previous_seconds:
            remaining = self._previous_seconds - (time.monotonic() - self._started_at)
            signal.setitimer(signal.ITIMER_REAL, max(remaining, 0.001))

    def _expire(self, signum: int, frame: FrameType | None) -> None:
        if self._has_ended:
            return
        error = _timeout(self._seconds)
        if not coroutines.cancel_in(threading.get_ident(), frame, error):
            raise error


@contextmanager
def _injection(seconds: int, link: BatchedJob | None) -> Iterator[None]:
    thread = threading.get_ident()
    guard = threading.Lock()
    finished = False

    def expire() -> None:
        with guard:
            frame = sys._current_frames().get(thread)  # noqa: SLF001 - there is no public function
            if not finished and not coroutines.cancel_in(thread, frame, _timeout(seconds)):
                ctypes.pythonapi.PyThreadState_SetAsyncExc(
                    ctypes.c_ulong(thread), ctypes.py_object(JobTimeout)
                )

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    call = timed_calls.start(seconds, link)
    try:
        yield
    finally:
        with guard:
            finished = True
        timed_calls.end(call)
        timer.cancel()


def _timeout(seconds: int) -> JobTimeout:
    return JobTimeout(f"The job ran longer than its timeout of {seconds} seconds.")
