"""The intake of ``Dispatcher.map`` where it is given locations: files, URLs, objects in S3."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from fanout.aws import ServiceClients
from fanout.config import Options
from fanout.dispatcher.block_supply import BlockSupply
from fanout.dispatcher.intake import PayloadIntake
from fanout.dispatcher.record import InputRecord
from fanout.errors import ConfigError
from fanout.inputs import Item, Source, open_source, shown_location
from fanout.queues import is_queue

_log = logging.getLogger("fanout")


class SourceIntake(PayloadIntake):
    """Hands out the records of an input as they are read. A record that is no JSON is a fault."""

    def __init__(self, source: Source) -> None:
        supply = BlockSupply(source.batches())
        super().__init__(supply, _record_of_item)
        self._source = source

    async def aclose(self) -> None:
        await super().aclose()
        await self._source.aclose()


def _record_of_item(seq: int, item: Item) -> InputRecord:
    return InputRecord(seq, item.payload, line=item.line, source=item.source, fault=item.error)


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
