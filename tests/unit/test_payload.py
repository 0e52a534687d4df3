"""Values and calls: exact round trips, and errors for values that cannot be stored."""

from __future__ import annotations

import dataclasses
import enum
import io
import json
import uuid
from collections import OrderedDict, defaultdict, deque, namedtuple
from datetime import UTC, date, datetime, time, timedelta, timezone, tzinfo
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import User
from django.core.files.base import ContentFile
from django.core.signing import Signer
from django.db import models
from django.utils.functional import SimpleLazyObject
from django.utils.safestring import mark_safe
from django.utils.translation import gettext_lazy
from hypothesis import given
from hypothesis import strategies as st
from pytest_django import Settings

from django_jobbatch import payload
from django_jobbatch.exceptions import PayloadRefused, UnencodableArgument
from django_jobbatch.payload import Call, CallSigner, encoding, plain_json
from django_jobbatch.payload.errors import EncodingError
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.states import Role

BATCH = uuid.UUID("0198c1f0-0000-7000-8000-000000000001")
PARIS = ZoneInfo("Europe/Paris")


class Color(models.TextChoices):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Plain(enum.Enum):
    ONE = 1


class Name(enum.StrEnum):
    ANN = "ann"


class Text(str):
    __slots__ = ()


class FrozenDatetime(datetime):
    """A datetime class of a library that freezes the clock."""


