"""Every chunk size, cap and wait of the engine.

Modules read each value when they use it (`tuning.LINKS_CHUNK`), so a test changes it in one place.
Those of the last section are read once, when their module is imported. `conf` has the settings of a
project.
"""

from __future__ import annotations

from datetime import timedelta

# Bounds of options

#: Years between now and a moment: a start time ahead, or an age back. A moment at the end of the
#: calendar, in another time zone, is one that no database and no Python reads.
MAX_YEARS = 100
#: Further attempts of a job, and intervals between them in a list.
MAX_RETRIES = 1_000_000
MAX_RETRY_INTERVALS = 1_000
#: Characters of a rejected value that an error repeats.
MAX_VALUE_SHOWN = 200
#: Characters of the reason for a cancel that a batch keeps.
MAX_REASON_LENGTH = 10_000

# Chunks of rows

#: Links that one transaction of a sweep, a retry or a delete changes at most. It locks the batch row.
#: A retry resets a lane with more links in one transaction.
LINKS_CHUNK = 5000
#: Links of the first and smallest chunk of a sweep or a retry. Chunks grow while one takes less than
#: these seconds, and shrink if one takes more than twice as long.
FIRST_CHUNK = 1000
CHUNK_SECONDS = 0.5
#: Running child batches that one transaction stops.
CHILDREN_CHUNK = 100
#: Stand-ins of unstarted child batches that one transaction sweeps. Each child is swept separately.
STAND_INS_CHUNK = 25
#: Rows of one INSERT, and in memory, while a batch is created.
INSERT_CHUNK = 1000
#: Results in memory while they are read.
RESULTS_CHUNK = 1000
#: Batches or failures that one query of `prune` reads.
PRUNE_CHUNK = 1000
#: Batches that one query of `reconcile` reads.
RECONCILE_CHUNK = 500
#: Keys of one statement. SQLite accepts at most 32,766 by default.
KEYS_CHUNK = 5000
#: Characters of one statement. A single row may have more. MariaDB drops the connection if a
#: statement exceeds `max_allowed_packet`, by default 16 MiB with escapes.
MAX_STATEMENT_CHARS = 2**21
#: Levels of a tree in one statement. Each takes two joins, and MariaDB and SQLite allow about 60.
TREE_LEVELS = 8

# Positions in a lane

#: Distance between two new links of a lane, for links that are inserted later.
POSITION_STEP = 1024
#: The largest integer of PostgreSQL. Other databases allow more.
MAX_POSITION = 2**31 - 1
#: At most `DENSITY_BASE**n` of `2**n` positions are occupied after a rebalance.
DENSITY_BASE = 1.5

# Transactions

#: Seconds between two attempts, each increased at random by up to 100 %. The last value repeats.
RETRY_BACKOFF = (0.01, 0.05, 0.2, 0.5, 1.0, 2.0)
#: Seconds after which no further attempt starts. A single attempt may wait long for a lock.
RETRY_SECONDS = 10.0
#: Attempts to insert a batch whose unique key belongs to a batch that no query finds.
UNIQUE_ATTEMPTS = 3

# Claims

#: Attempts of a claim if another ticket claims the same links first.
CLAIM_ATTEMPTS = 5
#: A claim is for as many jobs as ran in this many seconds.
CLAIM_SECONDS = 0.25
#: Links of the first claim of a ticket. It is less if other tickets of the batch wait.
FIRST_CLAIM = 10
#: Links of one claim.
MAX_CLAIM = 250
#: Claims that a ticket remembers, to release those that an exception has left without a runner.
NEWEST_CLAIMS = 10
#: Worker losses after which a link fails. A link with a loss is claimed alone.
MAX_LOSSES = 3

# Runner

