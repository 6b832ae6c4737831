"""Counts beside the admission model: executions, also by key, tenants, events."""

from __future__ import annotations

import collections
import json
from collections.abc import Callable
from typing import Any

from fanout.emulator.payloads import decode
from fanout.errors import EmulatorError

MAX_EVENT_RESULTS = 1_000
MAX_KEYS = 5_000_000


class Counters:
    """Counts of the whole emulator; ``reset`` starts them again."""

    def __init__(self, count_by: str | None) -> None:
        self._key = _key_reader(count_by) if count_by else None
        self.reset()

    def reset(self) -> None:
        """Start counting again."""
        self.executions: collections.Counter[str] = collections.Counter()
        self.by_key: collections.Counter[str] = collections.Counter()
        self.tenants: collections.Counter[str] = collections.Counter()
        self.operations: collections.Counter[str] = collections.Counter()
        self.event_conditions: collections.Counter[str] = collections.Counter()
        self.event_results: collections.deque[dict[str, Any]] = collections.deque(maxlen=MAX_EVENT_RESULTS)

    def count_execution(self, function: str, payload: bytes) -> None:
        """Count one start of the function, and the key of its payload."""
        self.executions[function] += 1
        if self._key is not None:
            key = self._key(payload)
            if key in self.by_key or len(self.by_key) < MAX_KEYS:
                self.by_key[key] += 1


def _key_reader(expression: str) -> Callable[[bytes], str]:
    find: Callable[[Any], Any]
    if expression.replace("_", "").isalnum():

        def find(payload: Any) -> Any:
            return payload.get(expression) if isinstance(payload, dict) else None

    else:
        import jmespath
        from jmespath.exceptions import JMESPathError

        try:
            find = jmespath.compile(expression).search
        except JMESPathError as error:
            message = str(error).splitlines()[0]
            raise EmulatorError(f"--count-by {expression!r}: no JMESPath expression: {message}") from error

    def read(payload: bytes) -> str:
        try:
            value = find(decode(payload))
        except (ValueError, RecursionError):  # JSON that Python cannot hold, as a number of 5,000 digits
            return "null"
        if isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value):
            return value
        return json.dumps(value)  # no text of its own, or none that UTF-8 could carry

    return read
