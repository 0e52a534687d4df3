"""The watchdog: a thread that ends calls which ignore their timeouts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from django_jobbatch import transport, tuning
from django_jobbatch.exceptions import JobTimeout
from django_jobbatch.logs import get_logger
from django_jobbatch.runner import ignored_timeout, timed_calls
from django_jobbatch.runner.heartbeat import ExpiredCall
from django_jobbatch.runner.heartbeats import Heartbeats, ticking
from django_jobbatch.runner.timed_calls import TimedCall

logger = get_logger(__name__)

#: The exit code of a work-horse that ends itself: an error within the software.
EXIT_CODE: Final = 70

#: Starts the settlement of a call by the heartbeat; None if the call does not run any more.
Expire = Callable[[TimedCall, JobTimeout], ExpiredCall | None]


class Watchdog:
    """Watches the calls of one thread. It needs neither the database nor Redis.

    A job may hold locks in the database or in the process. So the heartbeat does all that could wait
    for them, and the watchdog waits for the heartbeat with a limit.
    """

    def __init__(self, expire: Expire) -> None:
        self._expire = expire
        self._thread = threading.get_ident()
        self._stopped = threading.Event()
        self._suspect: TimedCall | None = None

    def run(self) -> None:
        """Check the running call until `stop`."""
        while not self._stopped.wait(tuning.HEARTBEAT_SECONDS):
            try:
                self._check()
            except Exception:
                logger.exception("The watchdog raised")

    def stop(self) -> None:
        """End `run`."""
        self._stopped.set()

    def _check(self) -> None:
        call = timed_calls.running_in(self._thread)
        if call is None or call.is_expired or not call.ignores_timeout:
            self._suspect = None
        elif call is not self._suspect:
            # The signal may just arrive, for example if the process was stopped for a while.
            self._suspect = call
        else:
            self._end(call)

    def _end(self, call: TimedCall) -> None:
        """Have the call settled; end the process if it is a work-horse."""
        call.is_expired = True
        is_work_horse = transport.is_work_horse(self._thread)
        error = ignored_timeout.error_in(self._thread, call.seconds, is_work_horse=is_work_horse)
        expired = self._expire(call, error)
        if expired is None:
            timed_calls.forget(self._thread, call)
        elif is_work_horse:
            timed_calls.postpone(call, tuning.LAST_SETTLE_SECONDS)
            if expired.settled.wait(tuning.LAST_SETTLE_SECONDS):
                timed_calls.publish_settled()
            else:
                # The worker settles the call, once the locks of this process are free.
                timed_calls.postpone(call, -tuning.WATCHDOG_SECONDS)
            os._exit(EXIT_CODE)


@contextmanager
def watching(watchdog: Watchdog, heartbeats: Heartbeats) -> Iterator[None]:
    """Run the watchdog and the heartbeats in threads of their own during the block."""
    thread = threading.Thread(target=watchdog.run, name="jobbatch-watchdog", daemon=True)
    with ticking(heartbeats):  # for which the watchdog may wait
        thread.start()
        try:
            yield
        finally:
            watchdog.stop()
            thread.join()
