"""What of a record is its key, its payload and its durable name: JMESPath expressions."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import jmespath
import jmespath.exceptions
import msgspec

from fanout.errors import ConfigError, SourceError
from fanout.payload import encode

Expression = Callable[[Any], Any]


class SelectionFailed(SourceError):
    """An expression does not apply to this one record: its outcome is ``rejected``."""


class Selector:
    """Applies ``--key``, ``--select`` and the durable name's expression to one record after another.

    Raises ConfigError when an expression is no JMESPath.
    """

    def __init__(
        self, key: str | None = None, select: str | None = None, durable_name: str | None = None
    ) -> None:
        self._key = _compile("key", key)
        self._select = _compile("select", select)
        self._durable_name = _compile("durable_name", durable_name)
        self.is_identity = not (self._key or self._select or self._durable_name)

    def apply(self, payload: bytes) -> tuple[bytes, str | None, str | None]:
        """The payload to send, the key and the durable name of a record, all of the record as it was read.

        A payload that nothing selects from keeps its bytes. Names that are no strings become their JSON
        text, and null none at all. Raises SelectionFailed when a function of an expression does not fit.
        """
        if self.is_identity:
            return payload, None, None
        try:
            value = msgspec.json.decode(payload)
        except msgspec.DecodeError:
            value = json.loads(payload)  # lone surrogates
        key = None if self._key is None else _text(_search("key", self._key, value))
        durable_name = None
        if self._durable_name is not None:
            durable_name = _text(_search("durable_name", self._durable_name, value))
        if self._select is not None:
            payload = encode(_search("select", self._select, value))
        return payload, key, durable_name


def _compile(option: str, expression: str | None) -> Expression | None:
    if expression is None:
        return None
    try:
        compiled = jmespath.compile(expression)
    except jmespath.exceptions.JMESPathError as error:
        reason = str(error).splitlines()[0].rstrip(":")
        raise ConfigError(f"{option} is {expression!r}: not a JMESPath expression: {reason}") from error
    parsed = compiled.parsed
    if parsed["type"] == "field":  # by far the commonest, and jmespath takes some µs for it
        name = parsed["value"]
        return lambda value: value.get(name) if isinstance(value, dict) else None
    search: Expression = compiled.search
    return search


def _search(option: str, expression: Expression, value: Any) -> Any:
    try:
        return expression(value)
    except (jmespath.exceptions.JMESPathError, TypeError, ValueError, RecursionError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SelectionFailed(f"{option} does not apply to this record: {reason}") from error


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return encode(value).decode()
