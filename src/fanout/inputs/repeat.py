"""The same payload many times: load tests, and warming."""

from __future__ import annotations

from collections.abc import AsyncIterator

from fanout.errors import ConfigError
from fanout.inputs.source import BATCH_ITEMS, Item, Place
from fanout.payload import json_fault

LOCATION = "(payload)"


class RepeatSource:
    """``count`` records with one payload. Raises ConfigError for a payload that is not JSON."""

    def __init__(self, payload: bytes, count: int) -> None:
        fault = json_fault(payload)
        if fault is not None:
            raise ConfigError(f"payload is not JSON: {fault}")
        self.location = LOCATION
        self.bytes_read = 0
        self.bytes_total: int | None = (len(payload) + 1) * count
        self.place: Place | None = None
        self._payload = payload
        self._count = count

    async def batches(self, at: Place | None = None) -> AsyncIterator[list[Item]]:
        """The records."""
        sent = 0 if at is None else int(at["n"])
        while sent < self._count:
            size = min(BATCH_ITEMS, self._count - sent)
            sent += size
            self.bytes_read = sent * (len(self._payload) + 1)
            self.place = {"n": sent}
            yield [Item(self._payload) for _ in range(size)]

    async def aclose(self) -> None:
        """Nothing is open."""
