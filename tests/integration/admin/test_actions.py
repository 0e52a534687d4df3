"""Cancel and retry: the confirmation page, and the rows after the confirmation."""

from __future__ import annotations

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_jobbatch import bus
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.integration.admin.pages import address, confirm, form_values, messages, text
from tests.jobs import ADD
from tests.servers import RedisServer
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]

S = LinkStatus


def history() -> list[tuple[str, str]]:
    """Return the entries in the history of batches."""
    entries = LogEntry.objects.order_by("object_repr", "pk")
    return [(entry.object_repr, entry.get_change_message()) for entry in entries]


def states(batch: JobBatch) -> list[str]:
    return list(batch.jobs.order_by("pk").values_list("status", flat=True))


# Cancel


def test_the_page_shows_the_effects_of_a_cancel(admin_client: Client) -> None:
    batch = JobBatchFactory.create(
        name="Import",
        running=True,
        jobs=[S.SUCCEEDED, S.RUNNING, S.PENDING, S.PENDING],
        roles=[Role.CATCH, Role.THEN, Role.FINALLY],
    )

    shown = text(admin_client.get(address(batch, "cancel")))
    batch.refresh_from_db()

    assert "Cancel “Import” with 3 unfinished jobs?" in shown
    assert "1 job is running now." in shown
    assert (
        "These callbacks are called after the last job: finally: tests.jobs.add Running jobs"
        in shown
    )
    assert batch.status == "running"


def test_a_cancel_is_performed_reported_and_stored_in_the_history(admin_client: Client) -> None:
    batch = bus.batch([ADD] * 3).named("Import").dispatch()

    response = confirm(admin_client, address(batch, "cancel"), reason="wrong file")
    batch.refresh_from_db()
    shown = text(admin_client.get(address(batch, "history")))

    assert response.redirect_chain == [(address(batch), 302)]
    assert messages(response) == ["success: “Import” was cancelled."]
    assert (batch.outcome, batch.cancelled_jobs) == ("cancelled", 3)
    assert (batch.cancelled_by, batch.cancel_reason) == ("admin", "wrong file")
    assert history() == [
        (
            "Import",
            "Cancelled with 3 unfinished jobs. Running jobs may finish. Reason: wrong file",
        )
    ]
    assert history()[0][1] in shown


@pytest.mark.parametrize(
    ("running", "status", "sentence"),
    [
        ("finish", S.RUNNING, "Running jobs may finish."),
        ("stop", S.CANCELLED, "Running jobs were stopped."),
    ],
)
def test_running_jobs_finish_or_are_stopped(
    admin_client: Client, running: str, status: str, sentence: str
) -> None:
    batch = JobBatchFactory.create(name="Import", running=True, jobs=[S.RUNNING])

    confirm(admin_client, address(batch, "cancel"), running=running)

    assert states(batch) == [status]
    assert history() == [("Import", f"Cancelled with 1 unfinished job. {sentence}")]


def test_a_doubled_answer_cancels_once(admin_client: Client) -> None:
    batch = JobBatchFactory.create(pending=True, jobs=2)
    place = address(batch, "cancel")
    answer = form_values(admin_client, place)

    twice = [admin_client.post(place, answer, follow=True) for _ in range(2)]

    assert [messages(response)[0].partition(":")[0] for response in twice] == ["success", "warning"]
    assert len(history()) == 1


def test_several_batches_are_cancelled_from_the_list(admin_client: Client) -> None:
    for name, trait in (("a", "running"), ("b", "pending"), ("c", "finished")):
        JobBatchFactory.create(name=name, **{trait: True}, jobs=[S.PENDING] * (trait != "finished"))
    chosen = {
        "action": "cancel_selected",
        "_selected_action": list(JobBatch.objects.values_list("pk", flat=True)),
    }

    sent = admin_client.post(address(JobBatch, level="all"), chosen)
    shown = text(admin_client.get(sent["Location"]))
    response = confirm(admin_client, sent["Location"], reason="enough")

    assert "Cancel these batches with 2 unfinished jobs?" in shown
    assert "b 1 job a 1 job" in shown
    assert "These batches are not changed, because their state does not allow it: c" in shown
    assert response.redirect_chain == [(address(JobBatch, level="all"), 302)]
    assert messages(response) == ["success: 2 batches were cancelled."]
    assert [(name, entry.partition(" ")[0]) for name, entry in history()] == [
        *(("a", "Cancelled"), ("b", "Cancelled")),
    ]


# Retry


