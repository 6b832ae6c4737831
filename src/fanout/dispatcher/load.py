"""The load of a dispatcher: its calls in flight, and those of each worker where it has some."""

from __future__ import annotations

import msgspec

from fanout.limit.protocol import Cause


class WorkerLoad(msgspec.Struct, kw_only=True):
    """One worker of many: what it has in flight and starts per second, and what became of it."""

    name: str
    in_flight: int = 0
    per_s: float = 0.0
    records: int = 0  # with an outcome by it
    lost_records: int = 0  # that may have run when it was lost
    is_lost: bool = False


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """The calls in flight of a dispatcher, and what holds it back.

    ``linger_until_s``: of the engine's clock.
    """

    in_flight: int
    lingering: int
    linger_until_s: float | None
    ceiling: int
    cause: Cause
    rate_per_s: float | None
    is_outage: bool = False
    workers: tuple[WorkerLoad, ...] = ()  # where there are some
    is_paced: bool | None = None  # the rate holds calls back, where the feed itself does not say
