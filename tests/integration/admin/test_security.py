"""Pages escape the values of users and comply with a strict content security policy."""

from __future__ import annotations

import re

import pytest
from django.test import Client

from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.states import LinkStatus, Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory, signed
from tests.integration.admin.pages import address

pytestmark = pytest.mark.django_db(transaction=True)

EVIL = """<img src=x onerror="alert('x')">"""
ESCAPED = "&lt;img src=x onerror="


@pytest.fixture
def places() -> list[str]:
    """Addresses of all pages, for a batch whose names and texts are markup."""
    batch = JobBatchFactory.create(
        name=EVIL,
        running=True,
        allow_failures=True,
        jobs=[LinkStatus.FAILED, LinkStatus.PENDING],
        roles=[Role.FINALLY],
        cancelled_by=EVIL,
        cancel_reason=EVIL,
        queue=EVIL,
        meta={EVIL: EVIL},
    )
    call = signed(batch.pk, JobSpec(EVIL, (EVIL,), {EVIL: [EVIL]}))
    batch.callbacks[0]["payload"] = call
    batch.save()
    job = batch.jobs.failed().get()
    failure = FailedJobFactory.create(
        job=job, payload=call, exception_class=EVIL, message=EVIL, traceback=EVIL
    )
    link = BatchedJobFactory.create(
        batch=batch, role=Role.FINALLY, run=1, status=LinkStatus.FAILED, payload=call
    )
    FailedJobFactory.create(job=link, exception_class=EVIL, message=EVIL, traceback=EVIL)
    BatchedJob.objects.update(payload=call, result=f'"{EVIL}"', queue=EVIL)
    return [
        address(JobBatch),
        address(JobBatch, q=EVIL),
        address(batch),
        address(batch, "history"),
        address(batch, "cancel"),
        address(batch, "retry"),
        address(batch, "retry", jobs=job.pk),
        address(JobBatch, "cancel", ids=batch.pk),
        address(BatchedJob),
        address(BatchedJob, batch=batch.pk, status="failed"),
        address(job),
        address(FailedJob),
        address(FailedJob, batch=batch.pk, exception=EVIL),
        address(failure),
    ]


@pytest.mark.usefixtures("redis_server")
def test_markup_is_shown_as_text_everywhere(admin_client: Client, places: list[str]) -> None:
    cancel = places[4]
    admin_client.post(
        cancel, {"running": "finish", "reason": EVIL, "version": _version(admin_client, cancel)}
    )

    pages = {place: admin_client.get(place, follow=True).content.decode() for place in places}

    assert [place for place, page in pages.items() if "<img src=x" in page] == []
    assert [place for place, page in pages.items() if ESCAPED not in page] == []
    assert JobBatch.objects.get().cancel_reason == EVIL


def test_no_page_has_an_inline_script_style_or_handler(
    admin_client: Client, places: list[str]
) -> None:
    pages = {place: admin_client.get(place).content.decode() for place in places}

    found = {
        place: re.findall(r"<style|<script(?![^>]* src=)|<[^>]+ (?:style|on\w+)=", _without(page))
        for place, page in pages.items()
    }

    assert found == {place: [] for place in places}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param(f"x:{'[' * 100_000}", id="deep"),
        'x:{"f":[],"a":[],"k":{}}',
        'x:{"f":"a.b","a":[{"$":"decimal","v":"?"}],"k":{}}',
    ],
)
def test_a_call_that_cannot_be_read_breaks_no_page(
    admin_client: Client, places: list[str], text: str
) -> None:
    BatchedJob.objects.update(payload=text)
    FailedJob.objects.update(payload=text)
    batch = JobBatch.objects.get()
    batch.callbacks[0]["payload"] = text
    batch.options["progress"] = [text]
    batch.save()

    codes = [admin_client.get(place, follow=True).status_code for place in places]

    assert codes == [200] * len(places)


def _version(client: Client, place: str) -> str:
    found = re.search(r'name="version" value="([^"]*)"', client.get(place).content.decode())
    assert found
    return found[1]


def _without(page: str) -> str:
    """Return the page without attribute values, where markup is text."""
    return re.sub(r'"[^"]*"', '""', page)
