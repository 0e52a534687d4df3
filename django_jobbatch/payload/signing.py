"""Values and signed calls as canonical JSON text, never as pickle."""

from __future__ import annotations

import json
from binascii import b2a_base64
from dataclasses import dataclass
from functools import lru_cache
from hmac import HMAC, compare_digest
from json.encoder import encode_basestring_ascii
from typing import Any, Final
from uuid import UUID

from django.conf import settings
from django.utils.crypto import salted_hmac

from django_jobbatch import tuning
from django_jobbatch.exceptions import PayloadRefused
from django_jobbatch.payload.encoding import decode, encode
from django_jobbatch.payload.errors import EncodingError
from django_jobbatch.specs.batch import JobSpec
from django_jobbatch.text import escape

#: The salt of all signatures. Stored calls depend on it.
SALT: Final = "django_jobbatch.payload"

#: The role for which a `progress` callback is signed. It has no link, and so no Role.
PROGRESS: Final = "progress"

#: The path of a call that cannot be read.
UNREADABLE: Final = "(unreadable)"

_UNREADABLE_CALL: Final = "The stored call cannot be read."

# Keys stay in the caller's order. `encode` has rejected cycles.
_to_json: Final = json.JSONEncoder(
    ensure_ascii=True, allow_nan=False, check_circular=False, separators=(",", ":")
).encode

#: Characters of a signature, and the two characters of base64 that a URL-safe one replaces.
_SIGNATURE_LENGTH: Final = 43
_URL_SAFE: Final = bytes.maketrans(b"+/", b"-_")

#: The integers below need no check of their length.
_PLAIN_INT: Final = 2**63


@dataclass(frozen=True, slots=True)
class Call:
    """A stored call: the dotted path of a function, and its arguments."""

    path: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def dumps(value: object, where: str, verb: str = "pass") -> str:
    """Return `value` as JSON text, from which `loads` restores the value and its types.

    Raises:
        UnencodableArgument: the value cannot be stored. The message starts with `where`, and
            its hint with `verb`.
    """
    try:
        return _to_json(encode(value))
    except EncodingError as error:
        raise error.as_public_error(where, verb) from None


def loads(text: str) -> Any:
    """Return the value that `dumps` stored.

    Raises:
        PayloadRefused: the text has a type tag that this version does not know.
    """
    return decode(json.loads(text))


class CallSigner:
    """A signer of the calls of one batch in one role.

    A signed call is `<signature>:<json>`. The signature is that of
    `django.core.signing.Signer(salt=SALT)` for `<batch id in hex>:<role>:<json>`. The keys are
    derived once, and what they sign of the batch and the role is hashed once for all of its calls.
    """

    __slots__ = ("_current", "_fallbacks")

    def __init__(self, batch_id: UUID, role: str) -> None:
        self._current = _derived_hmac(settings.SECRET_KEY, batch_id, role)
        self._fallbacks = tuple(
            [_derived_hmac(key, batch_id, role) for key in settings.SECRET_KEY_FALLBACKS]
        )

    def sign(self, spec: JobSpec, where: str) -> str:
        """Return the call of `spec` as signed text.

        Raises:
            UnencodableArgument: an argument cannot be stored. The message starts with `where`.
        """
        try:
            return self.text(spec)
        except EncodingError as error:
            raise error.as_public_error(f"{where}, argument ") from None

    def text(self, spec: JobSpec) -> str:
        """Return the call of `spec` as signed text; the caller knows where it stands.

        Raises:
            EncodingError: an argument cannot be stored.
        """
        content = f"{_head(spec.path)}{_arguments(spec.args)}{_keywords(spec.kwargs)}"
        return f"{_signature(self._current, content)}:{content}"

    def unsign(self, text: str) -> Call:
        """Return the call of this signed text.

        Raises:
            PayloadRefused: the signature is missing, or is not valid for this batch and role.
        """
        signature, _, content = text.partition(":")
        if not (text.isascii() and self._is_valid(signature, content)):
            raise PayloadRefused
        return _call(content)

    def _is_valid(self, signature: str, content: str) -> bool:
        if compare_digest(signature, _signature(self._current, content)):
            return True
        return any(
            compare_digest(signature, _signature(keyed, content)) for keyed in self._fallbacks
        )