def test_a_retry_is_performed_reported_and_stored_in_the_history(admin_client: Client) -> None:
    batch = JobBatchFactory.create(
        name="Import",
        failed=True,
        jobs=[S.SUCCEEDED, S.FAILED, S.CANCELLED, S.SKIPPED],
        roles=[Role.THEN],
    )
    place = address(batch, "retry")

    shown = text(admin_client.get(place))
    response = confirm(admin_client, place, reason="fixed")
    batch.refresh_from_db()

    assert "Run 3 jobs of “Import” again?" in shown
    assert "These callbacks may be called again: then: tests.jobs.add" in shown
    assert response.redirect_chain == [(address(batch), 302)]
    assert messages(response) == ["success: 3 jobs will run again."]
    assert states(batch) == ["succeeded", "pending", "pending", "pending"]
    assert (batch.status, batch.run) == ("running", 2)
    assert history() == [("Import", "3 jobs will run again. Reason: fixed")]


def test_a_batch_that_was_cancelled_is_retried_only_with_its_cancelled_jobs(
    admin_client: Client,
) -> None:
    batch = JobBatchFactory.create(cancelled=True, jobs=[S.FAILED, S.CANCELLED])
    place = address(batch, "retry")

    rejected = confirm(admin_client, place)
    unchanged = states(batch)
    response = confirm(admin_client, place, include_cancelled="on")

    assert "This field is required." in text(rejected)
    assert unchanged == ["failed", "cancelled"]
    assert messages(response) == ["success: 2 jobs will run again."]
    assert states(batch) == ["pending", "pending"]


def test_among_several_batches_cancelled_ones_are_retried_only_if_ticked(
    admin_client: Client,
) -> None:
    failed = JobBatchFactory.create(failed=True, jobs=[S.FAILED])
    cancelled = JobBatchFactory.create(cancelled=True, jobs=[S.CANCELLED])
    place = address(JobBatch, "retry", ids=f"{failed.pk},{cancelled.pk}")

    response = confirm(admin_client, place)

    assert messages(response) == ["success: 1 job will run again."]
    assert (states(failed), states(cancelled)) == (["pending"], ["cancelled"])


def test_an_answer_to_an_older_page_shows_the_page_again(admin_client: Client) -> None:
    batch = JobBatchFactory.create(failed=True, allow_failures=True, jobs=[S.FAILED] * 3)
    place = address(batch, "retry")
    answer = form_values(admin_client, place) | {"reason": "fixed"}
    batch.retry(batch.jobs.all()[:1])
    JobBatch.objects.update(status="finished", outcome="partial", pending_jobs=0)

    again = admin_client.post(place, answer)
    response = admin_client.post(place, answer | form_values(admin_client, place), follow=True)

    assert messages(again) == [
        "warning: The jobs have changed since this page was shown. Check the numbers and confirm again."
    ]
    assert "Run 2 jobs of" in text(again)
    assert 'value="fixed"' in again.content.decode()
    assert messages(response) == ["success: 2 jobs will run again."]


def test_a_doubled_answer_retries_once(admin_client: Client) -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED])
    place = address(batch, "retry")
    answer = form_values(admin_client, place)

    twice = [admin_client.post(place, answer, follow=True) for _ in range(2)]
    batch.refresh_from_db()

    assert [messages(response)[0].partition(":")[0] for response in twice] == ["success", "warning"]
    assert (batch.run, len(history())) == (2, 1)


@pytest.mark.parametrize("of", ["job", "failure"])
def test_one_job_is_retried_from_its_page_and_from_that_of_its_failure(
    admin_client: Client, of: str
) -> None:
    batch = JobBatchFactory.create(
        name="Import", failed=True, allow_failures=True, jobs=[S.FAILED, S.FAILED]
    )
    job = batch.jobs.all()[0]
    failure = FailedJobFactory.create(job=job)
    page = admin_client.get(address(job if of == "job" else failure)).content.decode()
    place = address(batch, "retry", jobs=job.pk)

    shown = text(admin_client.get(place))
    response = confirm(admin_client, place)

    assert f'href="{place}"' in page
    assert "Run 1 job of “Import” again?" in shown
    assert str(job) in shown
    assert messages(response) == ["success: 1 job will run again."]
    assert states(batch) == ["pending", "failed"]


def test_a_retry_of_the_last_failure_of_a_strict_batch_resets_its_stopped_jobs(
    admin_client: Client,
) -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED, S.CANCELLED, S.CANCELLED])
    place = address(batch, "retry", jobs=batch.jobs.failed().get().pk)

    shown = text(admin_client.get(place))
    response = confirm(admin_client, place)

    assert "Run 3 jobs" in shown
    assert messages(response) == ["success: 3 jobs will run again."]


def test_a_failed_callback_is_retried_alone(admin_client: Client) -> None:
    batch = JobBatchFactory.create(cancelled=True, jobs=[S.CANCELLED], roles=[Role.FINALLY])
    link = BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1, status=S.FAILED)
    FailedJobFactory.create(job=link)
    page = admin_client.get(address(batch)).content.decode()
    place = address(batch, "retry", jobs=link.pk)

    response = confirm(admin_client, place)
    link.refresh_from_db()

    assert f'href="{place}">Retry' in page
    assert messages(response) == ["success: 1 job will run again."]
    assert link.status == "pending"
    assert states(batch)[0] == "cancelled"


