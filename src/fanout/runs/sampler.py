"""A run's gauges, read as time passes: samples for its timeline, snapshots for who looks on.

What is sampled bears Unix time. When that is done goes by a clock that nobody sets: it would wait for an
hour where the system's is set back by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import anyio

from fanout.runs.audience import Audience
from fanout.runs.gauges import Gauges

SAMPLE_EVERY_S = 1.0
FINELY_S = 5.0  # at the beginning a sample every tick, so that short runs have a course too
TICK_S = 0.1


class Sampler:
    """Samples once a second; snapshots as often as the audience asks."""

    def __init__(self, gauges: Gauges, audience: Audience, *, is_draining: Callable[[], bool]) -> None:
        self._gauges = gauges
        self._audience = audience
        self._is_draining = is_draining

    async def run(self, each_tick: Callable[[], None], on_error: Callable[[BaseException], None]) -> None:
        """Until cancelled. ``each_tick`` is called ten times a second, ``on_error`` if a callback raises."""
        began_s = next_sample_s = next_snapshot_s = time.monotonic()
        while True:
            now_s = time.monotonic()
            if now_s >= next_sample_s:
                is_young = now_s - began_s < FINELY_S
                next_sample_s = now_s + (TICK_S if is_young else SAMPLE_EVERY_S)
                self.sample()
            if self._audience.on_snapshot is not None and now_s >= next_snapshot_s:
                next_snapshot_s = now_s + self._audience.snapshot_every_s
                try:
                    self.show()
                except BaseException as error:  # noqa: BLE001 - raised once the journal is closed
                    on_error(error)
            each_tick()
            await anyio.sleep(TICK_S)

    def sample(self) -> None:
        """A sample now."""
        self._gauges.sample(time.time(), draining=self._is_draining())

    def show(self) -> None:
        """A snapshot now, if anyone looks on."""
        if self._audience.on_snapshot is not None:
            self._audience.on_snapshot(self._gauges.snapshot(time.time(), draining=self._is_draining()))
