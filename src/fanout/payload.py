"""Payloads: checks that bytes are JSON, encoding of Python values, any bytes in a line of JSON."""

from __future__ import annotations

import base64
import functools
import json
import math
import re
import sys
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, Literal

import msgspec

from fanout.model import plain_members

Encoding = Literal["text", "base64"]

_validate = msgspec.json.Decoder(msgspec.Raw).decode
MAX_NESTING = 900  # levels of arrays and objects in one payload or reply
_PLAIN = frozenset({str, int, bool, type(None)})  # nothing to check


def _plain_value(value: Any) -> Any:
    """The plain value of what msgspec does not know: numpy's scalars, subclasses of numbers and strings."""
    if hasattr(value, "dtype") and getattr(value, "ndim", None) == 0:
        plain = value.item()
        if isinstance(plain, float) and not math.isfinite(plain):
            raise ValueError(f"{plain} has no JSON form")
        return plain
    for base in (int, float, str, Decimal):
        if isinstance(value, base):
            return base(value)
    raise TypeError(f"values of type {type(value).__name__} cannot be written as JSON")


_encode = msgspec.json.Encoder(enc_hook=_plain_value, decimal_format="number").encode
_encode_into = msgspec.json.Encoder().encode_into
_encode_lines = msgspec.json.Encoder().encode_lines
_SINGLE_QUOTED = re.compile(rb"\s*(?:[{\[]\s*)*'").match  # as Python prints its own values
_SHALLOW_BYTES = 2 * MAX_NESTING  # nothing as short as this is nested deeper


def is_too_deep(body: bytes) -> bool:
    """True if valid JSON is nested deeper than ``MAX_NESTING``, on every Python alike.

    Each Python version reads to another depth, and what one has written another must be able to read.
    """
    if len(body) <= _SHALLOW_BYTES:
        return False
    spare = _deepest() - MAX_NESTING
    if spare <= 0:
        return False  # this Python reads no deeper, or what is deeper was refused already
    if _count(body, b"[") + _count(body, b"{") <= MAX_NESTING:
        return False
    try:
        _validate(b"[" * spare + body + b"]" * spare)
    except RecursionError:
        return True
    return False


def _count(body: bytes, character: bytes) -> int:
    """How often a character occurs, up to one more than MAX_NESTING.

    ``replace`` looks for it as ``memchr`` does and stops there: of 100 kB in 2 µs, where ``count`` takes 65.
    """
    return len(body) - len(body.replace(character, b"", MAX_NESTING + 1))


@functools.cache
def _deepest() -> int:
    """The levels that this Python's JSON reader takes; below 3.12 they depend on the caller's own depth."""
    if sys.hexversion < 0x030C0000:
        return 0
    least, most = 1, 100_000
    while least < most:
        depth = (least + most + 1) // 2
        try:
            _validate(b"[" * depth + b"]" * depth)
            least = depth
        except RecursionError:
            most = depth - 1
    return least


def is_plain_json(body: bytes) -> bool:
    """True if ``body`` is surely one JSON value in ASCII, and not nested too deeply; False says nothing."""
    if len(body) > _SHALLOW_BYTES or not body.isascii():
        return False  # unread: whoever looks on reads it
    try:
        _validate(body)
    except msgspec.DecodeError:
        return False
    return True


def json_fault(body: bytes) -> str | None:
    """The reason why ``body`` is not one JSON value in UTF-8; None if it is, after about 0.2 µs."""
    try:
        _validate(body)
        if not body.isascii():
            body.decode()
        if is_too_deep(body):
            return "nested too deeply"
    except UnicodeDecodeError as error:
        return f"not UTF-8 (byte {error.start})"
    except msgspec.DecodeError as error:
        return _second_opinion(body, str(error))
    except RecursionError:
        return "nested too deeply"
    return None


