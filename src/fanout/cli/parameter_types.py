"""Types of command-line values: durations, and JSON."""

from __future__ import annotations

import re
from typing import Any

import click
import msgspec

_UNITS_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


class Duration(click.ParamType[float]):
    """Seconds, or a number with a unit: ``90``, ``90s``, ``15m``, ``1h30m``."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Seconds as a float."""
        if isinstance(value, (int, float)):
            return float(value)
        text = value.strip().lower()
        parts = re.findall(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)?", text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            self.fail(
                f"{value!r} is not a duration: give seconds, or a number with a unit: 90s, 15m, 1h30m",
                param,
                ctx,
            )
        if any(not unit for _, unit in parts) and len(parts) > 1:
            self.fail(f"{value!r} is not a duration: a unit is missing", param, ctx)
        return sum(float(number) * _UNITS_S[unit or "s"] for number, unit in parts)


DURATION = Duration()


class JsonValue(click.ParamType[Any]):
    """Any JSON value, as text."""

    name = "json"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The value, decoded."""
        try:
            return msgspec.json.decode(value.encode("utf-8", "surrogatepass"))
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            self.fail(f"{value!r} is not valid JSON: {error}", param, ctx)


JSON_VALUE = JsonValue()
