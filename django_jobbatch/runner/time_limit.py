"""The time limit of one job. A timer that was set before keeps its time."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import FrameType

from django_jobbatch.exceptions import JobTimeout


def time_limit(seconds: int) -> AbstractContextManager[None]:
    """Raise `JobTimeout` inside the block after `seconds`; -1 is no limit.

    The main thread uses SIGALRM, which also interrupts a blocking call. Another thread is
    interrupted between two bytecodes, so a blocking call returns first.
    """
    if seconds < 0:
        return nullcontext()
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _Alarm(seconds)
    return _injection(seconds)


class _Alarm:
    """SIGALRM for the block. An earlier alarm pauses and continues afterwards."""

    # Fast jobs spend much of their time here, most of it for handlers that `signal` returns.
    __slots__ = ("_previous_handler", "_previous_seconds", "_seconds", "_started_at")

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._started_at = time.monotonic()
        self._previous_handler = signal.signal(signal.SIGALRM, self._expire) or signal.SIG_DFL
        self._previous_seconds, _ = signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *exc_info: object) -> None:
        remaining, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        handler = signal.signal(signal.SIGALRM, self._previous_handler)
        if handler != self._expire:
            # Other code took the alarm over, as RQ does at a shutdown, and keeps it.
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, remaining)
        elif self._previous_seconds:
            remaining = self._previous_seconds - (time.monotonic() - self._started_at)
            signal.setitimer(signal.ITIMER_REAL, max(remaining, 0.001))

    def _expire(self, signum: int, frame: FrameType | None) -> None:
        raise JobTimeout(f"The job ran longer than its timeout of {self._seconds} seconds.")


@contextmanager
def _injection(seconds: int) -> Iterator[None]:
    thread = ctypes.c_ulong(threading.get_ident())
    guard = threading.Lock()
    finished = False

    def expire() -> None:
        with guard:
            if not finished:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(JobTimeout))

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with guard:
            finished = True
        timer.cancel()
