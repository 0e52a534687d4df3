"""The SQL of the ledger: where each guard stands, what comes first, and how much there is of it."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from django_jobbatch import bus, ledger
from django_jobbatch.ledger import Change, NextClaim, Settlement
from django_jobbatch.ledger.retries.cursor import RetryCursor
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import CALLBACKS, LinkStatus, Role
from tests import jobs
from tests import statements as expected
from tests.databases import claim_of, in_transaction, statements_in
from tests.factories import FailedJobFactory, JobBatchFactory, link_row
from tests.jobs import ADD
from tests.ledger.helpers import (
    ALIAS,
    CANCELLED,
    FAILED,
    PENDING,
    SUCCEEDED,
    claim,
    claim_callback,
    claimant,
    fail,
    failure,
    finish_child,
    pks,
    read,
    reopen,
    settle,
    settled_child,
    start_child,
    store_tree,
    succeed,
    success,
    sweep,
    take_turn,
    take_turn_and_claim,
)
from tests.statements import shapes
from tests.tuning import Tuning

pytestmark = pytest.mark.django_db(transaction=True)

LINK = "django_jobbatch_batchedjob"
BATCH = "django_jobbatch_jobbatch"


class Statements:
    """The statements that a block sent to the database."""

    def __init__(self, capture: CaptureQueriesContext) -> None:
        self.sql = [sql.replace('"', "").replace("`", "") for sql in statements_in(capture)]

    @property
    def shapes(self) -> list[str]:
        """Each statement as its verb and its table; what opens and ends transactions as it is."""
        return [_shape(sql) for sql in self.sql]

    @property
    def count(self) -> int:
        """How many there are, without the `BEGIN` and `COMMIT` of transactions."""
        return sum(not sql.startswith(("BEGIN", "SET", "COMMIT", "ROLLBACK")) for sql in self.sql)

    @property
    def transactions(self) -> list[list[str]]:
        """The statements of each transaction, without its `BEGIN` and `COMMIT`."""
        found: list[list[str]] = []
        for sql in self.sql:
            if sql.startswith("BEGIN"):
                found.append([])
            elif found and not sql.startswith(("COMMIT", "SET")):
                found[-1].append(sql)
        return found


def _shape(sql: str) -> str:
    # On PostgreSQL a COPY inserts many rows.
    sql = re.sub(r"^COPY", "INSERT INTO", sql)
    verb = sql.split()[0]
    remaining = re.sub(r"\([^()]*\)", "", sql)
    while remaining != sql:  # until no statement stands in another
        remaining, sql = re.sub(r"\([^()]*\)", "", remaining), remaining
    table = re.search(r"(?:FROM|INTO|UPDATE) django_jobbatch_(\w+)", sql)
    return f"{verb} {table[1]}" if table else verb


def capture(call: Callable[[], object]) -> Statements:
    with CaptureQueriesContext(connection) as captured:
        call()
    return Statements(captured)


Act = Callable[[], Callable[[], object]]
#: The checked acts by their names, and the functions of the ledger that they call.
ACTS: dict[str, Act] = {}
CHECKED: set[object] = set()
#: A claim, which moves no counter, and what changes neither states nor counters.
WITHOUT_BATCH_ROW: set[str] = set()


def checks(function: object, *, moves: bool = True) -> Callable[[Act], Act]:
    """Register what prepares a call of this function of the ledger, and returns that call."""

    def register(act: Act) -> Act:
        name = act.__name__.removeprefix("act_")
        ACTS[name] = act
        CHECKED.add(function)
        if not moves:
            WITHOUT_BATCH_ROW.add(name)
        return act

    return register


def running(size: int = 3, **named: Any) -> tuple[JobBatch, list[Any]]:
    batch = JobBatchFactory.create(jobs=size, running=True, roles=CALLBACKS, **named)
    return batch, claim(batch)


@checks(ledger.claim, moves=False)
def act_claim() -> Callable[[], object]:
    batch = JobBatchFactory.create(jobs=3)
    return lambda: claim(batch)


@checks(ledger.claim_first)
def act_claim_first() -> Callable[[], object]:
    batch = JobBatchFactory.create(jobs=3, pending=True)
    return lambda: ledger.claim_first(claimant(batch), batch, limit=2)


@checks(ledger.claim_callback, moves=False)
def act_claim_callback() -> Callable[[], object]:
    batch, links = running()
    succeed(batch, links)
    return lambda: ledger.claim_callback(claimant(batch))


@checks(ledger.renew, moves=False)
def act_renew() -> Callable[[], object]:
    batch, links = running()
    return lambda: ledger.renew(claimant(batch), links)


@checks(ledger.settle)
def act_settle_mixed() -> Callable[[], object]:
    batch, links = running(6, allow_failures=True)
    soon = timezone.now() + timedelta(minutes=1)
    settlements = [
        success(links[0], "1"),
        failure(links[1]),
        Settlement(link=links[2], status=PENDING),
        Settlement(link=links[3], status=PENDING, available_at=soon),
        Settlement.released(links[4]),
        Settlement(link=links[5], status=CANCELLED),
    ]
    return lambda: settle(batch, *settlements)


@checks(ledger.settle)
def act_settle_last() -> Callable[[], object]:
    batch, links = running()
    return lambda: succeed(batch, links)


@checks(ledger.settle)
def act_settle_strict_failure() -> Callable[[], object]:
    batch = JobBatchFactory.create(jobs=3, running=True, roles=CALLBACKS)
    links = claim(batch, 1)
    return lambda: fail(batch, links)


@checks(ledger.settle)
def act_settle_late() -> Callable[[], object]:
    batch, links = running(allow_failures=True)
    succeed(batch, links[:1])
    return lambda: succeed(batch, links)


@checks(ledger.settle)
def act_settle_in_stopping_batch() -> Callable[[], object]:
    batch, links = running()
    ledger.cancel(ALIAS, batch.pk)
    return lambda: settle(batch, *(Settlement.released(link) for link in links))


@checks(ledger.settle_within)
def act_settle_within() -> Callable[[], object]:
    batch, links = running()

    def settle_in_own_transaction() -> None:
        with transaction.atomic():
            assert ledger.settle_within(ALIAS, batch.pk, success(links[0]))

    return settle_in_own_transaction


@checks(ledger.settle_callback)
def act_settle_callback() -> Callable[[], object]:
    batch, links = running()
    succeed(batch, links)
    link = claim_callback(batch)
    return lambda: ledger.settle_callback(ALIAS, failure(link))


@checks(ledger.rescue_ticket)
def act_rescue_ticket() -> Callable[[], object]:
    batch, links = running()
    fail(batch, links[:1])
    claim_callback(batch)
    BatchedJob.objects.filter(batch=batch).update(worker_losses=2)
    return lambda: ledger.rescue_ticket(ALIAS, batch.pk, "one", is_dead=True)


@checks(ledger.release_newest_claims)
def act_release_newest_claims() -> Callable[[], object]:
    batch, links = running()
    one = claimant(batch)
    one.claimed_at.extend(link.started_at for link in links if link.started_at is not None)
    return lambda: ledger.release_newest_claims(one, besides=[links[0].pk])


@checks(ledger.repair)
def act_repair() -> Callable[[], object]:
    batch = JobBatchFactory.create(running=True, roles=CALLBACKS)
    FailedJobFactory.create(job__batch=batch)
    return lambda: ledger.repair(ALIAS, batch.pk)


@checks(ledger.cancel)
def act_cancel() -> Callable[[], object]:
    batch, _ = running()
    return lambda: ledger.cancel(ALIAS, batch.pk)


@checks(ledger.sweep)
def act_sweep() -> Callable[[], object]:
    batch = JobBatchFactory.create(jobs=3, roles=CALLBACKS)
    ledger.cancel(ALIAS, batch.pk)
    return lambda: sweep(batch)


@checks(ledger.reopen)
def act_reopen() -> Callable[[], object]:
    batch, links = running(allow_failures=True)
    fail(batch, links)
    return lambda: reopen(batch)


@checks(ledger.continue_reopen)
def act_continue_reopen() -> Callable[[], object]:
    batch, links = running(allow_failures=True)
    fail(batch, links)
    batch.retry_cursor = RetryCursor().advanced_to(0)
    JobBatch.objects.update(retry_cursor=batch.retry_cursor)
    return lambda: list(ledger.continue_reopen(ALIAS, batch, after=0))


@checks(ledger.remaining_chunks)
def act_remaining_chunks() -> Callable[[], object]:
    batch, links = running(allow_failures=True)
    fail(batch, links)
    JobBatch.objects.update(retry_cursor=RetryCursor().advanced_to(-1))
    return lambda: list(ledger.remaining_chunks(ALIAS, Change.of(read(batch))))


@checks(ledger.reopen)
def act_reopen_in_lanes() -> Callable[[], object]:
    batch = store_tree(bus.batch([[ADD, ADD], [ADD, bus.batch([ADD])]]).allow_failures())
    fail(batch, claim(batch))
    return lambda: reopen(batch)


@checks(ledger.reopen)
def act_reopen_some() -> Callable[[], object]:
    batch, links = running(allow_failures=True)
    fail(batch, links)
    return lambda: reopen(batch, pks(batch)[:1])


@checks(ledger.reopen_callbacks)
def act_reopen_callbacks() -> Callable[[], object]:
    batch, links = running()
    succeed(batch, links)
    link = claim_callback(batch)
    ledger.settle_callback(ALIAS, failure(link))
    return lambda: ledger.reopen_callbacks(ALIAS, batch.pk, [link.pk])


@checks(ledger.lock_for_add)
def act_add() -> Callable[[], object]:
    batch, _ = running()

    def add() -> None:
        with transaction.atomic():
            locked, lane = ledger.lock_for_add(ALIAS, batch)
            ledger.insert_links(ALIAS, [link_row(locked, lane)])
            ledger.count_inserted(
                ALIAS, locked, count=1, due={}, queues=[], longest_timeout=0, next_event_at=None
            )

    return add


@checks(ledger.reserve_positions)
def act_reserve_positions() -> Callable[[], object]:
    link = store_tree(bus.chain(ADD, ADD, ADD)).jobs.order_by("pk")[0]

    def extend() -> None:
        with transaction.atomic():
            ledger.reserve_positions(ALIAS, link, 5000, at_end=False)

    return extend


@checks(ledger.settle)
def act_settle_in_lanes() -> Callable[[], object]:
    batch = store_tree(bus.batch([[ADD, ADD.options(delay=60)], [ADD, bus.batch([ADD])]]))
    JobBatch.objects.update(allow_failures=True)
    links = claim(batch)
    return lambda: settle(batch, success(links[0]), failure(links[1]))


@checks(ledger.start_child)
def act_start_child() -> Callable[[], object]:
    (link,) = claim(store_tree(bus.chain(bus.batch([ADD.options(delay=60), ADD]), ADD)))
    return lambda: take_turn(link)


@checks(ledger.start_child)
def act_start_child_with_a_claim() -> Callable[[], object]:
    child = bus.batch([ADD.options(delay=60), ADD, bus.batch([ADD])])
    (link,) = claim(store_tree(bus.chain(child, ADD)))
    return lambda: take_turn_and_claim(link)


@checks(ledger.start_child)
def act_start_child_again() -> Callable[[], object]:
    root = finish_child(store_tree(bus.chain(bus.batch([ADD]), ADD)), failure)
    reopen(root)
    (link,) = claim(root)
    return lambda: take_turn(link)


@checks(ledger.settle_stand_in)
def act_settle_stand_in() -> Callable[[], object]:
    root = store_tree(bus.chain(bus.batch([ADD]), ADD))
    child = start_child(root)
    fail(child, claim(child))
    return lambda: ledger.settle_stand_in(ALIAS, read(child))


@checks(ledger.settle_stand_in)
def act_settle_stand_in_and_claim() -> Callable[[], object]:
    root = store_tree(bus.batch([bus.batch([ADD]), ADD]))
    child, started = settled_child(root)
    request = NextClaim(claimant=claimant(root), limit=1)
    return lambda: ledger.settle_stand_in(ALIAS, child, started=started, next_claim=request)


@checks(ledger.cancel_stand_in)
def act_cancel_stand_in() -> Callable[[], object]:
    root = store_tree(bus.chain(bus.batch([ADD]), ADD))
    (link,) = claim(root, 1)
    return lambda: ledger.cancel_stand_in(ALIAS, link, reason="it cannot be started")


@checks(ledger.stop_children)
def act_stop_children() -> Callable[[], object]:
    root = store_tree(bus.chain(bus.batch([ADD]), ADD))
    child = start_child(root)
    ledger.cancel(ALIAS, root.pk)
    return lambda: ledger.stop_children(ALIAS, [child.pk])


@checks(ledger.reopen)
def act_reopen_child() -> Callable[[], object]:
    root = finish_child(store_tree(bus.chain(bus.batch([ADD]), ADD)), failure)
    return lambda: reopen(root.children[0])


@checks(ledger.delete_batch)
def act_delete_batch() -> Callable[[], object]:
    batch, _ = running()
    return lambda: ledger.delete_batch(ALIAS, batch.pk)


@checks(ledger.delete_batch)
def act_delete_batch_of_parent() -> Callable[[], object]:
    child = start_child(store_tree(bus.chain(bus.batch([ADD]), ADD)))
    return lambda: ledger.delete_batch(ALIAS, child.pk)


@checks(ledger.delete_batch)
def act_delete_batch_in_chunks() -> Callable[[], object]:
    batch = JobBatchFactory.create(jobs=3)

    def remove() -> None:
        with pytest.MonkeyPatch.context() as patch:
            Tuning(patch)(LINKS_CHUNK=2)
            ledger.delete_batch(ALIAS, batch.pk)

    return remove


@checks(ledger.delete_failures)
def act_delete_failures() -> Callable[[], object]:
    failed = FailedJobFactory.create()
    return lambda: ledger.delete_failures(ALIAS, [failed.pk])


@checks(ledger.mark_reported)
def act_mark_reported() -> Callable[[], object]:
    batch, links = running(allow_failures=True)
    fail(batch, links[:1])
    link = ledger.claim_callback(claimant(batch))
    return lambda: ledger.mark_reported(ALIAS, FailedJob.objects.get(), raised_in=link)


@checks(ledger.skip_unreported)
def act_skip_unreported() -> Callable[[], object]:
    batch, links = running(allow_failures=True)
    fail(batch, links[:1])
    link = ledger.claim_callback(claimant(batch))
    assert link is not None
    return lambda: ledger.skip_unreported(link)


@checks(ledger.refresh_next_event)
def act_refresh_next_event() -> Callable[[], object]:
    batch = JobBatchFactory.create(jobs=1, jobs__available_at=timezone.now() + timedelta(minutes=1))
    return lambda: ledger.refresh_next_event(ALIAS, batch)


@checks(ledger.overdue)
def act_overdue() -> Callable[[], object]:
    JobBatchFactory.create(jobs=1, next_event_at=timezone.now() - timedelta(minutes=1))
    return lambda: ledger.overdue(ALIAS)


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_guards_stand_on_the_row_itself(act: Callable[[], Callable[[], object]]) -> None:
    statements = capture(act())

    for sql in statements.sql:
        if not sql.startswith("UPDATE"):
            continue
        where = sql.partition(" WHERE ")[2]
        assert not re.search(r"\b(SELECT|JOIN|LIMIT)\b", sql), sql
        by_key = re.search(r"\b(id|job_id) (=|IN \(\S)", where)
        by_place = re.search(r"\bbatch_id = .*\blane = \d+ .*\bposition > \d+", where)
        state = r"status = " if sql.startswith(f"UPDATE {LINK}") else r"retried_at IS NULL"
        in_range = all(
            re.search(rf"\b{each}", where)
            for each in (r"batch_id = ", state, r"queue = ", r"(?:job_)?id >= \d+")
        )
        assert by_key or by_place or in_range, sql


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_an_update_of_a_state_names_the_states_it_may_leave(
    act: Callable[[], Callable[[], object]],
) -> None:
    for sql in capture(act()).sql:
        if sql.startswith(f"UPDATE {LINK} SET") and re.search(r"SET.* status = .*WHERE", sql):
            assert re.search(r"WHERE.*\bstatus (=|IN)", sql), sql


@pytest.mark.parametrize(
    "act",
    [act for name, act in ACTS.items() if name not in WITHOUT_BATCH_ROW],
    ids=[name for name in ACTS if name not in WITHOUT_BATCH_ROW],
)
def test_a_transaction_that_moves_something_starts_with_its_batch_row(
    act: Callable[[], Callable[[], object]],
) -> None:
    for statements in capture(act()).transactions:
        moves = [sql for sql in statements if re.match(f"UPDATE ({LINK}|{BATCH})", sql)]
        if moves:
            assert statements[0].startswith(f"UPDATE {BATCH}"), statements


@pytest.mark.parametrize("act", ACTS.values(), ids=ACTS)
def test_a_batch_row_is_locked_by_its_key_alone(act: Callable[[], Callable[[], object]]) -> None:
    # Along another index MariaDB locks that index first, and a transaction that changes the row
    # locks it last.
    for sql in capture(act()).sql:
        if sql.endswith("FOR UPDATE") and _shape(sql) == "SELECT jobbatch":
            where = sql.partition(" WHERE ")[2].partition(" ORDER BY ")[0]
            assert re.findall(r"\.(\w+) (?:=|IN)", where) == ["id"], sql


def test_every_function_of_the_ledger_that_writes_is_checked() -> None:
    reads = {
        ledger.ancestor_ids,
        ledger.read_batch,
        ledger.batch_at_finish,
        ledger.check_failures_deletable,
        ledger.check_deletable,
        ledger.waits_for_previous_run,
        ledger.has_callbacks,
        ledger.has_unstopped,
        ledger.has_more_to_reset,
        ledger.running_children,
        ledger.stopping_children,
        ledger.running_tickets,
        ledger.first_share,
        ledger.first_unreported,
        ledger.sorted_by_role,
    }
    creates = {ledger.count_new, ledger.insert_batch, ledger.insert_children}
    follows = {ledger.count_inserted, ledger.insert_links}  # in the transaction of another
    public = {getattr(ledger, name) for name in ledger.__all__}
    functions = {each for each in public if not isinstance(each, type)}
    assert functions - reads - creates - follows == CHECKED


# How many statements


@pytest.mark.parametrize("size", [1, 100])
def test_statements_of_a_claim(size: int) -> None:
    batch = JobBatchFactory.create(jobs=size)

    statements = capture(lambda: claim(batch))

    assert statements.shapes == claim_of(*shapes(expected.CLAIM))


def test_to_ask_for_what_is_overdue_is_one_read_while_nothing_is() -> None:
    JobBatchFactory.create(jobs=1, next_event_at=timezone.now() + timedelta(minutes=1))

    statements = capture(lambda: ledger.overdue(ALIAS))

    assert statements.shapes == ["SELECT jobbatch"]


def test_to_read_a_batch_is_one_read_by_its_key() -> None:
    batch = JobBatchFactory.create()
    ledger.read_batch(ALIAS, batch.pk)  # compiles

    statements = capture(lambda: ledger.read_batch(ALIAS, batch.pk))

    (sql,) = statements.sql
    assert re.search(" WHERE id = [^ ]+$", sql)


def test_a_claim_asks_for_no_role() -> None:
    # The index of places starts with batch and role: a PostgreSQL that has no statistics of the
    # table yet would walk along that and sort all jobs of the batch, for each claim.
    batch = JobBatchFactory.create(jobs=1, roles=CALLBACKS)

    statements = capture(lambda: claim(batch))

    (read,) = (sql for sql in statements.sql if sql.startswith("SELECT"))
    assert "role" not in read.partition(" WHERE ")[2]


def test_what_follows_in_several_lanes_is_found_by_ids_alone() -> None:
    # With the batch in its condition, such a PostgreSQL would read all jobs of the batch.
    batch = store_tree(bus.batch([[ADD, ADD], [ADD, ADD]]))
    links = claim(batch)

    statements = capture(lambda: succeed(batch, links))

    reads = [sql for sql in statements.sql if sql.startswith("SELECT")]
    conditions = [sql.rpartition(" WHERE ")[2] for sql in reads]
    by_ids = [condition for condition in conditions if "batchedjob.id IN" in condition]
    assert len(by_ids) == 2
    assert [condition for condition in by_ids if "batch_id" in condition] == []


@pytest.mark.parametrize("size", [1, 99])
def test_statements_of_a_group_of_successes(size: int) -> None:
    batch = JobBatchFactory.create(jobs=100, running=True, roles=CALLBACKS)
    links = claim(batch, size)

    statements = capture(lambda: succeed(batch, links))

    assert statements.shapes == in_transaction(*shapes(expected.SETTLEMENT))


def test_statements_of_the_last_job_of_a_batch() -> None:
    batch = JobBatchFactory.create(jobs=1, running=True, roles=[Role.THEN, Role.FINALLY])
    links = claim(batch)

    statements = capture(lambda: succeed(batch, links))

    assert statements.shapes == in_transaction(*shapes(expected.LAST_JOB_WITH_CALLBACKS))


def test_statements_of_the_last_job_of_a_batch_without_callbacks() -> None:
    batch = JobBatchFactory.create(jobs=1, running=True)
    links = claim(batch)

    statements = capture(lambda: succeed(batch, links))

    assert statements.shapes == in_transaction(*shapes(expected.LAST_JOB))


def test_statements_of_a_hop_in_a_chain() -> None:
    chain = store_tree(bus.chain(ADD, ADD, ADD))
    links = claim(chain)

    settled = capture(lambda: succeed(chain, links))
    claimed = capture(lambda: claim(chain))

    assert settled.shapes == in_transaction(*shapes(expected.HOP))
    assert claimed.shapes == claim_of(*shapes(expected.CLAIM))


def test_statements_of_the_turn_of_a_child_batch() -> None:
    (link,) = claim(store_tree(bus.chain(bus.batch([ADD] * 100), ADD)))

    statements = capture(lambda: take_turn(link))

    assert statements.count <= 7


@pytest.mark.parametrize("size", [1, 100])
def test_statements_of_the_turn_of_a_child_batch_in_the_session_that_runs_it(size: int) -> None:
    (link,) = claim(store_tree(bus.chain(bus.batch([ADD] * size), ADD)))

    statements = capture(lambda: take_turn_and_claim(link))

    assert statements.shapes == in_transaction(*shapes(expected.CHILD_START))


def test_a_start_reads_no_jobs_if_nothing_may_be_claimed() -> None:
    (link,) = claim(store_tree(bus.chain(bus.batch([ADD]), ADD)))
    (other,) = claim(store_tree(bus.chain(bus.batch([ADD]), ADD)))

    rejected = capture(
        lambda: list(ledger.start_child(ALIAS, link, first_claim=lambda child: None))
    )

    assert rejected.shapes == capture(lambda: take_turn(other)).shapes


@pytest.mark.parametrize("claims", [True, False])
def test_statements_of_the_settlement_of_a_child_batch(*, claims: bool) -> None:
    root = store_tree(bus.chain(bus.batch([ADD]), ADD))
    child, started = settled_child(root)
    request = NextClaim(claimant=claimant(root)) if claims else None

    statements = capture(
        lambda: ledger.settle_stand_in(ALIAS, child, started=started, next_claim=request)
    )

    assert statements.shapes == in_transaction(*shapes(expected.CHILD_END))


def test_statements_of_the_settlement_of_a_child_batch_beside_others() -> None:
    root = store_tree(bus.batch([bus.batch([ADD]), *[ADD] * 200]))
    child, started = settled_child(root)
    request = NextClaim(claimant=claimant(root), after=started.pk, limit=1)

    statements = capture(
        lambda: ledger.settle_stand_in(ALIAS, child, started=started, next_claim=request)
    )

    assert statements.shapes == in_transaction(*shapes(expected.CHILD_END))


def test_statements_of_the_settlement_of_a_child_batch_of_another_session() -> None:
    child, _ = settled_child(store_tree(bus.chain(bus.batch([ADD]), ADD)))

    statements = capture(lambda: ledger.settle_stand_in(ALIAS, child))

    settled = in_transaction(*shapes(expected.CHILD_END_ELSEWHERE))
    assert statements.shapes == ["SELECT jobbatch", *settled]


@pytest.mark.parametrize("is_tail", [True, False])
def test_a_settlement_reads_once_what_is_left_to_claim(*, is_tail: bool) -> None:
    batch = JobBatchFactory.create(jobs=4, running=True)
    links = claim(batch, 2)
    if is_tail:
        claim(batch, 2, "two")
    request = NextClaim(claimant=claimant(batch), after=links[-1].pk, limit=10)

    statements = capture(
        lambda: ledger.settle(
            ALIAS, batch.pk, [success(link) for link in links], next_claim=request
        )
    )

    claimed = shapes(expected.SETTLEMENT_WITH_CLAIM)
    assert statements.shapes == in_transaction(*(claimed[:-1] if is_tail else claimed))


def test_statements_of_a_first_failure() -> None:
    batch = JobBatchFactory.create(
        jobs=2, running=True, allow_failures=True, roles=[Role.CATCH, Role.EACH_FAILURE]
    )
    links = claim(batch, 1)

    statements = capture(lambda: fail(batch, links))

    assert statements.count <= 11


def test_a_sweep_walks_along_the_index_of_claims() -> None:
    sql = "\n".join(capture(act_sweep()).sql)

    lookups = re.findall(
        rf"batch_id = \S+ AND {LINK}.role = 'job' AND {LINK}.status = '(\w+)'\)"
        rf" ORDER BY (?:1|{LINK}.queue) ASC, (?:2|{LINK}.id) ASC LIMIT",
        sql,
    )
    assert lookups == ["waiting", "pending"]


@pytest.mark.parametrize("size", [2, 100])
def test_statements_of_a_chunk_of_a_sweep(tuning: Tuning, size: int) -> None:
    tuning(LINKS_CHUNK=size)
    batch = JobBatchFactory.create(jobs=3 * size)
    ledger.cancel(ALIAS, batch.pk)
    chunks = ledger.sweep(ALIAS, batch.pk)

    sent = [capture(partial(next, chunks)).shapes for _ in range(3)]

    lock, read, write = shapes(expected.SETTLEMENT[:2]), "SELECT batchedjob", "UPDATE batchedjob"
    first = [*lock, *[read] * 3, write, "UPDATE jobbatch"]
    following = [*lock, *[read] * 2, write, "UPDATE jobbatch"]
    assert sent == [
        in_transaction(*first),  # which finds no waiting link, too
        in_transaction(*following),
        in_transaction(*following, "UPDATE jobbatch"),
    ]


@pytest.mark.parametrize("size", [2, 100])
def test_statements_of_a_chunk_of_a_retry(tuning: Tuning, size: int) -> None:
    tuning(LINKS_CHUNK=size)
    batch = JobBatchFactory.create(jobs=[FAILED] * (3 * size), finished=True, allow_failures=True)
    chunks = ledger.reopen(ALIAS, batch.pk)

    sent = [capture(partial(next, chunks)) for _ in range(3)]

    lock, read, write = shapes(expected.SETTLEMENT[:2]), "SELECT batchedjob", "UPDATE batchedjob"
    following = [*lock, read, read, write, "UPDATE failedjob", "UPDATE jobbatch"]
    assert sent[0].count <= len(following) + 3  # ancestors, and a savepoint for its unique key
    assert [each.shapes for each in sent[1:]] == [in_transaction(*following)] * 2


@pytest.mark.parametrize(("size", "further_pages"), [(0, 0), (1, 0), (2, 1), (5, 2)])
@pytest.mark.parametrize(("status", "counted"), [(SUCCEEDED, 0), (FAILED, 1)])
def test_statements_of_a_removal(
    tuning: Tuning,
    status: LinkStatus,
    counted: int,
    size: int,
    further_pages: int,
) -> None:
    tuning(LINKS_CHUNK=2)
    batch = JobBatchFactory.create(jobs=[status] * size, finished=True)

    def check_and_remove() -> None:
        ledger.check_deletable(ALIAS, batch)  # no model references it: nothing is read
        ledger.delete_batch(ALIAS, batch.pk)

    assert capture(check_and_remove).count <= (5 + counted) * further_pages + 6


def test_statements_of_the_removal_of_a_batch_that_is_waited_for() -> None:
    statements = capture(act_delete_batch_of_parent())

    assert statements.count <= 19


def test_statements_of_the_removal_of_a_batch_that_is_waited_for_no_more() -> None:
    child = finish_child(store_tree(bus.chain(bus.batch([ADD]), ADD)), success).children.get()

    statements = capture(lambda: ledger.delete_batch(ALIAS, child.pk))

    assert statements.count <= 6


@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize(("size", "chunks"), [(1, 1), (1000, 1), (2500, 3)])
def test_statements_of_a_dispatch_in_chunks(size: int, chunks: int) -> None:
    builder = bus.batch(bus.job(jobs.add, number, 1) for number in range(size))

    sent = capture(builder.dispatch).shapes

    # SQLite takes fewer values in a statement, so there a chunk is several of them.
    inserts = sent.count("INSERT batchedjob")
    assert (inserts == chunks) or connection.vendor == "sqlite"
    first = sent.index("INSERT batchedjob")
    others = sent[:first] + sent[first + inserts - 1 :]
    assert others == in_transaction(*shapes(expected.DISPATCH_CHUNKS))


@pytest.mark.usefixtures("redis_server")
@pytest.mark.parametrize("size", [1, 10])
def test_statements_of_a_dispatch(size: int) -> None:
    builder = bus.batch([bus.job(jobs.add, number, 1) for number in range(size)])

    sent = capture(builder.then(jobs.add, 1).finally_(jobs.add, 1).dispatch).shapes

    assert sent == in_transaction(*shapes(expected.DISPATCH))
