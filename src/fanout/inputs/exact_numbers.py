"""Numbers that keep their text: what a selection passes on stands in the payload as it stood in the record.

JMESPath computes with them as with any other number; only what it computes is a new one.
"""

from __future__ import annotations

import json
import re
from typing import Any

import msgspec

_MAX_INT_DIGITS = 4000  # int() refuses more than 4,300
_is_at_risk = re.compile(rb"[0-9][.eE]|[0-9]{16}|-0").search


class _ExactFloat(float):
    text: str


class _ExactInt(int):
    text: str


# JMESPath looks at the names of types.
_ExactFloat.__name__ = "float"
_ExactInt.__name__ = "int"


def _parse_float(text: str) -> float:
    number = _ExactFloat(text)
    number.text = text
    return number


def _parse_int(text: str) -> float:
    if len(text) > _MAX_INT_DIGITS:
        return _parse_float(text)
    number = int(text)
    if str(number) == text:
        return number
    exact = _ExactInt(number)
    exact.text = text
    return exact


def _refuse(name: str) -> None:
    raise ValueError(f"{name} has no JSON form")


def _text_of(value: Any) -> Any:
    if isinstance(value, (_ExactFloat, _ExactInt)):
        return msgspec.Raw(value.text.encode())
    raise TypeError(f"{type(value).__name__} has no JSON form")


_decode_exactly = json.JSONDecoder(
    parse_float=_parse_float, parse_int=_parse_int, parse_constant=_refuse
).decode
_encode = msgspec.json.Encoder(enc_hook=_text_of).encode


def decode(payload: bytes) -> Any:
    """The value of one JSON text. Raises ValueError and RecursionError."""
    if _is_at_risk(payload) is None:
        try:
            return msgspec.json.decode(payload)
        except msgspec.DecodeError:
            pass  # lone surrogates
    return _decode_exactly(payload.decode())


def encode(value: Any) -> bytes:
    """The JSON text of what a selection made. Raises ValueError, TypeError and RecursionError."""
    try:
        return _encode(value)
    except UnicodeEncodeError:  # lone surrogates: only ASCII escapes can carry them
        return _escaped(value).encode()


def _escaped(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ",".join(f"{json.dumps(name)}:{_escaped(each)}" for name, each in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(_escaped, value)) + "]"
    return value.text if isinstance(value, (_ExactFloat, _ExactInt)) else json.dumps(value)