#: Seconds between two ticks of the heartbeat. An outcome is settled within two ticks.
HEARTBEAT_SECONDS = 0.2
#: Seconds without the start of another link after which the heartbeat releases the unstarted links.
RELEASE_AFTER_SECONDS = 0.25
#: Seconds between the timeout of a job and the moment when it counts as ignored.
TIMEOUT_GRACE_SECONDS = 10.0
#: Seconds in which the heartbeat settles what a work-horse holds, before the watchdog ends it.
LAST_SETTLE_SECONDS = 10.0
#: Seconds that the watchdog of a work-horse has to see an ignored timeout, before the worker kills
#: the work-horse.
WATCHDOG_SECONDS = 1.0
#: Seconds for which a shutdown waits for a coroutine that it has cancelled.
COROUTINE_CANCEL_SECONDS = 2.0
#: Seconds after which the batch is read again before a job starts.
STATUS_MAX_AGE = 0.3
#: Seconds of the lease of a job without a timeout, if no heartbeat renews the lease.
UNLIMITED_JOB_LEASE = 86_400
#: Seconds after which a batch with due links gets more tickets.
HELP_AFTER_SECONDS = 1
#: Seconds of a batch in a session, after which it gives way to another job that waits.
TURN_SECONDS = 1.0
#: Seconds between two questions for such a job, after the turn.
TURN_PEEK_SECONDS = 0.25
#: Seconds that a session must have left to take over the next ticket of its queue, and attempts if
#: other workers take it first.
TAKE_OVER_SECONDS = 1.0
TAKE_OVER_ATTEMPTS = 3
#: Milliseconds in which one session of a database looks for overdue batches.
OVERDUE_INTERVAL_MS = 1000
#: Seconds until the next claim of a stand-in whose child batch is stopping.
STOPPING_RECHECK_SECONDS = 1
#: Characters of an exception's message and of its traceback that a failure stores. Of a longer text
#: the middle is left out.
MAX_MESSAGE_LENGTH = 10_000
MAX_TRACEBACK_LENGTH = 100_000
#: Innermost frames of a traceback that are formatted.
MAX_FRAMES = 2_000
#: Texts of frames that are kept until a group is settled, and frames of each.
MAX_KNOWN_FRAMES = 64
MAX_KNOWN_DEPTH = 100
#: Characters of an exception's message in a line of the log.
MAX_ERROR_LOGGED = 500
#: Failures that wait for the settlement of their group. Their exceptions are kept for the log, with
#: the values of all their frames.
MAX_FAILURES_HELD = 100

# Tickets

#: Tickets that are sent at once for due links. A ticket at work sends missing ones.
MAX_TICKETS = 16
#: Seconds by which RQ's timeout of a ticket exceeds the timeouts of its jobs.
TICKET_GRACE_SECONDS = 60
#: Time for which RQ keeps a dead ticket.
TICKET_FAILURE_TTL = timedelta(hours=1)
#: Time after which Redis forgets the waiting tickets of a batch, counted from the last one that was
#: sent or is scheduled. A queue without a worker for so long gets further tickets.
TICKET_REGISTRY_TTL = timedelta(days=30)
#: Time after which Redis forgets which tickets a session has taken over. A session that lasts renews
#: its list, four times in this time.
SESSION_TTL = timedelta(days=1)
#: Delay of a scheduled ticket after which another process sends one.
OVERDUE_AFTER = timedelta(seconds=2)
#: Overdue batches that one process takes at once.
OVERDUE_CHUNK = 100
#: Seconds of a cancel or a retry in the caller's process, perhaps in a web request. The chunk that is
#: in progress is completed, so it takes about twice as long at most. A ticket continues.
CALL_SECONDS = 0.25
#: Seconds for which one ticket continues. Then it sends the next ticket.
TICKET_CALL_SECONDS = 1.0

# Requests to Redis

