"""Demo: import all airports by country with two workers and print the outcome (`make demo`).

`demo.py BR CA` imports the airports of these two countries.
"""

from __future__ import annotations

import sys
from collections import Counter
from typing import TYPE_CHECKING

from sandbox.stage import run, stage

if TYPE_CHECKING:
    from django_jobbatch.models import JobBatch


def main() -> None:
    with stage() as ready:
        # These imports need Django.
        from airports.importing import dispatch_import  # noqa: PLC0415

        batch = dispatch_import(sys.argv[1:])
        ready.follow(batch)
        line = summary(batch)
    print(f"demo: {line}")


def summary(batch: JobBatch) -> str:
    """Return the outcome and the counters from the database.

    `total` to `skipped` count the jobs of the whole tree, without stand-ins. `batches` and `chains`
    count the batches and chains of the tree, the root included.
    """
    from airports.models import CallbackCall  # noqa: PLC0415
    from django_jobbatch.models.tree import with_descendants  # noqa: PLC0415
    from django_jobbatch.states import Kind  # noqa: PLC0415

    snapshot = batch.snapshot()
    jobs = snapshot["jobs"]
    kinds = Counter(with_descendants(batch).values_list("kind", flat=True))
    calls = CallbackCall.objects.filter(batch_id=batch.pk)
    values = {
        "outcome": snapshot["outcome"],
        **{name: jobs[name] for name in ("total", "succeeded", "failed", "cancelled", "skipped")},
        "progress": snapshot["progress"],
        **{role: calls.filter(role=role).count() for role in ("then", "catch", "finally")},
        "batches": kinds[Kind.BATCH],
        "chains": kinds[Kind.CHAIN],
    }
    return " ".join(f"{name}={value}" for name, value in values.items())


if __name__ == "__main__":
    run(main)
