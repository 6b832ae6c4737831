"""Payload check and decoding, tolerant where Lambda's parser is known to be."""

from __future__ import annotations

import json
from typing import Any, NoReturn

import msgspec

_SKIM = msgspec.json.Decoder(msgspec.Raw)


def check(payload: bytes) -> None:
    """Raise ValueError, saying what is wrong, unless the bytes are one JSON value in UTF-8."""
    try:
        if not payload.isascii():
            payload.decode()
        _SKIM.decode(payload)
    except UnicodeDecodeError as error:
        raise ValueError(f"Invalid UTF-8 ({error.reason} at byte {error.start})") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except msgspec.DecodeError as error:
        try:
            decode(payload)  # msgspec refuses lone surrogates, which are odd but JSON
        except ValueError:
            raise ValueError(str(error)) from error


def decode(payload: bytes) -> Any:
    """Decode JSON; ValueError if it is none."""
    try:
        return msgspec.json.decode(payload)
    except msgspec.DecodeError:
        # As text: json would take bytes with a byte order mark, or in UTF-16.
        return json.loads(payload.decode(), parse_constant=_refuse)


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not valid JSON")
