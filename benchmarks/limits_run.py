"""One run against an emulated Lambda, and what its server counted meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
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

    @property
    def throttles(self) -> int:
        return sum(self.server["throttles"].values())

    @property
    def rate_throttles(self) -> int:
        return sum(n for reason, n in self.server["throttles"].items() if "Rate" in reason)

    def per_s(self, from_s: float, to_s: float) -> float:
        return sum(from_s <= t < to_s for t in self.finished_s) / (to_s - from_s)


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
            async for outcome in dispatcher.map({"record": n} for n in range(records)):
                run.finished_s.append(time.monotonic() - run.started_at_s)
                run.statuses[outcome.status] += 1
            run.seconds = time.monotonic() - run.started_at_s
    run.server = await asyncio.to_thread(emulator.stats)
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
    figures = {
        "records": sum(run.statuses.values()),
        "statuses": dict(run.statuses),
        "seconds": round(run.seconds, 2),
        "max_in_flight": run.server["max_in_flight"],
        "throttles": run.server["throttles"],
        "checks": checks,
    }
    return Verdict(scene, goal, measured, all(checks.values()), figures)