class Nanoseconds(datetime):
    """A datetime with nanoseconds."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nanoseconds) and super().__eq__(other)

    __hash__ = datetime.__hash__


class Odd(Decimal):
    def __str__(self) -> str:
        return "odd"


class OtherZone(tzinfo):
    def utcoffset(self, _moment: datetime | None) -> timedelta:
        return timedelta(hours=1)

    def tzname(self, _moment: datetime | None) -> str:
        return "Other"

    def dst(self, _moment: datetime | None) -> None:
        return None

    def __repr__(self) -> str:
        return "OtherZone()"


@dataclasses.dataclass
class Point:
    x: int


Pair = namedtuple("Pair", "left right")


class Items(list[int]):
    """A subclass of list."""


class Couple(tuple[int, int]):
    __slots__ = ()


def nested(levels: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(levels - 1):
        value = [value]
    return value


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def exactly(value: object) -> object:
    """Return `value` with its types, in a form in which 1, 1.0 and True differ."""
    if isinstance(value, dict):
        return [(key, exactly(item)) for key, item in value.items()]
    if isinstance(value, list | tuple):
        return type(value), [exactly(item) for item in value]
    if isinstance(value, datetime | time):
        return type(value), value.replace(tzinfo=None), value.fold, zone(value)
    return type(value), repr(value)


def zone(value: datetime | time) -> object:
    return value.tzinfo if isinstance(value.tzinfo, ZoneInfo) else value.utcoffset()


# Single surrogates are stored. Two that form a character are rejected: see the errors.
texts = st.text(st.characters()) | st.text(st.characters(categories=["Cs"]), max_size=1)
zones = (
    st.none()
    | st.timezones()
    | st.just(UTC)
    | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(timezone)
)
folds = st.sampled_from([0, 1])
scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | texts
    | st.dates()
    | st.builds(time.replace, st.times(timezones=zones), fold=folds)
    | st.builds(datetime.replace, st.datetimes(timezones=zones), fold=folds)
    | st.timedeltas()
    | st.uuids()
    | st.decimals()
)
keys = texts | st.sampled_from(["$", "v"])
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(keys, inner),
    max_leaves=20,
)


@given(values)
def test_every_stored_value_is_restored_exactly(value: object) -> None:
    text = payload.dumps(value, "value")

    assert text.isascii()
    assert "\x00" not in text
    assert exactly(payload.loads(text)) == exactly(value)


@given(st.lists(values).map(tuple), st.dictionaries(keys, values))
def test_every_stored_call_is_restored_exactly(
    args: tuple[Any, ...], kwargs: dict[str, Any]
) -> None:
    seal = CallSigner(BATCH, Role.JOB)

    call = seal.unsign(seal.sign(JobSpec("shop.jobs.sync", args, kwargs), "job 0"))

    assert call.path == "shop.jobs.sync"
    assert exactly(call.args) == exactly(args)
    assert exactly(call.kwargs) == exactly(kwargs)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "null"),
        (1.0, "1.0"),
        ("é\x00\ud800", r'"\u00e9\u0000\ud800"'),
        ({"b": 1, "a": [True]}, '{"b":1,"a":[true]}'),
        ((1, 2), '{"$":"tuple","v":[1,2]}'),
        ({"$": 1}, '{"$":"dict","v":{"$":1}}'),
        (BATCH, '{"$":"uuid","v":"0198c1f0-0000-7000-8000-000000000001"}'),
        (Decimal("1.10"), '{"$":"decimal","v":"1.10"}'),
        (date(2026, 11, 1), '{"$":"date","v":"2026-11-01"}'),
        (time(8, 30), '{"$":"time","v":"08:30:00"}'),
        (timedelta(hours=-1), '{"$":"timedelta","v":[-1,82800,0]}'),
        (
            datetime(2026, 11, 1, tzinfo=UTC),
            '{"$":"datetime","v":"2026-11-01T00:00:00","offset":0.0}',
        ),
        (
            datetime(2026, 10, 25, 2, 30, tzinfo=PARIS, fold=1),
            '{"$":"datetime","v":"2026-10-25T02:30:00","tz":"Europe/Paris","fold":1}',
        ),
    ],
)
def test_the_text_of_a_value_is_canonical(value: object, text: str) -> None:
    assert payload.dumps(value, "value") == text


@pytest.mark.parametrize(
    ("value", "stored"),
    [
        (mark_safe("<b>"), "<b>"),
        (Text("text"), "text"),
        (FrozenDatetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)),
        ({Text("key"): 1}, {"key": 1}),
    ],
)
def test_a_subclass_of_a_scalar_is_stored_as_the_scalar(value: object, stored: object) -> None:
    back = payload.loads(payload.dumps(value, "value"))

    assert exactly(back) == exactly(stored)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (Color.RED, "a member of the enum Color cannot be stored as JSON; pass .value"),
        (Level.LOW, "a member of the enum Level cannot be stored as JSON; pass .value"),
        (Plain.ONE, "a member of the enum Plain cannot be stored as JSON; pass .value"),
        (Name.ANN, "a member of the enum Name cannot be stored as JSON; pass .value"),
        (User(), "a model instance (User) cannot be stored as JSON; pass .pk"),
        (
            SimpleLazyObject(User),
            "a model instance (SimpleLazyObject) cannot be stored as JSON; pass .pk",
        ),
        (
            User.objects.none(),
            "a QuerySet cannot be stored as JSON; pass list(qs.values_list('pk', flat=True))",
        ),
        (gettext_lazy("yes"), "a lazy translation cannot be stored as JSON; pass str(x)"),
        ({1}, "a set cannot be stored as JSON; pass a list"),
        (frozenset(), "a frozenset cannot be stored as JSON; pass a list"),
        (b"x", "a bytes cannot be stored as JSON; pass text, e.g. base64"),
        (io.StringIO(), "a file (StringIO) cannot be stored as JSON; pass its path or name"),
        (
            ContentFile("x"),
            "a file (ContentFile) cannot be stored as JSON; pass its path or name",
        ),
        (User, "a class cannot be stored as JSON; pass its dotted path"),
        (Point(1), "a dataclass (Point) cannot be stored as JSON; pass dataclasses.asdict(x)"),
        (
            Pair(1, 2),
            "a named tuple (Pair) cannot be stored as JSON; pass tuple(x) or x._asdict()",
        ),
        (
            len,
            "a callable (builtin_function_or_method) cannot be stored as JSON; "
            "pass its dotted path",
        ),
        (iter([]), "an iterator (list_iterator) cannot be stored as JSON; pass list(x)"),
        (
            (None for _ in range(0)),
            "an iterator (generator) cannot be stored as JSON; pass list(x)",
        ),
        (
            OrderedDict(),
            "a mapping of type OrderedDict cannot be stored as JSON; pass dict(x)",
        ),
        (
            defaultdict(int),
            "a mapping of type defaultdict cannot be stored as JSON; pass dict(x)",
        ),
        (Couple((1, 2)), "a tuple of type Couple cannot be stored as JSON; pass tuple(x)"),
        (Items(), "a collection of type Items cannot be stored as JSON; pass list(x)"),
        (deque(), "a collection of type deque cannot be stored as JSON; pass list(x)"),
        (range(2), "a collection of type range cannot be stored as JSON; pass list(x)"),
        (
            object(),
            "an object of type object cannot be stored as JSON; "
            "pass plain values: text, numbers, lists, dicts",
        ),
        (float("nan"), "the float nan cannot be stored as JSON; pass None or text"),
        (float("-inf"), "the float -inf cannot be stored as JSON; pass None or text"),
        pytest.param(
            10**4300,
            "an integer of more than 4300 digits cannot be stored as JSON; pass hex(x)",
            id="a very long integer",
        ),
        ({1: 2}, "a dict with the key 1 cannot be stored as JSON; pass text as keys"),
        (
            {Color.RED: 2},
            "a dict with the key Color.RED cannot be stored as JSON; pass text as keys",
        ),
        (
            {tuple(range(99)): 2},
            "a dict with the key (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, … "
            "cannot be stored as JSON; pass text as keys",
        ),
        (
            "\ud83d\ude00",
            "text with a character in two halves (surrogates) cannot be stored as JSON; "
            "pass it repaired",
        ),
        (
            Nanoseconds(2026, 1, 1, tzinfo=UTC),
            "a Nanoseconds, which holds more than a datetime, cannot be stored as JSON; "
            "pass a datetime",
        ),
        (
            Odd(1),
            "a Odd, which holds more than a Decimal, cannot be stored as JSON; pass a Decimal",
        ),
        (
            datetime(2026, 1, 1, tzinfo=OtherZone()),
            "a time in the zone OtherZone() cannot be stored as JSON; "
            "pass it in UTC or in a ZoneInfo that has a key",
        ),
    ],
)
def test_a_value_that_cannot_be_stored_is_rejected_with_a_hint(value: object, message: str) -> None:
    with pytest.raises(UnencodableArgument) as caught:
        payload.dumps(value, "the value")

    assert str(caught.value) == f"the value: {message}"


@pytest.mark.parametrize("key", [None, "No/Such", "Europe", ""])
def test_a_zone_that_no_worker_finds_by_its_key_is_rejected(key: str | None) -> None:
    with ZoneFile() as file:
        moment = datetime(2026, 1, 1, tzinfo=ZoneInfo.from_file(file, key=key))

        with pytest.raises(UnencodableArgument, match="a time in the zone"):
            payload.dumps(moment, "the value")


def ZoneFile() -> io.BytesIO:  # noqa: N802 - reads as the file that it represents
    """The shortest file of a time zone: UTC, of the first version."""
    header = b"TZif" + b"\x00" * 16 + b"".join(n.to_bytes(4, "big") for n in (0, 0, 0, 0, 1, 4))
    return io.BytesIO(header + b"\x00" * 6 + b"UTC\x00")


def test_an_error_names_the_job_the_argument_and_the_path_in_it() -> None:
    rows = [{}, {}, {}, {"when": {1}}]
    job = JobSpec("shop.jobs.sync", (1, rows), {})

    with pytest.raises(UnencodableArgument) as caught:
        CallSigner(BATCH, Role.JOB).sign(job, "job 3 (shop.jobs.sync)")

    assert str(caught.value) == (
        "job 3 (shop.jobs.sync), argument 2[3]['when']: a set cannot be stored as JSON; pass a list"
    )


def test_an_error_names_a_keyword_and_the_path_in_it() -> None:
    job = JobSpec("shop.jobs.sync", (), {"rows": ({"when": ({1},)},)})

    with pytest.raises(UnencodableArgument) as caught:
        CallSigner(BATCH, Role.JOB).sign(job, "job 3 (shop.jobs.sync)")

    assert str(caught.value) == (
        "job 3 (shop.jobs.sync), argument 'rows'[0]['when'][0]: "
        "a set cannot be stored as JSON; pass a list"
    )


def test_values_go_as_deep_as_the_limit() -> None:
    deepest = nested(encoding.MAX_DEPTH)

    assert payload.loads(payload.dumps(deepest, "value")) == deepest


@pytest.mark.parametrize("value", [nested(encoding.MAX_DEPTH + 1), circular()])
def test_a_value_with_too_many_levels_or_itself_in_it_is_rejected(value: object) -> None:
    with pytest.raises(UnencodableArgument) as caught:
        payload.dumps(value, "the value")

    assert str(caught.value) == (
        "the value[0][0][0][0][0][0][0][0]...: a value that contains itself or has more than "
        "64 levels cannot be stored as JSON; pass flat data"
    )


def test_a_tag_of_a_newer_version_is_rejected() -> None:
    with pytest.raises(PayloadRefused) as caught:
        payload.loads('[{"$": "complex", "v": [1, 2]}]')

    assert str(caught.value) == (
        "The stored value has the unknown type tag 'complex'; a newer django-jobbatch wrote it."
    )


JOB = JobSpec("shop.jobs.sync", (7,), {"$": (1,)})
REJECTION = (
    "The stored call was not signed by this application for this batch and role, so it was not"
    " run. If SECRET_KEY has changed since the dispatch, put the former key into"
    " SECRET_KEY_FALLBACKS and retry the job."
)
CONTENT = '{"f":"shop.jobs.sync","a":[7],"k":{"$":{"$":"tuple","v":[1]}}}'


def test_a_packed_call_is_its_signature_and_its_json() -> None:
    signature = Signer(salt=payload.SALT).signature(f"{BATCH.hex}:job:{CONTENT}")

    assert CallSigner(BATCH, Role.JOB).sign(JOB, "job 0") == f"{signature}:{CONTENT}"


def test_a_signer_restores_a_call_that_it_has_signed() -> None:
    packed = CallSigner(BATCH, Role.JOB).sign(JOB, "job 0")

    assert CallSigner(BATCH, Role.JOB).unsign(packed) == Call("shop.jobs.sync", (7,), {"$": (1,)})


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda packed: packed.replace("[7]", "[8]"), id="argument"),
        pytest.param(lambda packed: packed.replace("sync", "sink"), id="function"),
        pytest.param(lambda packed: "x" + packed[1:], id="signature"),
        pytest.param(lambda packed: ":" + packed.partition(":")[2], id="empty signature"),
        pytest.param(lambda packed: packed.partition(":")[2], id="no signature"),
        pytest.param(lambda packed: packed + " ", id="space"),
        pytest.param(lambda packed: packed + "é", id="letter"),
        pytest.param(lambda packed: "\ud800" + packed, id="surrogate"),
        pytest.param(lambda _packed: "", id="nothing"),
    ],
)
def test_an_edited_or_unsigned_call_is_rejected(change: Any) -> None:
    packed = CallSigner(BATCH, Role.JOB).sign(JOB, "job 0")

    with pytest.raises(PayloadRefused) as caught:
        CallSigner(BATCH, Role.JOB).unsign(change(packed))

    assert str(caught.value) == REJECTION


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(CallSigner(uuid.uuid4(), Role.JOB), id="batch"),
        *(
            pytest.param(CallSigner(BATCH, role), id=str(role))
            for role in (*Role, payload.PROGRESS)
            if role != Role.JOB
        ),
    ],
)
def test_a_call_copied_from_another_batch_or_role_is_rejected(other: CallSigner) -> None:
    with pytest.raises(PayloadRefused):
        CallSigner(BATCH, Role.JOB).unsign(other.sign(JOB, "job 0"))
    with pytest.raises(PayloadRefused):
        other.unsign(CallSigner(BATCH, Role.JOB).sign(JOB, "job 0"))


def test_a_call_signed_with_a_former_key_is_unpacked(settings: Settings) -> None:
    settings.SECRET_KEY = "former"
    packed = CallSigner(BATCH, Role.JOB).sign(JOB, "job 0")
    settings.SECRET_KEY = "current"
    settings.SECRET_KEY_FALLBACKS = ["other", "former"]

    call = CallSigner(BATCH, Role.JOB).unsign(packed)

    assert call == Call("shop.jobs.sync", (7,), {"$": (1,)})


def test_a_call_is_signed_with_the_current_key(settings: Settings) -> None:
    settings.SECRET_KEY = "current"
    settings.SECRET_KEY_FALLBACKS = ["former"]
    packed = CallSigner(BATCH, Role.JOB).sign(JOB, "job 0")
    settings.SECRET_KEY_FALLBACKS = []

    assert CallSigner(BATCH, Role.JOB).unsign(packed).path == "shop.jobs.sync"


def test_a_call_signed_with_a_former_key_is_rejected_without_a_fallback(settings: Settings) -> None:
    settings.SECRET_KEY = "former"
    packed = CallSigner(BATCH, Role.JOB).sign(JOB, "job 0")
    settings.SECRET_KEY = "current"

    with pytest.raises(PayloadRefused) as caught:
        CallSigner(BATCH, Role.JOB).unsign(packed)

    assert str(caught.value) == REJECTION


def test_an_unverified_call_is_shown_with_any_signature() -> None:
    assert payload.load_unverified(f"nobody:{CONTENT}") == Call("shop.jobs.sync", (7,), {"$": (1,)})
    assert payload.unverified_arguments(f"nobody:{CONTENT}") == ((7,), {"$": (1,)})


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "x:",
        "x:[]",
        "x:{}",
        'x:{"f":"a.b","a":[],"k":[]}',
        'x:{"f":1,"a":[],"k":{}}',
        'x:{"f":"a.b","a":[{"$":"decimal","v":"?"}],"k":{}}',
        pytest.param(f"x:{'[' * 100_000}", id="deep"),
    ],
)
def test_a_text_that_is_not_a_call_is_rejected_for_display(text: str) -> None:
    with pytest.raises(PayloadRefused) as caught:
        payload.load_unverified(text)

    assert str(caught.value) == "The stored call cannot be read."
    assert payload.unverified_path(text) == "(unreadable)"
    assert payload.unverified_arguments(text) == ((), {})


def test_the_path_of_a_call_is_its_own_whatever_was_read_before() -> None:
    signer = CallSigner(BATCH, Role.JOB)
    first, second = (signer.sign(JobSpec(f"shop.jobs.{name}", (1,)), "job") for name in "ab")
    unsigned = f"x:{first.partition(':')[2]}"

    for read in (first, second, first):
        signer.unsign(read)
        paths = [payload.unverified_path(text) for text in (first, second, unsigned, f"{first}x")]
        assert paths == ["shop.jobs.a", "shop.jobs.b", "shop.jobs.a", "(unreadable)"]


@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00")),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["$", "a"]), inner),
        max_leaves=10,
    )
)
def test_plain_json_passes_as_plain(value: object) -> None:
    assert plain_json.to_plain_json(value) == value
    assert json.loads(json.dumps(value)) == value


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ((1,), "x: a tuple, where only plain JSON is kept, cannot be stored as JSON; pass a list"),
        (
            {"at": [date(2026, 1, 1)]},
            "x['at'][0]: a date, where only plain JSON is kept, cannot be stored as JSON; "
            "pass .isoformat()",
        ),
        (
            timedelta(1),
            "x: a timedelta, where only plain JSON is kept, cannot be stored as JSON; "
            "pass .total_seconds()",
        ),
        (
            BATCH,
            "x: a UUID, where only plain JSON is kept, cannot be stored as JSON; pass str(x)",
        ),
        (
            "\x00",
            "x: text with NUL characters or surrogates cannot be stored as JSON; pass text without them",
        ),
        (
            {"\ud800": 1},
            "x['\\ud800']: text with NUL characters or surrogates cannot be stored as JSON; "
            "pass text without them",
        ),
        ({1}, "x: a set cannot be stored as JSON; pass a list"),
    ],
)
def test_a_value_that_a_json_column_would_change_is_not_plain(value: object, message: str) -> None:
    with pytest.raises(EncodingError) as caught:
        plain_json.to_plain_json(value)

    assert str(caught.value.as_public_error("x")) == message
