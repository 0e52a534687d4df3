"""The calls that run under a time limit now, and the one that the parent of a work-horse watches.

Models are not imported here: a worker imports this module before Django is set up.
"""

from __future__ import annotations

import mmap
import struct
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from django_jobbatch import tuning

if TYPE_CHECKING:
    from django_jobbatch.models import BatchedJob


class TimedCall:
    """A call with a time limit. `link` is None for a `progress` callback.

    `grace_ends_at` is a time of `time.monotonic()`, which all processes of a machine share.
    """

    # Each job makes one of these.
    __slots__ = ("grace_ends_at", "is_expired", "link", "seconds")

    def __init__(self, seconds: int, link: BatchedJob | None) -> None:
        self.seconds = seconds
        self.link = link
        self.grace_ends_at = time.monotonic() + seconds + tuning.TIMEOUT_GRACE_SECONDS
        self.is_expired = False

    @property
    def ignores_timeout(self) -> bool:
        """Whether the call still runs TIMEOUT_GRACE_SECONDS after its timeout."""
        return time.monotonic() >= self.grace_ends_at


@dataclass(frozen=True, slots=True, kw_only=True)
class SharedCall:
    """The call of a work-horse as its parent reads it. `link` and `fence` are 0 without a link.

    `grace_ends_at` is negative if the call ignored its timeout and the work-horse has settled it.
    """

    grace_ends_at: float
    link: int
    fence: int
    seconds: int

    @classmethod
    def read(cls) -> Self | None:
        """Return the call that the work-horse runs; None without one."""
        if _shared is None:
            return None
        grace_ends_at, link, fence, seconds = _CALL.unpack_from(_shared, 0)
        if not grace_ends_at:
            return None
        return cls(grace_ends_at=grace_ends_at, link=link, fence=fence, seconds=seconds)

    @property
    def ignores_timeout(self) -> bool:
        """Whether the call runs so long after its timeout that its work-horse cannot end itself."""
        return 0 < self.grace_ends_at <= time.monotonic() - tuning.WATCHDOG_SECONDS

    @property
    def is_settled(self) -> bool:
        """Whether the call ignored its timeout and the work-horse has settled it."""
        return self.grace_ends_at < 0

    @property
    def seconds_over(self) -> float:
        """The seconds since the timeout of the call."""
        return time.monotonic() - self.grace_ends_at + tuning.TIMEOUT_GRACE_SECONDS


_CALL: Final = struct.Struct("dqqq")
_END: Final = struct.Struct("d")

#: By the ids of threads.
_running: dict[int, TimedCall] = {}
#: Memory of a worker and its work-horse, which runs one call at a time; None in other processes.
_shared: mmap.mmap | None = None


def start(seconds: int, link: BatchedJob | None) -> TimedCall | None:
    """Register a call of this thread; None within another call, whose time limit counts."""
    thread = threading.get_ident()
    if thread in _running:
        return None
    call = _running[thread] = TimedCall(seconds, link)
    _publish(call)
    return call


def end(call: TimedCall | None) -> None:
    """Unregister a call that `start` returned."""
    if call is not None:
        forget(threading.get_ident(), call)


def forget(thread: int, call: TimedCall) -> None:
    """Unregister a call of a thread, if it is registered."""
    if _running.get(thread) is call:
        del _running[thread]
        _publish_end(0.0)


def running_in(thread: int) -> TimedCall | None:
    """Return the call that runs in this thread; None without one."""
    return _running.get(thread)


# The memory that a worker shares with its work-horse


def share() -> None:
    """Create the memory that this worker shares with the work-horses that it forks."""
    global _shared
    _shared = mmap.mmap(-1, _CALL.size)


def clear_shared() -> None:
    """Clear the shared memory, before the next work-horse is forked."""
    _publish_end(0.0)


def postpone(call: TimedCall, seconds: float) -> None:
    """Let the worker wait `seconds` from now before it kills this work-horse."""
    call.grace_ends_at = time.monotonic() + seconds
    _publish(call)


def publish_settled() -> None:
    """Let the worker know that this work-horse has settled the call that ignored its timeout."""
    _publish_end(-1.0)


def _publish(call: TimedCall) -> None:
    if _shared is None:
        return
    link = call.link
    pk, fence = (0, 0) if link is None else (link.pk, link.fence)
    _CALL.pack_into(_shared, 0, call.grace_ends_at, pk, fence, call.seconds)


def _publish_end(value: float) -> None:
    if _shared is not None:
        _END.pack_into(_shared, 0, value)