#: Ids of one page of a queue's list, and ids that two pages have in common.
QUEUE_PAGE = 1000
QUEUE_OVERLAP = 100
#: Ids at the head of a list among which one ticket is searched.
MAX_SEARCHED = 1000
#: Seconds that the requests of one ticket or hook in a worker may wait, if `REDIS_TIMEOUT` is less.
TICKET_REDIS_SECONDS = 10.0
#: Seconds of a request that are not counted, and seconds that each request has at least.
FREE_REDIS_SECONDS = 0.05
MIN_REDIS_SECONDS = 0.1
#: Seconds for which a session waits for Redis to learn which job is next.
PEEK_SECONDS = 1.0
#: Seconds for which a process waits only briefly for a server that has used a whole budget.
HANGING_REDIS_SECONDS = 10.0
#: Seconds for which a stop request is repeated until its worker listens, and pauses between them.
STOP_SECONDS = 2.0
STOP_PAUSE_SECONDS = 0.1

# Worker

#: Seconds after which a worker kills its reconcile process, or its rescue process.
RECONCILE_TIMEOUT = 600
RESCUE_TIMEOUT = 60
#: Seconds before each further rescue of a dead ticket: its database may still commit a claim.
RESCUE_PAUSES = (1.0, 4.0)
#: Whole seconds for which a worker waits at its start for the databases of the project.
FIND_DATABASES_SECONDS = 10

# Read model and pages

#: Failures that a summary of failures reads, the newest first.
MAX_FAILURES_READ = 5_000
#: Kinds of exceptions in that summary, and jobs of each.
MAX_FAILURE_GROUPS = 20
MAX_JOBS_PER_FAILURE = 5
#: Callback rows that a page reads, the newest first. Each run of a batch has its own.
MAX_CALLBACKS_READ = 50
#: Child batches that a snapshot lists, in the order of their lanes.
MAX_CHILDREN_SHOWN = 50
#: Running jobs that a progress bar counts.
MAX_RUNNING_COUNTED = 10_000
#: Arguments of a call that a page shows, and characters of each.
MAX_ARGUMENTS = 100
MAX_ARGUMENT_LENGTH = 2_000
#: Child batches and steps that the page of a batch lists.
MAX_CHILDREN_LISTED = 50
MAX_STEPS_LISTED = 50
#: Links of a batch above which its page does not count them by step.
MAX_LINKS_COUNTED = 100_000
#: Rows that a list counts. A longer list shows no number.
MAX_ROWS_COUNTED = 10_000
#: Failures of a job that its page lists, the newest first.
MAX_FAILURES_LISTED = 20
#: Batches, or jobs of a batch, that one request may choose.
MAX_CHOSEN = 100
#: Jobs above which the confirmation page asks for a tick.
CONFIRM_ABOVE = 10_000

# Output of commands

#: Batches that `list_batches` lists at most. It reads them all before it prints the first.
MAX_LIST_LENGTH = 1_000_000

#: Batches that an error lists if the ids of several start with the given digits.
MAX_CANDIDATES = 5
#: Characters of an exception's message. The messages of this package are shorter, hints included.
MAX_MESSAGE_SHOWN = 1_000
#: Characters of a call.
MAX_CALL_SHOWN = 200
#: Characters of the name of a batch in a list, and of the name of a child batch.
MAX_NAME_SHOWN = 24
MAX_CHILD_NAME_SHOWN = 30

# Read at import

#: Functions, dotted paths and Tasks in each cache.
FUNCTION_CACHE_SIZE = 1024
#: Texts of statements that insert rows, in their cache: one for each table and number of rows.
INSERT_CACHE_SIZE = 64
#: Keys of signatures in their cache: one for each batch and role.
SIGNING_KEY_CACHE_SIZE = 64
#: Whole seconds between two reconciles of a worker class that does not set them.
RECONCILE_INTERVAL = 15
#: Digits of the short form of an id, which pages and commands show.
SHORT_ID = 8
#: Batches that `list_batches` lists by default.
DEFAULT_LIST_LENGTH = 20
#: Rows of a page of a list in the admin, and rows up to which it offers to show all.
ADMIN_PAGE_LENGTH = 50
MAX_SHOW_ALL = 200
