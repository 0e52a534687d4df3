"""A time limit for one job, which leaves alone whatever timer was there before."""

from __future__ import annotations

import ctypes
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from django_jobbatch.exceptions import JobTimeout


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raise `JobTimeout` inside the block once it has run for `seconds`; -1 for no limit.

    In the main thread by SIGALRM, which also interrupts a call that waits. Elsewhere between two
    bytecodes, so a call that waits is interrupted when it returns.
    """
    if seconds < 0:
        yield
    elif threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer"):
        with _alarm(seconds):
            yield
    else:
        with _injection(seconds):
            yield


def _message(seconds: int) -> str:
    return f"The job ran longer than its timeout of {seconds} seconds."


@contextmanager
def _alarm(seconds: int) -> Iterator[None]:
    def expire(signum: int, frame: FrameType | None) -> None:
        raise JobTimeout(_message(seconds))

    outer_handler = signal.getsignal(signal.SIGALRM)
    outer_left, _ = signal.getitimer(signal.ITIMER_REAL)
    began = time.monotonic()
    signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        # Somebody who took the alarm over in the meantime (a worker that is shut down) keeps it.
        if signal.getsignal(signal.SIGALRM) is expire:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, outer_handler or signal.SIG_DFL)
            if outer_left:
                left = outer_left - (time.monotonic() - began)
                signal.setitimer(signal.ITIMER_REAL, max(left, 0.001))


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