def _second_opinion(body: bytes, fault: str) -> str | None:
    # msgspec refuses lone surrogate escapes ("\ud800"), which JSON's grammar allows: the standard
    # library decides then. It in turn allows NaN and Infinity, which JSON does not.
    if not body.strip():
        return "empty"
    if _SINGLE_QUOTED(body):
        return "strings stand in single quotes, and JSON has double ones"
    try:
        json.loads(body.decode(), parse_constant=_refuse_constant)
    except _NotJson as error:
        return f"{error} has no JSON form"
    except (ValueError, RecursionError):
        return fault.replace("JSON is malformed: ", "")
    return None


class _NotJson(ValueError):
    """NaN or an infinity."""


def _refuse_constant(name: str) -> None:
    raise _NotJson(name)


def encode(payload: Any) -> bytes:
    """The JSON of a payload: ``bytes`` are JSON already, anything else is encoded.

    A Decimal becomes a number, digit for digit. Raises TypeError or ValueError when the value has no
    JSON form: NaN, infinities and sets among them.
    """
    if isinstance(payload, bytes):
        return payload
    if isinstance(payload, (bytearray, memoryview)):
        return bytes(payload)
    if type(payload) not in _PLAIN:
        _check_exact(payload)
    try:
        return _encode(payload)
    except UnicodeEncodeError:
        return json.dumps(payload).encode()  # lone surrogates: only ASCII escapes can carry them


def indented(value: Any) -> bytes:
    """JSON for people, of plain values; a file name that is no UTF-8 has its lone surrogates escaped."""
    try:
        return msgspec.json.format(msgspec.json.encode(value), indent=2)
    except UnicodeEncodeError:
        return json.dumps(value, indent=2).encode()


def decode(text: bytes) -> Any:
    """Read JSON that fanout wrote, lone surrogates too: a file name that is no UTF-8 has them.

    Raises msgspec.DecodeError.
    """
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        if b"\\ud" not in text:
            raise
    try:
        return json.loads(text)
    except ValueError as error:
        raise msgspec.DecodeError(str(error)) from error


def _check_exact(value: Any) -> None:
    """Raise ValueError for what msgspec would change without a word. About 0.5 µs for a small dict."""
    kind = type(value)
    members: Iterable[Any]
    if kind is dict:
        members = value.values()
    elif kind is list or kind is tuple:
        members = value
    elif kind is float or kind is Decimal:
        _check_finite(value)
        return
    else:
        members = _members(value)
    for member in members:
        if type(member) not in _PLAIN:
            _check_exact(member)


def _members(value: Any) -> Iterable[Any]:
    """What a value of a rarer kind holds: subclasses of the plain ones, dataclasses and structs."""
    if isinstance(value, dict):
        return value.values()
    if isinstance(value, (list, tuple)):
        return value
    if isinstance(value, (set, frozenset)):
        raise ValueError("a set has no JSON form: give a list, in the order that you want")  # noqa: TRY004 - the error of NaN
    if isinstance(value, (float, Decimal)):
        _check_finite(value)
    elif hasattr(type(value), "__dataclass_fields__"):
        return [getattr(value, name) for name in type(value).__dataclass_fields__]
    elif isinstance(value, msgspec.Struct):
        return [getattr(value, name) for name in value.__struct_fields__]
    return ()


def _check_finite(value: float | Decimal) -> None:
    if not math.isfinite(value):
        raise ValueError(f"{value} has no JSON form")


def append_line(lines: bytearray, outcome: msgspec.Struct) -> None:
    """Append an outcome as one line of JSON, whatever is in it. About 0.4 µs."""
    before = len(lines)
    try:
        _encode_into(outcome, lines, -1)
    except (ValueError, TypeError, RecursionError):  # a lone surrogate: only ASCII escapes can carry it
        del lines[before:]
        lines += json.dumps(outcome, default=plain_members, separators=(",", ":")).encode()
    if lines.find(b"\n", before) >= 0:  # between the tokens of embedded JSON; inside a string it cannot be
        lines[before:] = lines[before:].replace(b"\n", b" ")
    lines += b"\n"


