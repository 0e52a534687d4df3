"""Text from elsewhere: enums, translations, and characters that no database stores."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from enum import Enum, IntEnum, StrEnum
from typing import Any

import pytest
from django.core.exceptions import ValidationError
from django.db import models
from django.utils import translation
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from django_rq import job as django_rq_job

from django_jobbatch import InvalidOption, UnencodableArgument, bus
from django_jobbatch.models import BatchedJob, FailedJob, JobBatch
from tests import jobs
from tests.integration.management.calling import manage
from tests.integration.tickets import work_on_all
from tests.jobs import ADD

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("redis_server"),
]


class Kind(str, Enum):  # noqa: UP042 - the str() of a member is "Kind.QUEUE"
    QUEUE = "slow"
    ALIAS = "default"


class Text(StrEnum):
    QUEUE = "slow"
    ALIAS = "default"


class Choice(models.TextChoices):
    QUEUE = "slow", gettext_lazy("No")
    ALIAS = "default", gettext_lazy("Yes")


class Number(IntEnum):
    THREE = 3


ENUMS = [Kind, Text, Choice]

#: Characters that a file name or a message of a C library may have.
ODD, STORED = "caf\udce9\x00.csv", "caf\\udce9\\x00.csv"


def read(batch: JobBatch) -> JobBatch:
    return JobBatch.objects.get(pk=batch.pk)


@pytest.mark.parametrize("kind", ENUMS)
def test_a_member_of_an_enum_is_its_value_everywhere(kind: Any) -> None:
    builder = (
        bus.batch([ADD.options(description=kind.QUEUE, retry=Number.THREE)])
        .named(kind.QUEUE)
        .unique(kind.QUEUE)
        .using(kind.ALIAS)
        .on_queue(kind.QUEUE)
        .with_meta(state=kind.QUEUE, all={kind.QUEUE: [kind.ALIAS, Number.THREE]})
        .then(jobs.shown)
        .callback_options(queue=kind.QUEUE)
    )
    batch = read(builder.dispatch())
    found, key = builder.dispatch(), batch.unique_key
    batch.cancel(kind.QUEUE, by=kind.ALIAS)

    link = BatchedJob.objects.get()
    assert (batch.name, key, found.existed) == ("slow", "slow", True)
    assert (batch.queue, batch.queues, link.queue) == ("slow", ["slow"], "slow")
    assert batch.meta == {"state": "slow", "all": {"slow": ["default", 3]}}
    assert link.options == {"retry": 3, "description": "slow"}
    assert batch.callbacks[0]["queue"] == "slow"
    assert (batch.cancel_reason, batch.cancelled_by) == ("slow", "default")


class Path(str, Enum):  # noqa: UP042 - the str() of a member is "Path.ADD"
    ADD = "tests.jobs.add"


@django_rq_job(Kind.QUEUE)
def decorated() -> None:
    """A job whose queue is a member of an enum, which has a name of its own."""


def test_a_path_and_the_queue_of_a_decorator_may_be_members_too() -> None:
    batch = bus.batch([bus.job(Path.ADD, 1, 2), bus.job(decorated)]).dispatch()

    by_path, by_decorator = batch.jobs.order_by("lane")
    assert (by_path.func, batch.name) == ("tests.jobs.add", "tests.jobs.add")
    assert by_decorator.queue == "slow"


def test_a_translation_is_text_in_the_language_of_the_call() -> None:
    no = gettext_lazy("No")
    with translation.override("de"):
        batch = bus.batch([ADD]).named(no).with_meta(answer=no, all=[no]).dispatch()
        batch.cancel(no, by=no)

    stored = read(batch)
    assert (stored.name, stored.meta) == ("Nein", {"answer": "Nein", "all": ["Nein"]})
    assert (stored.cancel_reason, stored.cancelled_by) == ("Nein", "Nein")


@pytest.mark.parametrize(
    ("name", "build"),
    [
        ("unique", lambda text: bus.batch([ADD]).unique(text)),
        ("using", lambda text: bus.batch([ADD]).using(text)),
        ("queue", lambda text: bus.batch([ADD]).on_queue(text)),
        ("queue", lambda text: ADD.options(queue=text)),
    ],
    ids=["unique", "using", "on_queue", "options"],
)
def test_a_key_is_no_translation(name: str, build: Callable[[object], object]) -> None:
    with pytest.raises(InvalidOption) as caught:
        build(gettext_lazy("No"))

    assert str(caught.value) == (
        f"{name}='No': pass text (str); a translation differs between languages."
    )


def test_text_for_people_is_escaped_where_no_database_stores_it() -> None:
    batch = bus.batch([ADD.options(description=ODD)]).named(ODD).dispatch()
    batch.cancel(ODD, by=ODD)

    stored = read(batch)
    assert (stored.name, stored.cancel_reason, stored.cancelled_by) == (STORED, STORED, STORED)
    assert stored.jobs.get().options == {"description": STORED}


def test_an_error_is_a_reason() -> None:
    batch = bus.batch([ADD]).dispatch()

    batch.cancel(ValidationError("no such file: caf\udce9"), by=mark_safe("<b>Ann</b>"))

    stored = read(batch)
    assert stored.cancel_reason == "['no such file: caf\\udce9']"
    assert stored.cancelled_by == "<b>Ann</b>"


def test_no_reason_and_no_person_are_empty_text() -> None:
    batch = bus.batch([ADD]).dispatch()

    batch.cancel(None, by=None)

    assert (read(batch).cancel_reason, read(batch).cancelled_by) == ("", "")


def test_long_text_is_cut_where_it_describes_and_rejected_where_it_identifies() -> None:
    batch = bus.batch([ADD]).dispatch()
    batch.cancel("r" * 10**6, by="\x00" * 10**6)

    stored = read(batch)
    assert stored.cancel_reason == "r" * 9_999 + "…"
    assert stored.cancelled_by == ("\\x00" * 38)[:149] + "…"
    for name, build in {"unique": bus.batch().unique, "name": bus.batch().named}.items():
        with pytest.raises(InvalidOption, match=f"^{name}='x+…: pass text of 1 to 255 characters"):
            build("x" * 256)


@pytest.mark.parametrize(
    ("meta", "where"),
    [
        ({"file": ODD}, r"meta\['file'\]"),
        ({"files": [{"name": ODD}]}, r"meta\['files'\]\[0\]\['name'\]"),
        ({"by name": {ODD: 1}}, r"meta\['by name'\]\['caf.*'\]"),
        ({ODD: 1}, r"meta\['caf.*'\]"),
    ],
)
def test_data_that_a_database_rejects_or_changes_is_rejected(
    meta: dict[str, Any], where: str
) -> None:
    with pytest.raises(UnencodableArgument, match=f"^{where}: text with NUL characters or surr"):
        bus.batch([ADD]).with_meta(**meta)


def nested(levels: int) -> dict[str, Any]:
    data: dict[str, Any] = {}
    for _ in range(levels - 1):
        data = {"inner": data}
    return data


def test_meta_has_as_many_levels_as_every_database_stores() -> None:
    batch = bus.batch([ADD]).with_meta(**nested(30)).dispatch()

    assert read(batch).meta == nested(30)
    with pytest.raises(UnencodableArgument) as caught:
        bus.batch([ADD]).with_meta(**nested(31))
    assert str(caught.value) == (
        "meta: a value that contains itself or has more than 30 levels cannot be stored as JSON;"
        " pass flat data"
    )


@pytest.mark.parametrize(
    ("name", "stored"), [(ODD, f"tests.jobs.{STORED}"), ("N" * 300, f"tests.jobs.{'N' * 244}")]
)
def test_the_class_of_an_exception_may_have_any_name(
    caplog: pytest.LogCaptureFixture, name: str, stored: str
) -> None:
    caplog.set_level(logging.CRITICAL, "django_jobbatch")  # xdist passes on no surrogates
    bus.batch([bus.job(jobs.raise_named, name)]).dispatch()

    work_on_all()

    assert FailedJob.objects.get().exception_class == stored


# Commands


def test_a_reason_of_the_shell_that_is_not_utf8_is_escaped() -> None:
    batch = bus.batch([ADD]).dispatch()

    answer = manage("cancel_batch", str(batch.pk), "--reason", "caf\udce9")

    assert answer == (f"{batch.pk} is cancelled: 1 job cancelled.\n", "", 0)
    assert read(batch).cancel_reason == "caf\\udce9"


def test_a_long_reason_is_cut_in_the_output_and_whole_in_json() -> None:
    batch = bus.batch([ADD]).dispatch()
    batch.cancel("because " * 500)

    shown = manage("show_batch", str(batch.pk))
    as_json = manage("show_batch", str(batch.pk), "--json")

    (line,) = [line for line in shown.out.splitlines() if "reason" in line]
    assert line.endswith("…")
    assert len(line) < 1_050
    assert json.loads(as_json.out)["cancel_reason"] == "because " * 500


def test_a_name_is_found_by_the_bytes_that_it_was_given() -> None:
    batch = bus.batch([ADD]).named("caf\udce9").dispatch()

    found = manage("list_batches", "--name", "caf\udce9")

    assert str(batch.pk)[:8] in found.out
    assert manage("list_batches", "--name", "a\x00").out == "There are no batches.\n"
