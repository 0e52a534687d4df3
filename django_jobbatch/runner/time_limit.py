"""A time limit for one job, which leaves alone whatever timer was there before."""

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
    """Raise `JobTimeout` inside the block once it has run for `seconds`; -1 for no limit.

    In the main thread by SIGALRM, which also interrupts a call that waits. Elsewhere between two
    bytecodes, so a call that waits is interrupted when it returns.
    """
    if seconds < 0:
        return nullcontext()
    if threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        return _Alarm(seconds)
    return _injection(seconds)


class _Alarm:
    """SIGALRM for the block. What was set for it before waits, and goes on afterwards."""

    # Fast jobs spend much of their time here, and each handler that `signal` returns costs most.
    __slots__ = ("_began", "_outer_handler", "_outer_left", "_seconds")

    def __init__(self, seconds: int) -> None:
        self._seconds = seconds

    def __enter__(self) -> None:
        self._began = time.monotonic()
        self._outer_handler = signal.signal(signal.SIGALRM, self._expire) or signal.SIG_DFL
        self._outer_left, _ = signal.setitimer(signal.ITIMER_REAL, self._seconds)

    def __exit__(self, *exc_info: object) -> None:
        left, _ = signal.setitimer(signal.ITIMER_REAL, 0)
        handler = signal.signal(signal.SIGALRM, self._outer_handler)
        if handler != self._expire:
            # Somebody has taken the alarm over (a worker that is shut down), and keeps it.
            signal.signal(signal.SIGALRM, handler)
            signal.setitimer(signal.ITIMER_REAL, left)
        elif self._outer_left:
            left = self._outer_left - (time.monotonic() - self._began)
            signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))

    def _expire(self, signum: int, frame: FrameType | None) -> None:
        raise JobTimeout(f"The job ran longer than its timeout of {self._seconds} seconds.")


@contextmanager
def _injection(seconds: int) -> Iterator[None]:
    thread = ctypes.c_ulong(threading.get_ident())
    guard = threading.Lock()
    over = False

    def expire() -> None:
        with guard:
            if not over:
                ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(JobTimeout))

    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        with guard:
            over = True
        timer.cancel()
