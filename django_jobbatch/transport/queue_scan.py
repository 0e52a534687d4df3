"""The tickets in the list of a queue, read in one pass."""

from __future__ import annotations

from typing import Any

from rq import Queue

from django_jobbatch import tuning
from django_jobbatch.transport.redis import redis_errors
from django_jobbatch.transport.tickets import parse_id


class QueueScan:
    """The tickets of all batches in the list of one queue: O(list) once, for any number of batches.

    To ask Redis for the place of each ticket would cost the whole list for each. The pages are read
    from the tail: workers dequeue at the head, and from the tail that moves nothing. A ticket that is
    dequeued during the pass is found anyway. A page overlaps the page before, because a ticket that
    is deleted there moves the others. A ticket that the pass misses all the same costs one more
    ticket.
    """

    def __init__(self, queue: Queue) -> None:
        self._queue = queue
        self._found: set[str] = set()
        self._last: bytes | None = None

    def tickets(self) -> set[str]:
        """Return the ids of the tickets. A later call reads only those that were sent since.

        Raises:
            TransportError: Redis did not answer.
        """
        last, start = self._last, 0
        newest: bytes | None = None
        size = tuning.QUEUE_PAGE if last is None else tuning.QUEUE_OVERLAP
        while True:
            page = self._page(start, size)
            newest = newest or (page[-1] if page else None)
            known = page.index(last) + 1 if last in page else 0
            self._found.update(found for each in page[known:] if (found := parse_id(each)))
            if known or len(page) < size:
                break
            start += max(1, size - tuning.QUEUE_OVERLAP)
            size = tuning.QUEUE_PAGE
        self._last = newest or last
        return self._found

    def _page(self, start: int, size: int) -> list[bytes]:
        with redis_errors():  # each page is a request on its own
            page: Any = self._queue.connection.lrange(
                self._queue.key, -(start + size), -(start + 1)
            )
        return list(page)
