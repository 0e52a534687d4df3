"""django-ox, a task queue in the database, with the batches of its app `oxpull`."""

from __future__ import annotations

from typing import Any

from django.tasks import task
from django_ox.bulk import enqueue_many
from oxpull import batches

from benchmarks.peers.marks import mark
from benchmarks.peers.side import Side, manage_command


@task
def noop(number: int) -> None:
    mark()


@task
def callback(*args: Any, **kwargs: Any) -> None:
    mark()


class OxWorker(Side):
    """A batch is one of `oxpull`.

    Its callback waits for a task that runs once a minute. Here this task is sent with the batches, so
    that the wait is not measured. The worker has a persistent connection.
    """

    name = "django_ox"
    share = 0.25

    def command(self) -> list[str]:
        return manage_command("ox_worker", "-v", "0", "--interval", "0.1")

    def environment(self) -> dict[str, str]:
        return {"PERSISTENT_CONNECTIONS": "1"}

    def send_tasks(self, count: int) -> None:
        enqueue_many(noop, [((number,), {}) for number in range(count)])

    def send_group(self, size: int) -> None:
        self.send_tasks(size)

    def send_batch(self, size: int) -> None:
        batch = batches.create("peers", on_complete=callback)
        for number in range(size):
            batch.add(noop, number)
        batch.seal()

    def finish_sending(self) -> None:
        batches.reconcile.enqueue()
