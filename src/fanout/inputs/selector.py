"""Selection: JMESPath expressions for a record's key, its payload and its durable name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jmespath
import jmespath.exceptions

from fanout.errors import ConfigError, SourceError
from fanout.inputs.exact_numbers import decode, encode

Expression = Callable[[Any], Any]


class SelectionFailed(SourceError):
    """An expression does not apply to this one record: its outcome is ``rejected``."""


class Selector:
    """Applies ``--key``, ``--select`` and the durable name's expression to one record after another.

    Raises ConfigError when an expression is not JMESPath. ``without_key`` counts the records in which
    the key's expression found nothing.
    """

    def __init__(
        self, key: str | None = None, select: str | None = None, durable_name: str | None = None
    ) -> None:
        self._key = _compile("key", key)
        self._select = _compile("select", select)
        self._durable_name = _compile("durable_name", durable_name)
        self.is_identity = not (self._key or self._select or self._durable_name)
        self.without_key = 0

    def apply(self, payload: bytes) -> tuple[bytes, str | None, str | None]:
        """The payload to send, the key and the durable name of a record, all of the record as it was read.

        A payload that nothing selects from keeps its bytes, and a number that is selected its digits.
        Names that are no strings become their JSON text, and null none at all. Raises SelectionFailed
        when a function of an expression does not fit, or ``select`` finds nothing.
        """
        if self.is_identity:
            return payload, None, None
        try:
            value = decode(payload)
        except RecursionError:
            raise SelectionFailed("the record is nested too deeply to select from") from None
        except ValueError as error:
            raise SelectionFailed(f"the record cannot be selected from: {error}") from error
        key = durable_name = None
        if self._key is not None:
            key = _text("key", _search("key", self._key, value))
            self.without_key += key is None
        if self._durable_name is not None:
            durable_name = _text("durable_name", _search("durable_name", self._durable_name, value))
        if self._select is not None:
            selected = _search("select", self._select, value)
            if selected is None:
                raise SelectionFailed("select finds nothing in this record")
            payload = _encoded("select", selected)
        return payload, key, durable_name


def _compile(option: str, expression: str | None) -> Expression | None:
    if expression is None:
        return None
    if not isinstance(expression, str):
        raise ConfigError(f"{option} is {expression!r}: give a JMESPath expression, as text")
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
    except (
        jmespath.exceptions.JMESPathError,
        ArithmeticError,
        AttributeError,
        LookupError,
        RecursionError,
        TypeError,
        ValueError,
    ) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise SelectionFailed(f"{option} does not apply to this record: {reason}") from error


def _encoded(option: str, value: Any) -> bytes:
    if type(value) is float and not math.isfinite(value):  # computed: a number that was read keeps its text
        raise SelectionFailed(f"{option} makes a number of this record that JSON has not: {value}")
    try:
        return encode(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise SelectionFailed(f"{option} makes something of this record that is not JSON: {error}") from error


def _text(option: str, value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return _encoded(option, value).decode()
