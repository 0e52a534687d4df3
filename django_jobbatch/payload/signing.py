"""Calls and values as canonical JSON text, calls signed; never pickle."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from functools import lru_cache
from hmac import HMAC
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from django.conf import settings
from django.utils.crypto import constant_time_compare, salted_hmac

from django_jobbatch.exceptions import PayloadRefused
from django_jobbatch.payload.encoding import decode, encode
from django_jobbatch.payload.errors import EncodingError

if TYPE_CHECKING:
    from django_jobbatch.specs.batch import JobSpec


SALT: Final = "django_jobbatch.payload"


#: What a `progress` callback is sealed for; it has no link, and so no role.
PROGRESS: Final = "progress"


#: What stands for the path of a call that cannot be read.
UNREADABLE: Final = "(unreadable)"


_UNREADABLE_CALL: Final = "The stored call cannot be read."


# The order of keys is the caller's, and comes back as it was. Whatever gets here has been through
# `encode`, which has refused cycles.
_text: Final = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


@dataclass(frozen=True, slots=True)
class Call:
    """A call as it is stored: the dotted path of a function and its arguments."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def dumps(value: object, where: str) -> str:
    """`value` as JSON text that `loads` turns back into the same, types included.

    Raises:
        UnencodableArgument: it cannot be stored; the message begins with `where`.
    """
    try:
        return _text(encode(value))
    except EncodingError as refusal:
        raise refusal.as_public_error(where) from None


def loads(text: str) -> Any:
    """The value that `dumps` wrote.

    Raises:
        PayloadRefused: the text has a type tag that this version does not know.
    """
    return decode(json.loads(text))


class CallSigner:
    """Packs the calls of one batch in one role, and unpacks only what was packed for these.

    A packed call is `<signature>:<json>`. The signature is the one that
    `django.core.signing.Signer(salt=SALT)` makes of `<batch id in hex>:<role>:<json>`, with the
    keys derived once for all calls of the batch in this role.
    """

    __slots__ = ("_current", "_fallbacks")

    def __init__(self, batch_id: UUID, role: str) -> None:
        self._current = _derived_hmac(settings.SECRET_KEY, batch_id, role)
        self._fallbacks = tuple(
            [_derived_hmac(key, batch_id, role) for key in settings.SECRET_KEY_FALLBACKS]
        )

    def sign(self, spec: JobSpec, where: str) -> str:
        """The call of `spec` as signed text.

        Raises:
            UnencodableArgument: an argument cannot be stored; the message begins with `where`.
        """
        try:
            call = {"f": spec.path, "a": _arguments(spec.args), "k": _keywords(spec.kwargs)}
        except EncodingError as refusal:
            raise refusal.as_public_error(f"{where}, argument ") from None
        content = _text(call)
        return f"{_signature(self._current, content)}:{content}"

    def unsign(self, text: str) -> Call:
        """The call in `text`.

        Raises:
            PayloadRefused: it is unsigned, was edited, or belongs to another batch or role.
        """
        signature, _, content = text.partition(":")
        if not (text.isascii() and self._signed(signature, content)):
            raise PayloadRefused
        return _call(content)

    def _signed(self, signature: str, content: str) -> bool:
        return any(
            constant_time_compare(signature, _signature(keyed, content))
            for keyed in (self._current, *self._fallbacks)
        )


def load_unverified(text: str) -> Call:
    """The call in `text`, its signature not looked at: to show to people, never to run.

    Raises:
        PayloadRefused: this is no packed call at all.
    """
    try:
        call = _call(text.partition(":")[2])
    except Exception as error:  # whatever stands there, looking at it must not break a page
        raise PayloadRefused(_UNREADABLE_CALL) from error
    if not isinstance(call.path, str):
        raise PayloadRefused(_UNREADABLE_CALL)
    return call


def unverified_path(text: str) -> str:
    """The dotted path of the call in `text`, for logs and pages, which must not fail over it."""
    try:
        return load_unverified(text).path
    except PayloadRefused:
        return UNREADABLE


def unverified_arguments(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of the call in `text`, for people and callbacks; none if it cannot be read."""
    try:
        call = load_unverified(text)
    except PayloadRefused:
        return (), {}
    return call.args, call.kwargs


@lru_cache(maxsize=64)
def _derived_hmac(secret: str | bytes, batch_id: UUID, role: str) -> HMAC:
    # "signer" is what Signer adds to its salt; the key is derived from both as Signer does it.
    owner = f"{batch_id.hex}:{role}:"
    return salted_hmac(f"{SALT}signer", owner, secret=secret, algorithm="sha256")


def _signature(keyed: HMAC, content: str) -> str:
    mac = keyed.copy()
    mac.update(content.encode("ascii"))
    return base64.urlsafe_b64encode(mac.digest()).decode("ascii").rstrip("=")


def _arguments(args: tuple[object, ...]) -> list[Any]:
    plain = []
    for number, value in enumerate(args, 1):
        try:
            plain.append(encode(value))
        except EncodingError as refusal:
            raise refusal.prefixed(str(number)) from None
    return plain


def _keywords(kwargs: dict[str, object]) -> dict[str, Any]:
    plain = {}
    for name, value in kwargs.items():
        try:
            plain[name] = encode(value)
        except EncodingError as refusal:
            raise refusal.prefixed(repr(name)) from None
    return plain


def _call(content: str) -> Call:
    call = json.loads(content)
    return Call(
        path=call["f"],
        args=tuple([decode(value) for value in call["a"]]),
        kwargs={name: decode(value) for name, value in call["k"].items()},
    )
