"""The reading of an input elsewhere: all that makes records, and payloads, of what is read."""

from __future__ import annotations

import msgspec

from fanout.inputs.options import InputOptions
from fanout.inputs.selector import Selector


class Reading(msgspec.Struct, frozen=True):
    """The options of an input, and the expressions of a run, as text."""

    options: InputOptions
    key: str | None = None
    select: str | None = None
    durable_name: str | None = None
    samples: bool = False  # wanted of what is read

    def selector(self) -> Selector | None:
        """For one reader; None where nothing is selected."""
        selector = Selector(self.key, self.select, self.durable_name)
        return None if selector.is_identity else selector
