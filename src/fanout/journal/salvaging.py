"""How an outcome that UTF-8 cannot carry is written all the same: its stray surrogates become ``?``."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec

from fanout.model import Outcome


def encode_salvaged(outcome: Outcome) -> bytes:
    """The JSON of an outcome that does not encode as it stands."""
    return msgspec.json.encode(_cleaned(outcome))


def _cleaned(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode(errors="replace").decode()
    if isinstance(value, msgspec.Raw):
        return _cleaned_raw(bytes(value))
    if isinstance(value, msgspec.Struct):
        changes = {name: _cleaned(getattr(value, name)) for name in value.__struct_fields__}
        return msgspec.structs.replace(value, **changes)
    if isinstance(value, dict):
        return {str(_cleaned(key)): _cleaned(member) for key, member in value.items()}
    if isinstance(value, (list, tuple, set)):
        return [_cleaned(member) for member in value]
    if value is None or isinstance(value, (bool, int, float)):
        return value
    return repr(value)


def _cleaned_raw(body: bytes) -> msgspec.Raw:
    try:
        json.loads(body)
    except (ValueError, RecursionError):  # not JSON after all: its bytes are kept, as a string
        return msgspec.Raw(msgspec.json.encode(base64.b64encode(body).decode()))
    return msgspec.Raw(body)
