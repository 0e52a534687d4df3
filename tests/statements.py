"""The exact statements of the most frequent steps, in order.

The tests compare them with what is sent, and `docs/internals/statements.md` shows them. `BEGIN` and
`COMMIT` are left out: they differ between databases.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Statement(NamedTuple):
    """A verb and a table, and the purpose of the statement."""

    shape: str
    purpose: str
    #: Whether only MariaDB needs it, whose UPDATE returns no row.
    on_mariadb: bool = False

    @property
    def verb(self) -> str:
        """The first word, such as `UPDATE`."""
        return self.shape.partition(" ")[0]


Statements = tuple[Statement, ...]

#: In the transaction of a dispatch whose items are a short list.
DISPATCH: Final[Statements] = (
    Statement("INSERT jobbatch", "the batch, with its counters"),
    Statement("INSERT batchedjob", "its links"),
)
#: In the transaction of any other dispatch.
DISPATCH_CHUNKS: Final[Statements] = (
    Statement("INSERT jobbatch", "the batch"),
    Statement("INSERT batchedjob", "its links, one statement for each chunk"),
    Statement("UPDATE jobbatch", "its counters"),
)
CLAIM: Final[Statements] = (
    Statement("SELECT batchedjob", "due links"),
    Statement("UPDATE batchedjob", "claim them"),
)
#: The first claim of a batch.
FIRST_CLAIM: Final[Statements] = (
    Statement("UPDATE jobbatch", "mark the batch as running"),
    *CLAIM,
)
#: A settlement of jobs that succeeded.
SETTLEMENT: Final[Statements] = (
    Statement("UPDATE jobbatch", "lock the batch, write its counters"),
    Statement("SELECT jobbatch", "the batch", on_mariadb=True),
    Statement("UPDATE batchedjob", "settle the links"),
)
#: A settlement after which the next link of a lane is due.
HOP: Final[Statements] = (
    *SETTLEMENT,
    Statement("SELECT batchedjob", "the next link"),
    Statement("UPDATE batchedjob", "claim it, or make it due"),
)
#: A settlement that claims all jobs that are left.
SETTLEMENT_WITH_CLAIM: Final[Statements] = (*SETTLEMENT, *CLAIM)
#: The last settlement of a batch without callbacks.
LAST_JOB: Final[Statements] = (
    *SETTLEMENT,
    Statement("UPDATE jobbatch", "finish the batch"),
)
#: The last settlement of a batch with callbacks.
LAST_JOB_WITH_CALLBACKS: Final[Statements] = (
    *LAST_JOB,
    Statement("INSERT batchedjob", "its callbacks, the first of them claimed or due"),
)
#: The settlement of a callback that another one follows.
CALLBACK: Final[Statements] = (
    *SETTLEMENT,
    Statement("SELECT batchedjob", "the unsettled callbacks"),
    Statement("UPDATE batchedjob", "claim the next one, or make it due"),
)
#: The settlement of the last callback of a batch.
LAST_CALLBACK: Final[Statements] = (
    *SETTLEMENT,
    Statement("SELECT batchedjob", "the unsettled callbacks: none"),
    Statement("UPDATE jobbatch", "mark the batch as at rest"),
)
#: The start of a child batch that the session runs next.
CHILD_START: Final[Statements] = (
    Statement("UPDATE jobbatch", "lock the parent"),
    Statement("SELECT jobbatch", "the parent", on_mariadb=True),
    Statement("UPDATE jobbatch", "lock the child batch"),
    Statement("SELECT jobbatch", "the child batch", on_mariadb=True),
    Statement("UPDATE batchedjob", "end the claim of the stand-in"),
    Statement("SELECT batchedjob", "due links of the child batch"),
    Statement("UPDATE jobbatch", "mark the child batch as running"),
    Statement("UPDATE batchedjob", "claim the links"),
)
#: The settlement of a stand-in in the session that has started it, if another link follows.
CHILD_END: Final[Statements] = (
    Statement("UPDATE jobbatch", "lock the parent, write its counters"),
    Statement("SELECT jobbatch", "the parent", on_mariadb=True),
    Statement("UPDATE jobbatch", "mark the child batch as at rest"),
    Statement("UPDATE batchedjob", "settle the stand-in"),
    Statement("SELECT batchedjob", "the next link"),
    Statement("UPDATE batchedjob", "claim it, or make it due"),
)
#: The settlement of any other stand-in, after a read of the id of its batch.
CHILD_END_ELSEWHERE: Final[Statements] = (
    Statement("UPDATE jobbatch", "lock the parent"),
    Statement("SELECT jobbatch", "the parent", on_mariadb=True),
    Statement("SELECT jobbatch", "the child batch"),
    Statement("SELECT batchedjob", "the stand-in"),
    Statement("UPDATE batchedjob", "settle it"),
    Statement("UPDATE jobbatch", "write the counters of the parent"),
    Statement("SELECT batchedjob", "the next link"),
    Statement("UPDATE batchedjob", "make it due"),
    Statement("UPDATE jobbatch", "mark the child batch as at rest"),
)


def sent(statements: Statements) -> Statements:
    """Return those of these statements that the test database needs."""
    from tests.databases import RETURNS_UPDATES  # noqa: PLC0415 - the pages are built without one

    return tuple(each for each in statements if not (each.on_mariadb and RETURNS_UPDATES))


def shapes(statements: Statements) -> list[str]:
    """Return the verb and table of each statement."""
    return [statement.shape for statement in sent(statements)]


def verbs(statements: Statements) -> list[str]:
    """Return the verb of each statement."""
    return [statement.verb for statement in sent(statements)]
