"""Long and odd text from elsewhere: cut on the pages, with the rest on demand."""

from __future__ import annotations

import re

import pytest
from django.contrib import admin
from django.test import Client
from pytest_django import Settings

from django_jobbatch.admin import JobBatchAdmin
from django_jobbatch.models import BatchedJob, JobBatch
from django_jobbatch.snapshot import display_call
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.states import LinkStatus, Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory, signed
from tests.integration.admin.pages import address, text

pytestmark = pytest.mark.django_db

LONG = "<b>&" + "word " * 2500 + "the end"
ESCAPED_END = "the end"


def visible(page: str) -> str:
    """Return the page without what closed details hide."""
    page = re.sub(r"<pre class=\"jb-pre jb-whole\".*?</pre>", "", page, flags=re.DOTALL)
    return re.sub(r"<title>.*?</title>", "", page, flags=re.DOTALL)


def test_a_long_reason_is_cut_and_shown_on_demand(admin_client: Client) -> None:
    batch = JobBatchFactory.create(cancelled=True, cancelled_by="p" * 150, cancel_reason=LONG)

    page = admin_client.get(address(batch)).content.decode()

    assert "<b>" not in page
    assert ESCAPED_END not in visible(page)
    assert page.count(ESCAPED_END) == 1
    assert f"Show all {len(LONG):,} characters" in page


def test_long_messages_and_results_are_cut_and_shown_on_demand(admin_client: Client) -> None:
    batch = JobBatchFactory.create(
        finished=True, allow_failures=True, jobs=[LinkStatus.FAILED], roles=[Role.FINALLY]
    )
    job = batch.jobs.get()
    BatchedJob.objects.update(result=f'"{LONG}"')
    callback = BatchedJobFactory.create(
        batch=batch, role=Role.FINALLY, run=1, status=LinkStatus.FAILED, lane=0
    )
    failures = [
        FailedJobFactory.create(job=each, batch=batch, message=LONG, traceback="")
        for each in (job, callback)
    ]

    pages = {
        place: admin_client.get(place).content.decode()
        for place in map(address, (batch, job, *failures))
    }

    assert [place for place, page in pages.items() if ESCAPED_END in visible(page)] == []
    assert [page.count(ESCAPED_END) for page in pages.values()] == [1, 2, 1, 1]
    assert [place for place, page in pages.items() if "<b>" in page] == []


def test_short_texts_are_shown_whole(admin_client: Client) -> None:
    batch = JobBatchFactory.create(cancelled=True, cancel_reason="wrong file")
    failure = FailedJobFactory.create(message="failed on purpose")

    pages = [admin_client.get(address(row)) for row in (batch, failure)]

    assert ["Show all" in text(page) for page in pages] == [False, False]
    assert "wrong file" in text(pages[0])
    assert "failed on purpose" in text(pages[1])


ODD = "\\ud800"


def test_half_a_surrogate_pair_in_json_breaks_no_page(admin_client: Client) -> None:
    """SQLite and MariaDB store JSON as text, so it may contain an escape of one."""
    batch = JobBatchFactory.create(running=True, jobs=[LinkStatus.FAILED], roles=[Role.FINALLY])
    job = batch.jobs.get()
    failure = FailedJobFactory.create(job=job)
    call = signed(batch.pk, JobSpec("a.b", ("x",), {"y": "z"}))
    head, _, body = call.partition(":{")
    odd = f"{head}:{{{body}".replace('"a.b"', f'"a.{ODD}"').replace('"y"', f'"{ODD}"')
    assert odd.count(ODD) == 2
    BatchedJob.objects.update(payload=odd)
    type(failure).objects.update(payload=odd)
    batch.meta = {"\ud800": "\udfff\x00"}
    batch.queues = ["\ud800"]
    batch.options["unique"] = "\ud800"
    batch.options["progress"] = [odd]
    batch.callbacks[0]["payload"] = odd
    assert display_call(odd).path == "a.\\ud800"
    assert [name for name, _ in display_call(odd).arguments] == ["1", "\\ud800"]
    pages = [admin_client.get(address(row)) for row in (job, failure)]
    pages += [admin_client.get(address(model)) for model in (BatchedJob, type(failure))]
    assert [page.status_code for page in pages] == [200] * 4
    request = pages[0].wsgi_request
    context = JobBatchAdmin(JobBatch, admin.site).get_context(request, batch)
    for value in (context["meta"], context["queues"], str(context["options"])):
        value.encode()
    for state in context["callbacks"]:
        state.path.encode()


@pytest.mark.parametrize("verb", ["cancel", "retry"])
@pytest.mark.parametrize("language", ["de", "fr", "es"])
def test_the_buttons_of_a_question_are_in_one_language(
    admin_client: Client, settings: Settings, verb: str, language: str
) -> None:
    settings.LANGUAGE_CODE = language
    state = {"cancel": "running", "retry": "failed"}[verb]
    batch = JobBatchFactory.create(**{state: True}, jobs=[LinkStatus.FAILED, LinkStatus.PENDING])

    page = admin_client.get(address(batch, verb)).content.decode()

    # Django's own German words for "No, take me back" say "No, please cancel".
    assert re.findall(r'class="jb-back">([^<]+)<', page) == ["No, change nothing"]
    assert f'value="Yes, {verb}"' in page
