"""The ledger against a plain model of its rules: any order of events, the same numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from django.db import transaction
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from django_jobbatch import ledger, tuning
from django_jobbatch.exceptions import BatchBusy, BatchCancelled, BatchFinished
from django_jobbatch.ledger import Settlement
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.states import CALLBACK_LANE, CALLBACKS, OPEN, Role
from tests.factories import JobBatchFactory, link_row
from tests.ledger.helpers import (
    ALIAS,
    BROKE,
    CANCELLED,
    FAILED,
    PENDING,
    RUNNING,
    SUCCEEDED,
    claim,
    claimant,
    failure,
    reopen,
    report_failures,
    success,
)
from tests.ledger.machines import run
from tests.tuning import Tuning

ENDS = st.sampled_from(["success", "failure", "retry", "back"])
TICKETS = st.sampled_from(["one", "two", "three"])


class LedgerMachine(RuleBasedStateMachine):
    """One batch, three tickets, and a dictionary that says how each job stands."""

    batch: JobBatch

    @initialize(jobs=st.integers(1, 5), allow_failures=st.booleans())
    def dispatch(self, *, jobs: int, allow_failures: bool) -> None:
        self.batch = JobBatchFactory.create(
            jobs=jobs, allow_failures=allow_failures, roles=CALLBACKS
        )
        self.allow_failures = allow_failures
        self.jobs: dict[int, str] = dict.fromkeys(self._pks(), PENDING)
        self.run = 1
        self.stopped_by = ""
        self.finished = False
        self.held: list[BatchedJob] = []
        self.callback: BatchedJob | None = None
        self.sent: list[Settlement] = []
        self.ran: list[tuple[int, str]] = []
        self.losses: Counter[int] = Counter()

    # Events

    @rule(ticket=TICKETS, limit=st.integers(1, 3))
    def take(self, ticket: str, limit: int) -> None:
        taken = claim(self.batch, limit, ticket)
        expected = [pk for pk, status in self.jobs.items() if status == PENDING][:limit]
        if self._callbacks_of_earlier_runs() or self.stopped_by:
            expected = []
        apart = [number for number, pk in enumerate(expected) if self.losses[pk]]
        if apart:
            expected = expected[: apart[0] or 1]
        assert [link.pk for link in taken] == expected
        self.jobs.update(dict.fromkeys(expected, RUNNING))
        self.held += taken

    @precondition(lambda self: self.held)
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(self.held), min_size=1, unique_by=id))
        ends = [data.draw(ENDS) for _ in chosen]
        settlements = [_settlement(link, end) for link, end in zip(chosen, ends, strict=True)]
        self.held = [link for link in self.held if link not in chosen]
        self.sent += settlements

        change = ledger.settle(ALIAS, self.batch.pk, settlements)

        assert change.late == 0
        self._note(settlements)
        assert change.finished == self._finish()

    @rule(ticket=TICKETS)
    def die(self, ticket: str) -> None:
        lost = [link for link in self.held if link.claimed_by == ticket]
        self.held = [link for link in self.held if link.claimed_by != ticket]
        self.sent += [success(link) for link in lost]  # should it have been alive after all

        changes = ledger.rescue_ticket(ALIAS, self.batch.pk, ticket, is_dead=True)

        jobs = len(lost)
        if self.callback is not None and ticket == "one":
            self._lose_callback(self.callback)
            jobs += 1
        assert sum(change.lost for change in changes) == jobs
        self.losses.update(link.pk for link in lost)
        self._note([self._lost(link) for link in lost])
        assert any(change.finished for change in changes) == bool(lost and self._finish())

    @precondition(lambda self: self.sent)
    @rule(data=st.data())
    def deliver_again(self, data: st.DataObject) -> None:
        old = data.draw(st.sampled_from(self.sent))
        change = ledger.settle(ALIAS, self.batch.pk, [old])
        assert (change.late, change.finished, change.settled) == (not old.is_release, False, ())

    @rule()
    def cancel(self) -> None:
        is_open = not self.finished and not self.stopped_by
        assert (ledger.cancel(ALIAS, self.batch.pk) is not None) == is_open
        if is_open:
            self.stopped_by = "cancel"

    @rule(pages=st.integers(1, 3))
    def sweep(self, pages: int) -> None:
        for _, change in zip(range(pages), ledger.sweep(ALIAS, self.batch.pk), strict=False):
            rows = dict(self.batch.jobs.jobs_only().values_list("pk", "status"))
            swept = [pk for pk, status in self.jobs.items() if status != rows[pk]]
            assert {self.jobs[pk] for pk in swept} <= {PENDING}
            assert {rows[pk] for pk in swept} <= {CANCELLED}
            assert change.swept == len(swept)
            self.jobs.update(dict.fromkeys(swept, CANCELLED))
            assert change.finished == (bool(self.stopped_by) and self._finish())

    @rule(include_cancelled=st.booleans())
    def retry(self, *, include_cancelled: bool) -> None:
        back = [pk for pk, status in self.jobs.items() if status in (FAILED, CANCELLED)]
        self._retry(None, back, include_cancelled=include_cancelled)

    @rule(data=st.data())
    def retry_some(self, data: st.DataObject) -> None:
        chosen = data.draw(st.lists(st.sampled_from(sorted(self.jobs)), unique=True))
        back = [pk for pk in chosen if self.jobs[pk] == FAILED]
        left = [pk for pk, status in self.jobs.items() if status == FAILED and pk not in back]
        if back and not left and not self.allow_failures:
            back += [pk for pk, status in self.jobs.items() if status == CANCELLED]
        self._retry(chosen, back, include_cancelled=False)

    @rule()
    def add(self) -> None:
        try:
            with transaction.atomic():
                batch, lane = ledger.lock_for_add(ALIAS, self.batch)
                ledger.insert_links(ALIAS, [link_row(batch, lane)])
                ledger.count_inserted(
                    ALIAS,
                    batch,
                    count=1,
                    due={},
                    queues=["default"],
                    longest_timeout=0,
                    next_event_at=None,
                )
        except (BatchFinished, BatchCancelled):
            assert self.finished or self.stopped_by
        else:
            assert not self.finished
            assert not self.stopped_by
            self.jobs[self._pks()[-1]] = PENDING

    @precondition(lambda self: self.callback is None)
    @rule()
    def take_callback(self) -> None:
        self.callback = ledger.claim_callback(claimant(self.batch))

    @precondition(lambda self: self.callback is not None)
    @rule(end=ENDS)
    def settle_callback(self, end: str) -> None:
        link, self.callback = self.callback, None
        assert link is not None
        if link.role == Role.EACH_FAILURE:
            report_failures(self.batch)
        change = ledger.settle_callback(ALIAS, _settlement(link, end))
        assert change.late == 0
        if end in ("success", "failure") and link.role in CALLBACK_LANE:
            self.ran.append((link.run, link.role))

    # Invariants

    @invariant()
    def rows_are_as_the_model_says(self) -> None:
        if not hasattr(self, "jobs"):
            return
        rows = self.batch.jobs.jobs_only().order_by("pk").values_list("pk", "status")
        assert dict(rows) == self.jobs

    @invariant()
    def counters_are_those_of_the_rows(self) -> None:
        if not hasattr(self, "jobs"):
            return
        batch = JobBatch.objects.get(pk=self.batch.pk)
        count = Counter(self.jobs.values())
        assert (
            batch.total_jobs,
            batch.pending_jobs,
            batch.succeeded_jobs,
            batch.failed_jobs,
            batch.cancelled_jobs,
            batch.skipped_jobs,
        ) == (
            len(self.jobs),
            count[PENDING] + count[RUNNING],
            count[SUCCEEDED],
            count[FAILED],
            count[CANCELLED],
            0,
        )
        assert batch.run == self.run
        assert batch.is_finished == self.finished
        assert batch.outcome == (self._outcome() if self.finished else "")
        assert (batch.status in OPEN) == (not self.finished and not self.stopped_by)

    @invariant()
    def it_is_at_rest_when_nothing_is_left_to_do(self) -> None:
        if not hasattr(self, "jobs"):
            return
        is_over = self.finished and self._callbacks_are_done()
        reported = not self.batch.failures.unreported().exists()
        assert JobBatch.objects.get(pk=self.batch.pk).at_rest == (is_over and reported)

    @invariant()
    def callbacks_fire_at_most_once_in_their_order(self) -> None:
        if not hasattr(self, "jobs"):
            return
        links = self.batch.jobs.callback_lane()
        assert max(Counter(links.values_list("run", "role")).values(), default=0) <= 1
        assert links.filter(status__in=(PENDING, RUNNING)).count() <= 1
        order = [(run, CALLBACK_LANE.index(Role(role))) for run, role in self.ran]
        assert order == sorted(order)

    def teardown(self) -> None:
        """Bring everything to its end: `finally` has then fired once in every run."""
        if not hasattr(self, "jobs"):
            return
        while not (self.finished and self._callbacks_are_done()):
            self.sweep(pages=10)
            self.take("one", 3)
            while self.held:
                settlement = success(self.held.pop())
                ledger.settle(ALIAS, self.batch.pk, [settlement])
                self._note([settlement])
                self._finish()
            self.take_callback() if self.callback is None else None
            self.settle_callback("success") if self.callback is not None else None
        self.rows_are_as_the_model_says()
        self.counters_are_those_of_the_rows()
        self.callbacks_fire_at_most_once_in_their_order()
        ran = Counter(self.ran)
        assert {run: ran[run, Role.FINALLY] for run in range(1, self.run + 1)} == dict.fromkeys(
            range(1, self.run + 1), 1
        )
        assert not self.batch.failures.unreported().exists()

    # The model

    def _pks(self) -> list[int]:
        return list(self.batch.jobs.jobs_only().order_by("pk").values_list("pk", flat=True))

    def _note(self, settlements: list[Settlement]) -> None:
        for each in settlements:
            back = PENDING if not self.stopped_by else CANCELLED
            self.jobs[each.link.pk] = back if each.status == PENDING else each.status
        failed = any(each.status == FAILED for each in settlements)
        if failed and not self.allow_failures and not self.stopped_by:
            self.stopped_by = "failure"

    def _lost(self, link: BatchedJob) -> Settlement:
        fails = self.losses[link.pk] >= tuning.MAX_LOSSES and not self.stopped_by
        return Settlement.lost(link, BROKE if fails else None)

    def _lose_callback(self, link: BatchedJob) -> None:
        self.callback = None
        self.losses[link.pk] += 1
        if self.losses[link.pk] >= tuning.MAX_LOSSES and link.role in CALLBACK_LANE:
            self.ran.append((link.run, link.role))

    def _finish(self) -> bool:
        """Whether the batch finishes now, and note it."""
        before = self.finished
        self.finished = not {PENDING, RUNNING} & set(self.jobs.values())
        if self.finished and self.stopped_by == "failure":
            self.stopped_by = ""
        return self.finished and not before

    def _outcome(self) -> str:
        if self.stopped_by == "cancel":
            return "cancelled"
        if set(self.jobs.values()) <= {SUCCEEDED}:
            return "succeeded"
        return "partial" if self.allow_failures else "failed"

    def _retry(self, chosen: list[int] | None, back: list[int], *, include_cancelled: bool) -> None:
        stopping = self.stopped_by and not self.finished
        rejected = self.finished and self.stopped_by == "cancel" and not include_cancelled
        try:
            changes = reopen(self.batch, chosen, include_cancelled=include_cancelled)
        except BatchBusy:
            assert stopping
        except BatchCancelled:
            assert rejected
        else:
            assert not stopping
            assert not rejected
            assert sum(change.reset_count for change in changes) == len(back)
            assert sum(change.rerun_jobs for change in changes) == len(back)
            self._reset(back)

    def _reset(self, back: list[int]) -> None:
        self.jobs.update(dict.fromkeys(back, PENDING))
        self.losses -= Counter(dict.fromkeys(back, tuning.MAX_LOSSES))
        if back and self.finished:
            self.finished, self.stopped_by = False, ""
            self.run += 1

    def _callbacks_of_earlier_runs(self) -> bool:
        lane = self.batch.jobs.callback_lane()
        return lane.filter(run__lt=self.run).unsettled().exists()

    def _callbacks_are_done(self) -> bool:
        return not self.batch.jobs.exclude(role=Role.JOB).unsettled().exists()


def _settlement(link: BatchedJob, end: str) -> Settlement:
    made: dict[str, Any] = {
        "success": success,
        "failure": failure,
        "retry": lambda link: Settlement(link=link, status=PENDING),
        "back": Settlement.released,
    }
    settlement: Settlement = made[end](link)
    return settlement


@pytest.mark.slow
@pytest.mark.django_db
@pytest.mark.parametrize("page", [1, 2, 5000], ids=["1", "2", "5000"])
def test_the_ledger_is_as_its_model(page: int, tuning: Tuning) -> None:
    tuning(LINKS_CHUNK=page, KEYS_CHUNK=page)
    run(LedgerMachine, quick=20, full=60, steps=30)