@pytest.mark.parametrize("model", [BatchedJob, FailedJob])
def test_chosen_jobs_of_one_batch_are_retried_from_a_list(
    admin_client: Client, model: type[BatchedJob | FailedJob]
) -> None:
    batch = JobBatchFactory.create(failed=True, allow_failures=True, jobs=[S.FAILED] * 3)
    other = JobBatchFactory.create(failed=True, jobs=[S.FAILED])
    for job in [*batch.jobs.all(), *other.jobs.all()]:
        FailedJobFactory.create(job=job)
    of_batch = model._default_manager.filter(batch=batch).values_list("pk", flat=True)
    choice = {"action": "retry_selected", "_selected_action": list(of_batch[:2])}
    every = {
        **choice,
        "_selected_action": list(model._default_manager.values_list("pk", flat=True)),
    }

    sent = admin_client.post(address(model), choice)
    response = confirm(admin_client, sent["Location"])
    rejected = admin_client.post(address(model), every, follow=True)

    assert messages(response) == ["success: 2 jobs will run again."]
    assert sorted(states(batch)) == ["failed", "pending", "pending"]
    assert messages(rejected) == [
        "warning: Choose jobs of one batch only. Deleted jobs cannot be retried."
    ]


# Both


@pytest.mark.parametrize(
    ("verb", "trait", "status"), [("cancel", "running", S.PENDING), ("retry", "failed", S.FAILED)]
)
def test_many_jobs_require_a_tick(
    admin_client: Client,
    verb: str,
    trait: str,
    status: LinkStatus,
    tuning: Tuning,
) -> None:
    tuning(CONFIRM_ABOVE=2)
    few = JobBatchFactory.create(**{trait: True}, jobs=[status] * 2)
    many = JobBatchFactory.create(**{trait: True}, jobs=[status] * 3)

    without_tick = confirm(admin_client, address(few, verb))
    rejected = confirm(admin_client, address(many, verb))
    response = confirm(admin_client, address(many, verb), understood="on")

    assert messages(without_tick)[0].startswith("success")
    assert "This field is required." in text(rejected)
    assert messages(response)[0].startswith("success")


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_an_impossible_action_redirects_back_with_a_message(
    admin_client: Client, verb: str
) -> None:
    batch = JobBatchFactory.create(finished=True, jobs=[S.SUCCEEDED])

    response = admin_client.get(address(batch, verb), follow=True)

    assert response.redirect_chain == [(address(batch), 302)]
    assert messages(response)[0].startswith(f"warning: There is nothing to {verb}")


def test_an_error_of_the_operation_is_shown(admin_client: Client) -> None:
    held = JobBatchFactory.create(name="held", failed=True, jobs=[S.FAILED])
    JobBatch.objects.filter(pk=held.pk).update(options={"unique": "nightly"})
    JobBatchFactory.create(running=True, unique_key="nightly")

    response = confirm(admin_client, address(held, "retry"))

    assert messages(response) == [
        "error: “held”: Another unfinished batch has the key 'nightly'; retry after it."
    ]
    assert (states(held), history()) == (["failed"], [])


@pytest.mark.parametrize(
    ("verb", "trait", "status"), [("cancel", "running", S.PENDING), ("retry", "failed", S.FAILED)]
)
def test_without_redis_the_action_is_performed(
    admin_client: Client, redis_server: RedisServer, verb: str, trait: str, status: LinkStatus
) -> None:
    batch = JobBatchFactory.create(**{trait: True}, jobs=[status])
    redis_server.stop()

    response = confirm(admin_client, address(batch, verb))

    assert messages(response)[0].startswith("success")
    assert states(batch) == (["cancelled"] if verb == "cancel" else ["pending"])


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_a_get_and_a_post_without_the_token_change_nothing(admin_client: Client, verb: str) -> None:
    batch = JobBatchFactory.create(running=True, jobs=[S.FAILED, S.PENDING])
    version = batch.version
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = admin_client.cookies

    codes = [
        strict.get(address(batch, verb)).status_code,
        strict.post(address(batch, verb), {"running": "finish"}).status_code,
        admin_client.put(address(batch, verb)).status_code,
    ]
    batch.refresh_from_db()

    assert codes == [200, 403, 405]
    assert batch.version == version


@pytest.mark.parametrize("jobs_named", ["", "x", "9" * 30, ",".join(["1"] * 101)])
def test_impossible_ids_of_jobs_are_not_found(admin_client: Client, jobs_named: str) -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED])

    answer = admin_client.get(address(batch, "retry", jobs=jobs_named))

    assert answer.status_code == 404


@pytest.mark.parametrize("query", ["", "?ids=", "?ids=x", f"?ids={'a' * 32}"])
def test_missing_batches_are_not_found(admin_client: Client, query: str) -> None:
    answer = admin_client.get(address(JobBatch, "cancel") + query)

    assert answer.status_code == 404
