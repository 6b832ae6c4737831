"""One run against an emulated Lambda, and what its server counted meanwhile."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import fanout
from fanout.emulator import EmulatorProcess

SAMPLE_S = 0.1


@dataclass
class Run:
    """One run of a dispatcher: when each outcome came, counted from the first call, and what it was."""

    finished_s: list[float] = field(default_factory=list)
    statuses: Counter[str] = field(default_factory=Counter)
    started_at_s: float = 0.0
    seconds: float = 0.0
    # (seconds, in flight at the server, its throttles so far, its requests so far)
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)
    server: dict[str, Any] = field(default_factory=dict)
    refused: int = 0  # attempts, by the outcomes

    @property
    def throttles(self) -> int:
        return sum(self.server["throttles"].values())

    @property
    def rate_throttles(self) -> int:
        return sum(n for reason, n in self.server["throttles"].items() if "Rate" in reason)

    def per_s(self, from_s: float, to_s: float) -> float:
        return sum(from_s <= t < to_s for t in self.finished_s) / (to_s - from_s)

    async def take(self, dispatcher: fanout.Dispatcher, payloads: Iterable[Any]) -> None:
        """Make all calls, and note what became of each."""
        async for outcome in dispatcher.map(payloads):
            self.finished_s.append(time.monotonic() - self.started_at_s)
            self.statuses[outcome.status] += 1
            self.refused += outcome.throttles
        self.seconds = time.monotonic() - self.started_at_s


def pace(finished_s: Sequence[float], call_s: float, from_s: float, to_s: float) -> float:
    """Calls a second over whole rounds of calls of ``call_s``, from the first that ends after ``from_s``.

    Calls of one length end in bunches: a stretch that cuts one counts up to a round too many, or too few.
    In whole rounds no permit can end more calls than there are rounds, so that no pace is above the limit.
    0.0 where not one round fits. ``finished_s`` ascends.
    """
    first = bisect_left(finished_s, from_s)
    if first == len(finished_s):
        return 0.0
    begin_s = finished_s[first]
    rounds_s = int((to_s - begin_s) / call_s) * call_s
    return (bisect_left(finished_s, begin_s + rounds_s) - first) / rounds_s if rounds_s > 0 else 0.0


def endless(seconds: float) -> Iterator[dict[str, int]]:
    """Records for as long as that, from the first on."""
    until_s, number = time.monotonic() + seconds, 0
    while time.monotonic() < until_s:
        yield {"record": number}
        number += 1


async def drive(
    emulator: EmulatorProcess,
    records: int,
    *,
    during: Callable[[float], Awaitable[None]] | None = None,
    **options: Any,
) -> Run:
    """Run ``records`` calls, sampling the server; ``during`` gets the seconds since the first call."""
    run = Run()
    async with fanout.Dispatcher(
        emulator.functions[0], endpoint_url=emulator.endpoint_url, **options
    ) as dispatcher:
        run.started_at_s = time.monotonic()
        async with sampling(emulator, run, during):
            await run.take(dispatcher, ({"record": n} for n in range(records)))
    run.server = await asyncio.to_thread(emulator.stats)
    return run


async def call_for(seconds: float, function: str, endpoint_url: str, concurrency: int) -> Run:
    """Make calls for as long as that, as many at once as allowed; nobody asks the server meanwhile."""
    run = Run()
    async with fanout.Dispatcher(function, endpoint_url=endpoint_url, concurrency=concurrency) as dispatcher:
        run.started_at_s = time.monotonic()
        await run.take(dispatcher, endless(seconds))
    return run


@asynccontextmanager
async def sampling(
    emulator: EmulatorProcess, run: Run, during: Callable[[float], Awaitable[None]] | None
) -> AsyncIterator[None]:
    async def sample() -> None:
        while True:
            stats = await asyncio.to_thread(emulator.stats)
            seconds = time.monotonic() - run.started_at_s
            run.samples.append(
                (seconds, stats["in_flight"], sum(stats["throttles"].values()), stats["requests"])
            )
            if during is not None:
                await during(seconds)
            await asyncio.sleep(SAMPLE_S)

    task = asyncio.create_task(sample())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@dataclass
class Verdict:
    scene: str
    goal: str
    measured: str
    is_met: bool
    figures: dict[str, Any]


def judge(scene: str, goal: str, run: Run, measured: str, checks: dict[str, bool]) -> Verdict:
    figures: dict[str, Any] = {
        "records": sum(run.statuses.values()),
        "statuses": dict(run.statuses),
        "seconds": round(run.seconds, 2),
        **{name: run.server[name] for name in ("max_in_flight", "throttles") if name in run.server},
        "checks": checks,
    }
    return Verdict(scene, goal, measured, all(checks.values()), figures)