def load_unverified(text: str) -> Call:
    """Return the call of a signed text, without a check of the signature. Never run it.

    Raises:
        PayloadRefused: the text is not a signed call.
    """
    try:
        call = _call(text.partition(":")[2])
    except Exception as error:  # no content may break a page
        raise PayloadRefused(_UNREADABLE_CALL) from error
    if not isinstance(call.path, str):
        raise PayloadRefused(_UNREADABLE_CALL)
    return call


def unverified_path(text: str) -> str:
    """Return the dotted path of a signed text for logs and pages, or UNREADABLE."""
    latest = _latest_path.get(text.partition(":")[2])
    if latest is not None:
        return escape(latest)
    try:
        return escape(load_unverified(text).path)
    except PayloadRefused:
        return UNREADABLE


def unverified_arguments(text: str) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """Return the arguments of a signed text for display, or none if it cannot be read."""
    try:
        call = load_unverified(text)
    except PayloadRefused:
        return (), {}
    return call.args, call.kwargs


@lru_cache(maxsize=tuning.SIGNING_KEY_CACHE_SIZE)
def _derived_hmac(secret: str | bytes, batch_id: UUID, role: str) -> HMAC:
    mac = _secret_hmac(secret).copy()
    mac.update(f"{batch_id.hex}:{role}:".encode())
    return mac


@lru_cache(maxsize=tuning.SIGNING_KEY_CACHE_SIZE)
def _secret_hmac(secret: str | bytes) -> HMAC:
    # Signer adds "signer" to its salt, and derives its key from both.
    return salted_hmac(f"{SALT}signer", "", secret=secret, algorithm="sha256")


def _signature(keyed: HMAC, content: str) -> str:
    mac = keyed.copy()
    mac.update(content.encode("ascii"))
    # A digest of 32 bytes takes 43 characters and one "=", which a signature leaves out.
    encoded = b2a_base64(mac.digest(), newline=False)
    return encoded[:_SIGNATURE_LENGTH].translate(_URL_SAFE).decode("ascii")


# The JSON of a call, without an object for the whole: a batch may have a million calls.


@lru_cache(maxsize=tuning.FUNCTION_CACHE_SIZE)
def _head(path: str) -> str:
    return f'{{"f":{encode_basestring_ascii(path)},"a":['


def _arguments(args: tuple[object, ...]) -> str:
    texts = []
    for number, value in enumerate(args, 1):
        try:
            texts.append(_value_text(value))
        except EncodingError as error:
            raise error.prefixed(str(number)) from None
    return ",".join(texts)


def _keywords(kwargs: dict[str, object]) -> str:
    if not kwargs:
        return '],"k":{}}'
    texts = []
    for name, value in kwargs.items():
        try:
            texts.append(f"{encode_basestring_ascii(name)}:{_value_text(value)}")
        except EncodingError as error:
            raise error.prefixed(repr(name)) from None
    return f'],"k":{{{",".join(texts)}}}}}'


def _value_text(value: object) -> str:
    """Return the JSON of an argument. What most arguments are takes the shortest way."""
    kind = type(value)
    if kind is int and -_PLAIN_INT < value < _PLAIN_INT:  # type: ignore[operator]  # an int
        return repr(value)
    if kind is str and value.isascii():  # type: ignore[attr-defined]  # a str
        return encode_basestring_ascii(value)  # type: ignore[arg-type]  # a str
    return _to_json(encode(value))


def _call(content: str) -> Call:
    found = json.loads(content)
    call = Call(
        path=found["f"],
        args=tuple([decode(value) for value in found["a"]]),
        kwargs={name: decode(value) for name, value in found["k"].items()},
    )
    _latest_path.clear()
    if isinstance(call.path, str):
        _latest_path[content] = call.path
    return call


#: The path of the call that was read last, by its JSON: the log of a failure asks for it again.
_latest_path: Final[dict[str, str]] = {}
