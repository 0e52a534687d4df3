"""Callbacks of a batch and their states."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from django.utils.translation import pgettext_lazy

from django_jobbatch import payload, tuning
from django_jobbatch.db import read_rows
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.models.shape import readable_callbacks, report_unreadable_row
from django_jobbatch.states import LinkStatus, Role

NOT_REACHED: Final = "not_reached"
NOT_CALLED: Final = "not_called"
_LABELS: Final = {
    NOT_REACHED: pgettext_lazy("callback", "Not reached"),
    NOT_CALLED: pgettext_lazy("callback", "Not called"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CallbackState:
    """One callback in one run of its batch.

    Attributes:
        state: Status of the callback's link. Without a link: `not_called` if the run is finished,
            else `not_reached`.
        link: Link of the callback; None until the callback is scheduled.
        failure: Final failure of the callback, if any.
    """

    role: Role
    path: str
    run: int
    state: str
    link: BatchedJob | None = None
    failure: FailedJob | None = None

    @property
    def label(self) -> str:
        """State of the callback, in the current language."""
        return str(_LABELS.get(self.state) or LinkStatus(self.state).label)


def callback_states(batch: JobBatch) -> list[CallbackState]:
    """Return the callbacks of the current run in order, then the remaining ones of earlier runs.

    A callback of an earlier run remains if it has not succeeded. Takes at most three queries, and
    none without callbacks.
    """
    if not batch.callbacks:
        return []
    links = _links(batch)
    failures = _failures(batch, links)
    states = []
    for position, entry in readable_callbacks(batch):
        link = next((link for link in links if _matches(link, entry, position, batch.run)), None)
        states.append(_state_in_run(batch, entry, link, failures))
    current = {state.link.pk for state in states if state.link}
    remaining = [
        link for link in links if link.pk not in current and link.status != LinkStatus.SUCCEEDED
    ]
    return states + [_state_of_link(link, failures) for link in remaining]


def _links(batch: JobBatch) -> list[BatchedJob]:
    """Return the callback links of the batch, the newest first."""
    lane = batch.jobs.callback_lane().order_by("-run", "-position")
    reports = batch.jobs.filter(role=Role.EACH_FAILURE).order_by("-run", "-lane", "-position")
    return [
        link
        for links in (lane, reports)
        for link in read_rows(links[: tuning.MAX_CALLBACKS_READ], report_unreadable_row).rows
    ]


def _failures(batch: JobBatch, links: Iterable[BatchedJob]) -> dict[int, FailedJob]:
    failed = [link.pk for link in links if link.status == LinkStatus.FAILED]
    if not failed:
        return {}
    failures = FailedJob.objects.through(batch).filter(job_id__in=failed).oldest_first()
    rows = read_rows(failures, report_unreadable_row).rows
    return {failure.job_id: failure for failure in rows}


def _matches(link: BatchedJob, entry: dict[str, Any], position: int, run: int) -> bool:
    # A link of the callback lane has the position of its entry. One link calls all `each_failure`.
    if link.run != run or link.role != entry["role"]:
        return False
    return link.role == Role.EACH_FAILURE or link.position == position


def _state_in_run(
    batch: JobBatch,
    entry: dict[str, Any],
    link: BatchedJob | None,
    failures: dict[int, FailedJob],
) -> CallbackState:
    state_without_link = NOT_CALLED if batch.is_finished else NOT_REACHED
    return CallbackState(
        role=Role(entry["role"]),
        path=payload.unverified_path(entry["payload"]),
        run=batch.run,
        state=link.status if link else state_without_link,
        link=link,
        failure=failures.get(link.pk) if link else None,
    )


def _state_of_link(link: BatchedJob, failures: dict[int, FailedJob]) -> CallbackState:
    return CallbackState(
        role=Role(link.role),
        path=link.func,
        run=link.run,
        state=link.status,
        link=link,
        failure=failures.get(link.pk),
    )
