"""The intake of ``Dispatcher.map`` where it is given locations: files, URLs, objects in S3."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from fanout.aws import ServiceClients
from fanout.config import Options
from fanout.dispatcher.record import InputRecord
from fanout.dispatcher.supply import NOTHING, BlockSupply
from fanout.errors import ConfigError
from fanout.inputs import Source, open_source, shown_location
from fanout.queues import is_queue

_log = logging.getLogger("fanout")


class SourceIntake:
    """Hands out the records of an input as they are read. A record that is no JSON is a fault."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._supply = BlockSupply(source.batches())
        self.records_read = 0

    @property
    def has_ended(self) -> bool:
        return self._supply.has_ended

    @property
    def failure(self) -> BaseException | None:
        return self._supply.failure

    def next(self, now_s: float) -> InputRecord | None:  # noqa: ARG002 - for those with a clock
        item = self._supply.next()
        if item is NOTHING:
            return None
        seq = self.records_read
        self.records_read = seq + 1
        return InputRecord(seq, item.payload, line=item.line, source=item.source, fault=item.error)

    async def fill(self, on_ready: Callable[[], None]) -> None:
        await self._supply.fill(on_ready)

    async def aclose(self) -> None:
        await self._supply.aclose()
        await self._source.aclose()


def check_locations(locations: Sequence[str]) -> None:
    """Raise ConfigError for what ``map`` does not read."""
    for location in locations:
        if is_queue(location):
            raise ConfigError(
                f"{shown_location(location)} is a queue: fanout.run drains it, with out; map does not read it"
            )


def open_locations(locations: Sequence[str], options: Options) -> SourceIntake:
    """The records of one input or several, numbered through. Raises SourceError for what cannot be read."""
    source = open_source(
        locations,
        clients=lambda: ServiceClients.of(options),
        on_notice=_log.warning,
    )
    return SourceIntake(source)
