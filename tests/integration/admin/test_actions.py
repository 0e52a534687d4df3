"""Cancel and retry: the page that asks, and what stands in the database after the answer."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from django_jobbatch import bus
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.integration.admin.pages import Answer, address, messages, text
from tests.jobs import ADD
from tests.servers import RedisServer
from tests.tuning import Tuning

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]

S = LinkStatus


def asked(client: Client, place: str) -> dict[str, str]:
    """What the page would send if nothing was filled in."""
    page = client.get(place).content.decode()
    form = page.partition('class="jb-form"')[2].partition("</form>")[0]
    hidden = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', form)
    chosen = re.findall(r'type="radio" name="(\w+)" value="(\w+)"[^>]* checked', form)
    return {name: html.unescape(value) for name, value in hidden + chosen}


def answered(client: Client, place: str, **answer: Any) -> Answer:
    """Look at the page that asks, and say yes."""
    return client.post(place, asked(client, place) | answer, follow=True)


def history() -> list[tuple[str, str]]:
    """What was written into the history of batches."""
    entries = LogEntry.objects.order_by("object_repr", "pk")
    return [(entry.object_repr, entry.get_change_message()) for entry in entries]


def states(batch: JobBatch) -> list[str]:
    return list(batch.jobs.order_by("pk").values_list("status", flat=True))


# Cancel


def test_the_page_says_what_a_cancel_would_do(admin_client: Client) -> None:
    batch = JobBatchFactory.create(
        name="Import",
        running=True,
        jobs=[S.SUCCEEDED, S.RUNNING, S.PENDING, S.PENDING],
        roles=[Role.CATCH, Role.THEN, Role.FINALLY],
    )

    shown = text(admin_client.get(address(batch, "cancel")))
    batch.refresh_from_db()

    assert "Cancel “Import” with 3 jobs to go?" in shown
    assert "1 job is running now." in shown
    assert "these callbacks are called: finally: tests.jobs.add Jobs that are running" in shown
    assert batch.status == "running"


def test_a_cancel_is_carried_out_told_and_kept_in_the_history(admin_client: Client) -> None:
    batch = bus.batch([ADD] * 3).named("Import").dispatch()

    told = answered(admin_client, address(batch, "cancel"), reason="wrong file")
    batch.refresh_from_db()
    shown = text(admin_client.get(address(batch, "history")))

    assert told.redirect_chain == [(address(batch), 302)]
    assert messages(told) == ["success: “Import” was cancelled."]
    assert (batch.outcome, batch.cancelled_jobs) == ("cancelled", 3)
    assert (batch.cancelled_by, batch.cancel_reason) == ("admin", "wrong file")
    assert history() == [
        (
            "Import",
            "Cancelled with 3 jobs to go. Running jobs may finish. Reason: wrong file",
        )
    ]
    assert history()[0][1] in shown


@pytest.mark.parametrize(
    ("running", "left", "said"),
    [
        ("finish", S.RUNNING, "Running jobs may finish."),
        ("stop", S.CANCELLED, "Running jobs were stopped."),
    ],
)
def test_running_jobs_finish_or_are_stopped(
    admin_client: Client, running: str, left: str, said: str
) -> None:
    batch = JobBatchFactory.create(name="Import", running=True, jobs=[S.RUNNING])

    answered(admin_client, address(batch, "cancel"), running=running)

    assert states(batch) == [left]
    assert history() == [("Import", f"Cancelled with 1 job to go. {said}")]


def test_a_doubled_answer_cancels_once(admin_client: Client) -> None:
    batch = JobBatchFactory.create(pending=True, jobs=2)
    place = address(batch, "cancel")
    answer = asked(admin_client, place)

    twice = [admin_client.post(place, answer, follow=True) for _ in range(2)]

    assert [messages(told)[0].partition(":")[0] for told in twice] == ["success", "warning"]
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
    told = answered(admin_client, sent["Location"], reason="enough")

    assert "Cancel these batches with 2 jobs to go?" in shown
    assert "b 1 job a 1 job" in shown
    assert "These are left alone, because it is not possible for them as they stand: c" in shown
    assert told.redirect_chain == [(address(JobBatch, level="all"), 302)]
    assert messages(told) == ["success: 2 batches were cancelled."]
    assert [(name, said.partition(" ")[0]) for name, said in history()] == [
        *(("a", "Cancelled"), ("b", "Cancelled")),
    ]


# Retry


def test_a_retry_is_carried_out_told_and_kept_in_the_history(admin_client: Client) -> None:
    batch = JobBatchFactory.create(
        name="Import",
        failed=True,
        jobs=[S.SUCCEEDED, S.FAILED, S.CANCELLED, S.SKIPPED],
        roles=[Role.THEN],
    )
    place = address(batch, "retry")

    shown = text(admin_client.get(place))
    told = answered(admin_client, place, reason="fixed")
    batch.refresh_from_db()

    assert "Run 3 jobs of “Import” again?" in shown
    assert "its callbacks are called again as they apply: then: tests.jobs.add" in shown
    assert told.redirect_chain == [(address(batch), 302)]
    assert messages(told) == ["success: 3 jobs run again."]
    assert states(batch) == ["succeeded", "pending", "pending", "pending"]
    assert (batch.status, batch.run) == ("running", 2)
    assert history() == [("Import", "3 jobs run again. Reason: fixed")]


def test_a_batch_that_was_cancelled_is_retried_only_with_its_cancelled_jobs(
    admin_client: Client,
) -> None:
    batch = JobBatchFactory.create(cancelled=True, jobs=[S.FAILED, S.CANCELLED])
    place = address(batch, "retry")

    refused = answered(admin_client, place)
    unmoved = states(batch)
    told = answered(admin_client, place, include_cancelled="on")

    assert "This field is required." in text(refused)
    assert unmoved == ["failed", "cancelled"]
    assert messages(told) == ["success: 2 jobs run again."]
    assert states(batch) == ["pending", "pending"]


def test_among_several_batches_those_that_were_cancelled_stay_so_unless_ticked(
    admin_client: Client,
) -> None:
    failed = JobBatchFactory.create(failed=True, jobs=[S.FAILED])
    cancelled = JobBatchFactory.create(cancelled=True, jobs=[S.CANCELLED])
    place = address(JobBatch, "retry", ids=f"{failed.pk},{cancelled.pk}")

    told = answered(admin_client, place)

    assert messages(told) == ["success: 1 job runs again."]
    assert (states(failed), states(cancelled)) == (["pending"], ["cancelled"])


def test_an_answer_to_an_older_page_shows_the_page_again(admin_client: Client) -> None:
    batch = JobBatchFactory.create(failed=True, allow_failures=True, jobs=[S.FAILED] * 3)
    place = address(batch, "retry")
    answer = asked(admin_client, place) | {"reason": "fixed"}
    batch.retry(batch.jobs.all()[:1])
    JobBatch.objects.update(status="finished", outcome="partial", pending_jobs=0)

    again = admin_client.post(place, answer)
    told = admin_client.post(place, answer | asked(admin_client, place), follow=True)

    assert messages(again) == [
        "warning: It has moved on since this page was shown. These are the numbers now."
    ]
    assert "Run 2 jobs of" in text(again)
    assert 'value="fixed"' in again.content.decode()
    assert messages(told) == ["success: 2 jobs run again."]


def test_a_doubled_answer_retries_once(admin_client: Client) -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED])
    place = address(batch, "retry")
    answer = asked(admin_client, place)

    twice = [admin_client.post(place, answer, follow=True) for _ in range(2)]
    batch.refresh_from_db()

    assert [messages(told)[0].partition(":")[0] for told in twice] == ["success", "warning"]
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
    told = answered(admin_client, place)

    assert f'href="{place}"' in page
    assert "Run 1 job of “Import” again?" in shown
    assert str(job) in shown
    assert messages(told) == ["success: 1 job runs again."]
    assert states(batch) == ["pending", "failed"]


def test_the_last_failure_of_a_strict_batch_brings_back_what_it_stopped(
    admin_client: Client,
) -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED, S.CANCELLED, S.CANCELLED])
    place = address(batch, "retry", jobs=batch.jobs.failed().get().pk)

    shown = text(admin_client.get(place))
    told = answered(admin_client, place)

    assert "Run 3 jobs" in shown
    assert messages(told) == ["success: 3 jobs run again."]


def test_a_callback_that_failed_runs_again_alone(admin_client: Client) -> None:
    batch = JobBatchFactory.create(cancelled=True, jobs=[S.CANCELLED], roles=[Role.FINALLY])
    link = BatchedJobFactory.create(batch=batch, role=Role.FINALLY, run=1, status=S.FAILED)
    FailedJobFactory.create(job=link)
    page = admin_client.get(address(batch)).content.decode()
    place = address(batch, "retry", jobs=link.pk)

    told = answered(admin_client, place)
    link.refresh_from_db()

    assert f'href="{place}">Run again' in page
    assert messages(told) == ["success: 1 job runs again."]
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
    told = answered(admin_client, sent["Location"])
    refused = admin_client.post(address(model), every, follow=True)

    assert messages(told) == ["success: 2 jobs run again."]
    assert sorted(states(batch)) == ["failed", "pending", "pending"]
    assert messages(refused) == ["warning: Choose jobs of one batch that are still there."]


# Both


@pytest.mark.parametrize(
    ("verb", "trait", "status"), [("cancel", "running", S.PENDING), ("retry", "failed", S.FAILED)]
)
def test_many_jobs_want_a_box_ticked(
    admin_client: Client,
    verb: str,
    trait: str,
    status: LinkStatus,
    tuning: Tuning,
) -> None:
    tuning(CONFIRM_ABOVE=2)
    few = JobBatchFactory.create(**{trait: True}, jobs=[status] * 2)
    many = JobBatchFactory.create(**{trait: True}, jobs=[status] * 3)

    not_asked = answered(admin_client, address(few, verb))
    refused = answered(admin_client, address(many, verb))
    told = answered(admin_client, address(many, verb), understood="on")

    assert messages(not_asked)[0].startswith("success")
    assert "This field is required." in text(refused)
    assert messages(told)[0].startswith("success")


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_what_is_not_possible_leads_back_with_a_word(admin_client: Client, verb: str) -> None:
    batch = JobBatchFactory.create(finished=True, jobs=[S.SUCCEEDED])

    told = admin_client.get(address(batch, verb), follow=True)

    assert told.redirect_chain == [(address(batch), 302)]
    assert messages(told)[0].startswith(f"warning: There is nothing to {verb}")


def test_a_refusal_of_the_operation_is_told(admin_client: Client) -> None:
    held = JobBatchFactory.create(name="held", failed=True, jobs=[S.FAILED])
    JobBatch.objects.filter(pk=held.pk).update(options={"unique": "nightly"})
    JobBatchFactory.create(running=True, unique_key="nightly")

    told = answered(admin_client, address(held, "retry"))

    assert messages(told) == [
        "error: “held”: Another unfinished batch has the key 'nightly'; retry after it."
    ]
    assert (states(held), history()) == (["failed"], [])


@pytest.mark.parametrize(
    ("verb", "trait", "status"), [("cancel", "running", S.PENDING), ("retry", "failed", S.FAILED)]
)
def test_without_redis_it_is_done_all_the_same(
    admin_client: Client, redis_server: RedisServer, verb: str, trait: str, status: LinkStatus
) -> None:
    batch = JobBatchFactory.create(**{trait: True}, jobs=[status])
    redis_server.stop()

    told = answered(admin_client, address(batch, verb))

    assert messages(told)[0].startswith("success")
    assert states(batch) == (["cancelled"] if verb == "cancel" else ["pending"])


@pytest.mark.parametrize("verb", ["cancel", "retry"])
def test_to_look_and_to_send_without_the_token_changes_nothing(
    admin_client: Client, verb: str
) -> None:
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
def test_jobs_that_cannot_be_are_not_found(admin_client: Client, jobs_named: str) -> None:
    batch = JobBatchFactory.create(failed=True, jobs=[S.FAILED])

    answer = admin_client.get(address(batch, "retry", jobs=jobs_named))

    assert answer.status_code == 404


@pytest.mark.parametrize("query", ["", "?ids=", "?ids=x", f"?ids={'a' * 32}"])
def test_batches_that_are_not_there_are_not_found(admin_client: Client, query: str) -> None:
    answer = admin_client.get(address(JobBatch, "cancel") + query)

    assert answer.status_code == 404
