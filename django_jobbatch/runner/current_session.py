"""The session of a runner, as the runner knows it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from django_jobbatch import dispatch
from django_jobbatch.ledger import Change
from django_jobbatch.models import BatchedJob
from django_jobbatch.runner.heartbeats import Heartbeats


class CurrentSession(dispatch.CurrentTicket, Protocol):
    """The session, which accepts batches that become due here."""

    heartbeats: Heartbeats

    def start_child(self, link: BatchedJob, *, claims: bool) -> Iterator[Change]:
        """Start the child batch of a stand-in; with `claims`, for this session to run it next."""

    def request_more_tickets(self) -> None:
        """Send tickets for the batches of the session that take long."""