def append_lines(lines: bytearray, outcomes: Sequence[msgspec.Struct]) -> None:
    """``append_line`` for several, in a third of the time."""
    try:
        text = _encode_lines(outcomes)
    except (ValueError, TypeError, RecursionError):
        text = b""
    if text.count(b"\n") == len(outcomes):
        lines += text
        return
    for outcome in outcomes:  # among them is one that needs more than encoding
        append_line(lines, outcome)


def decode_reply(text: bytes) -> Any:
    """Read JSON that a function wrote, with U+FFFD for what is no character.

    That is bytes that are not UTF-8, and half of a surrogate pair, as a cut string leaves it: no file and
    no terminal takes them. Raises ValueError (msgspec.DecodeError among them) or RecursionError.
    """
    try:
        return msgspec.json.decode(text)
    except ValueError:
        if text.isascii() and b"\\u" not in text:
            raise
    text_only = json.dumps(json.loads(text.decode("utf-8", "replace")), ensure_ascii=False)
    return msgspec.json.decode(text_only.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace"))


def mask_surrogates(text: bytes) -> bytes:
    """JSON of the same length and structure without surrogates, which msgspec refuses where one is alone."""
    return re.sub(rb"\\u[dD][89a-fA-F][0-9a-fA-F]{2}", rb"\\uFFFD", text)


_BETWEEN = re.compile(rb"[, \t\r\n]*")  # elements of an array


def elements_of(array: bytes) -> list[bytes]:
    """The elements of a JSON array, byte for byte. Raises msgspec.DecodeError or RecursionError."""
    try:
        return [bytes(each) for each in msgspec.json.decode(array, type=list[msgspec.Raw])]
    except msgspec.DecodeError:
        masked = mask_surrogates(array)
        if masked == array:
            raise
    found = []
    at = masked.index(b"[") + 1
    for each in msgspec.json.decode(masked, type=list[msgspec.Raw]):
        gap = _BETWEEN.match(masked, at)
        assert gap is not None
        found.append(array[gap.end() : gap.end() + len(bytes(each))])
        at = gap.end() + len(found[-1])
    return found


def embed(body: bytes) -> tuple[msgspec.Raw | None, Encoding | None]:
    """``body`` as a JSON value that stands on one line, and how it was encoded when it is no JSON.

    Empty bytes are nothing at all. JSON stays as it is, byte for byte, but for line breaks, which
    become spaces (inside a JSON string they cannot stand, so the value is the same). Other bytes
    become a JSON string: their text, or base64 when they are not UTF-8.
    """
    if not body:
        return None, None
    try:
        # One JSON value in ASCII, on one line: all there is to most replies.
        _validate(body)
        is_plain = body.isascii() and b"\n" not in body and b"\r" not in body
        if is_plain and (len(body) <= _SHALLOW_BYTES or not is_too_deep(body)):
            return msgspec.Raw(body), None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass  # whatever it is, it is found out below
    fault = json_fault(body)
    if fault is None:
        if b"\n" in body or b"\r" in body:
            return msgspec.Raw(body.replace(b"\n", b" ").replace(b"\r", b" ")), None
        return msgspec.Raw(body), None
    try:
        return msgspec.Raw(json.dumps(body.decode()).encode()), "text"
    except UnicodeDecodeError:
        return msgspec.Raw(_encode(base64.b64encode(body).decode())), "base64"


def unembed(value: msgspec.Raw | None, encoding: Encoding | None) -> bytes:
    """The bytes that ``embed`` was given (in JSON, spaces for line breaks)."""
    if value is None:
        return b""
    if encoding is None:
        return bytes(value)
    text: str = msgspec.json.decode(value)
    return base64.b64decode(text) if encoding == "base64" else text.encode()
