"""Import all airports as one batch with two workers, and say how it ended: `make demo`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sandbox.stage import run, stage

if TYPE_CHECKING:
    from django_jobbatch.models import JobBatch


def main() -> None:
    with stage() as ready:
        # Django is set up only now.
        from airports.importing import dispatch_import  # noqa: PLC0415

        batch = dispatch_import()
        ready.follow(batch)
        line = summary(batch)
    print(f"demo: {line}")


def summary(batch: JobBatch) -> str:
    """The outcome and the numbers, all as the database has them."""
    from airports.models import CallbackCall  # noqa: PLC0415

    calls = CallbackCall.objects.filter(batch_id=batch.pk)
    values = {
        "outcome": batch.outcome,
        "total": batch.total_jobs,
        "succeeded": batch.succeeded_jobs,
        "failed": batch.failed_jobs,
        "cancelled": batch.cancelled_jobs,
        "skipped": batch.skipped_jobs,
        "progress": batch.progress,
        **{role: calls.filter(role=role).count() for role in ("then", "catch", "finally")},
    }
    return " ".join(f"{name}={value}" for name, value in values.items())


if __name__ == "__main__":
    run(main)
