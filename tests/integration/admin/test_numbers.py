"""Numbers in addresses, attributes and forms are the same in every language."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from django.test import Client
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.formats import number_format
from django.utils.translation import override
from pytest_django import Settings

import django_jobbatch
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from django_jobbatch.states import LinkStatus, Role
from tests.factories import BatchedJobFactory, FailedJobFactory, JobBatchFactory
from tests.integration.admin.pages import Answer, address

pytestmark = pytest.mark.django_db

NUMBER = 1234567
#: Attributes with text for people, where numbers follow the language.
FOR_PEOPLE = {"aria-label", "aria-valuetext", "title", "alt", "placeholder", "summary"}
#: Attributes of icons, which no variable is part of.
IN_ICONS = {"d", "viewbox", "transform", "patterntransform"}
#: Attributes whose value is one number, perhaps in percent.
NUMERIC = {
    *("width", "height", "x", "y", "aria-valuemin", "aria-valuemax", "aria-valuenow"),
    *("colspan", "rowspan", "maxlength", "minlength", "min", "max", "step", "size", "tabindex"),
    *("data-actions-icnt", "stroke-width"),
}
#: A number with a thousand separator of any language.
SEPARATED = re.compile("[0-9][.,'\\s\\u00a0\\u202f\\u2019\\u066b\\u066c][0-9]{3}(?![0-9])")
#: Parameters of addresses whose value is one number.
NUMBERS_IN_ADDRESSES = {"jobs", "p", "o", "_popup"}


class Attributes(HTMLParser):
    """The attributes of a page."""

    def __init__(self, page: Answer) -> None:
        super().__init__()
        self.found: list[tuple[str, str, str]] = []
        self.feed(page.content.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [(tag, name, value or "") for name, value in attrs]


@pytest.fixture
def places() -> list[str]:
    """Addresses of all pages, for rows whose ids and counts have seven digits."""
    batch = JobBatchFactory.create(
        running=True, allow_failures=True, roles=[Role.FINALLY], started_at=timezone.now()
    )
    job = BatchedJobFactory.create(id=NUMBER, batch=batch, status=LinkStatus.FAILED, lane=NUMBER)
    link = BatchedJobFactory.create(
        id=NUMBER + 1, batch=batch, role=Role.FINALLY, run=1, lane=0, status=LinkStatus.FAILED
    )
    stand_in = BatchedJobFactory.create(id=NUMBER + 2, batch=batch, status=LinkStatus.RUNNING)
    child = JobBatchFactory.create(
        name="child", running=True, parent=stand_in, root=batch, jobs=2, total_jobs=0
    )
    BatchedJob.objects.filter(pk=stand_in.pk).update(child=child)
    failures = [FailedJobFactory.create(job=each, batch=batch) for each in (job, link)]
    JobBatch.objects.filter(pk=batch.pk).update(
        total_jobs=3 * NUMBER,
        pending_jobs=NUMBER,
        failed_jobs=NUMBER,
        cancelled_jobs=7,
        child_batches=1,
        version=NUMBER,
    )
    BatchedJob.objects.update(attempts=NUMBER, result="1")
    BatchedJobFactory.create_batch(60, batch=batch, status=LinkStatus.FAILED)
    return [
        address(JobBatch),
        address(JobBatch, _facets="True", level="all"),
        address(JobBatch, _popup=1),
        *(address(row) for row in (batch, child, job, link, stand_in, *failures)),
        address(batch, "history"),
        address(batch, "cancel"),
        address(child, "cancel"),
        address(batch, "retry"),
        address(batch, "retry", jobs=f"{job.pk},{link.pk}"),
        address(JobBatch, "cancel", ids=f"{batch.pk},{child.pk}"),
        address(BatchedJob),
        address(BatchedJob, batch=batch.pk, status="failed"),
        address(BatchedJob, q=job.pk),
        address(FailedJob),
        address(FailedJob, batch=batch.pk),
    ]


@pytest.mark.parametrize("language", ["de", "ar", "fa", "en", "hi", "de-ch"])
def test_no_number_in_an_attribute_follows_the_language(
    admin_client: Client, places: list[str], settings: Settings, language: str
) -> None:
    settings.LANGUAGE_CODE = language
    settings.USE_THOUSAND_SEPARATOR = True
    settings.NUMBER_GROUPING = 3  # for languages whose formats name none
    with override(language):
        localized = number_format(NUMBER, use_l10n=True, force_grouping=True)
    assert localized != str(NUMBER)

    for place in places:
        page = admin_client.get(place)
        assert page.status_code == 200, place
        for tag, name, value in Attributes(page).found:
            assert _is_neutral(name, value), (place, tag, name, value)
            assert not (tag == "input" and localized in value), (place, tag, name, value)


@pytest.mark.parametrize("language", ["de", "ar", "fa"])
def test_every_address_on_a_page_exists(
    admin_client: Client, places: list[str], settings: Settings, language: str
) -> None:
    settings.LANGUAGE_CODE = language
    settings.USE_THOUSAND_SEPARATOR = True
    links = set()
    for place in places:
        for tag, name, value in Attributes(admin_client.get(place)).found:
            if (tag, name) == ("a", "href") and value.startswith("/admin/django_jobbatch"):
                links.add(value)

    codes = {link: admin_client.get(link).status_code for link in sorted(links)}

    assert {link for link, code in codes.items() if code != 200} == set()
    assert any(f"jobs={NUMBER}" in link for link in links)


def test_a_chosen_row_has_its_id_as_value(
    admin_client: Client, places: list[str], settings: Settings
) -> None:
    settings.LANGUAGE_CODE = "de"
    settings.USE_THOUSAND_SEPARATOR = True

    found = Attributes(admin_client.get(address(BatchedJob, q=NUMBER))).found

    values = [after[2] for before, after in pairwise(found) if before[2] == "_selected_action"]
    assert values == [str(NUMBER)]


@pytest.mark.parametrize(
    "path",
    sorted(Path(django_jobbatch.__file__).parent.glob("templates/**/*.html")),
    ids=lambda path: "/".join(path.parts[-2:]),
)
def test_each_value_in_an_attribute_of_a_template_is_text(path: Path) -> None:
    """A variable in an attribute is a word, an address, or goes through one of these filters."""
    words = {"state", "segment.status", "cl.first_url", "cl.previous_url", "cl.next_url"}
    words |= {"show_all_url", "back_url", "jobs_url", "failures_url", "field.auto_id"}
    words |= {"batch.pk", "opts.app_label", "opts.model_name"}  # a UUID and two names
    filters = r"\|(?:unlocalize|admin_urlquote|urlencode:''|date:'[^']+'|format_count)$"

    template = re.sub(r"{% (?:block)?translate.*?%}|{% blocktranslate .*?%}", "", path.read_text())
    for attribute in re.findall(r'[\w-]+="[^"]*{{[^"]*"', template):
        for value in re.findall(r"{{\s*(.*?)\s*}}", attribute):
            if attribute.startswith(("aria-label=", "aria-valuetext=", "title=")):
                continue
            assert value in words or re.search(filters, value), attribute


def _numbers(url: str) -> list[str]:
    parts = urlsplit(url)
    query = parse_qs(parts.query)
    numbers = [value for name in NUMBERS_IN_ADDRESSES for value in query.get(name, [])]
    return numbers + re.findall(r"/batchedjob/([^/]+)/change/", parts.path)


def _is_neutral(name: str, value: str) -> bool:
    """Return whether each number in the value of an attribute is written as in every language."""
    if name in NUMERIC:
        return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?(%|px|rem)?", value) is not None
    if name == "datetime":
        return parse_datetime(value) is not None
    if name in {"href", "action", "src"}:
        return all(re.fullmatch("[-0-9.,]+", number) for number in _numbers(value))
    return name in {*FOR_PEOPLE, *IN_ICONS} or SEPARATED.search(value) is None
