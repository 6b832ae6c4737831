"""How much longer one call takes through a dispatcher than over the bare transport, in a service.

    python -m benchmarks.latency

Light load: one request of the service at a time, a few milliseconds apart, each making one call; bare
and through ``dispatcher.invoke`` in turns, so that both meet the same machine. Then 1,000 requests a
second, coming whether or not those before are done, in the same turns. Then 100,000 callers that wait for
64 permits of a function that takes 10 ms, half of them until the dispatcher closes, and a ticker: how long
the event loop works between two turns of a task that wants one every millisecond, by CPU time, as other
programs may run meanwhile. Python's garbage collector is off then: what it takes with so many objects is
measured apart.
"""

from __future__ import annotations

import asyncio
import gc
import json
import statistics
import sys
import time
from typing import Any

import fanout
from benchmarks.endpoint import Endpoint
from benchmarks.measuring import arguments, run_process, save, shown, summary

_GAP_S = 0.002
_PER_S = 1_000
_CALLERS = 100_000
_COME_AT_ONCE = 20  # callers between two turns of the event loop: a program that makes more stalls itself
_TICK_S = 0.001


def main() -> None:
    chosen = arguments(__doc__, case={"nargs": 3, "default": None, "metavar": ("URL", "SLOW_URL", "CALLS")})
    if chosen.case:
        import uvloop

        print(json.dumps(uvloop.run(_case(*chosen.case[:2], int(chosen.case[2])))))
        return
    calls = 50 if chosen.tiny else 500 if chosen.quick else 3_000
    told = []
    with Endpoint((0, 10)) as endpoint:
        for _ in chosen.rounds:
            usage = run_process(
                [
                    sys.executable,
                    "-m",
                    "benchmarks.latency",
                    "--case",
                    endpoint.url(0),
                    endpoint.url(10),
                    str(calls),
                ],
                environment=endpoint.environment(),
            )
            if usage.exit_code:
                raise SystemExit(usage.stderr)
            told.append(json.loads(usage.stdout))
    results: dict[str, Any] = {"calls": calls}
    for name in told[0]:
        results[name] = summary(each[name] for each in told)
        print(f"  {name:40} {shown(results[name], ' µs', 0)}")
    save("latency", results)


async def _case(url: str, slow_url: str, calls: int) -> dict[str, float]:
    bare_us: list[float] = []
    through_us: list[float] = []
    body = b'{"order":12345678}'
    async with fanout.Dispatcher("lab-100000", concurrency=64, endpoint_url=url) as dispatcher:
        transport, template = dispatcher.budget.transport, dispatcher.calls.template
        for _ in range(20):
            await dispatcher.invoke(body)
        for _ in range(calls):
            began_s = time.perf_counter()
            await transport.send(template, body)
            bare_us.append((time.perf_counter() - began_s) * 1e6)
            await asyncio.sleep(_GAP_S)
            began_s = time.perf_counter()
            outcome = await dispatcher.invoke(body)
            through_us.append((time.perf_counter() - began_s) * 1e6)
            assert outcome.ok
            await asyncio.sleep(_GAP_S)
    return {
        **_figures("", bare_us, through_us),
        **await _at_rate(url, calls),
        **await _with_queued_callers(slow_url, _CALLERS if calls >= 500 else calls * 10),
    }


def _figures(when: str, bare_us: list[float], through_us: list[float]) -> dict[str, float]:
    bare, through = (statistics.quantiles(values, n=100) for values in (bare_us, through_us))
    return {
        f"bare p50{when}": bare[49],
        f"bare p99{when}": bare[98],
        f"invoke p50{when}": through[49],
        f"invoke p99{when}": through[98],
        f"added p50{when}": through[49] - bare[49],
        f"added p99{when}": through[98] - bare[98],
    }


async def _at_rate(url: str, calls: int) -> dict[str, float]:
    bare_us: list[float] = []
    through_us: list[float] = []
    body = b'{"order":12345678}'
    loop = asyncio.get_running_loop()
    async with fanout.Dispatcher("lab-100000", concurrency=64, endpoint_url=url) as dispatcher:
        transport, template = dispatcher.budget.transport, dispatcher.calls.template

        async def bare() -> None:
            began_s = time.perf_counter()
            await transport.send(template, body)
            bare_us.append((time.perf_counter() - began_s) * 1e6)

        async def through() -> None:
            began_s = time.perf_counter()
            assert (await dispatcher.invoke(body)).ok
            through_us.append((time.perf_counter() - began_s) * 1e6)

        for _ in range(20):
            await dispatcher.invoke(body)
        begin_s = loop.time()
        tasks = []
        for number in range(2 * calls):
            await asyncio.sleep(begin_s + number / _PER_S - loop.time())
            tasks.append(asyncio.create_task(through() if number % 2 else bare()))
        await asyncio.gather(*tasks)
    return _figures(f" at {_PER_S:,}/s", bare_us, through_us)


async def _with_queued_callers(url: str, callers: int) -> dict[str, float]:
    spells_us: list[float] = []
    body = b'{"order":12345678}'

    async def tick() -> None:
        while True:
            began_s = time.thread_time()
            await asyncio.sleep(_TICK_S)
            spells_us.append((time.thread_time() - began_s) * 1e6)

    async def call() -> None:
        nonlocal done, ok
        outcome = await dispatcher.invoke(body)
        ok += outcome.ok
        done += 1

    async def wait_for(count: int) -> None:
        while done < count:
            await asyncio.sleep(0.01)

    done = ok = 0
    dispatcher = await fanout.Dispatcher("lab-100000", concurrency=64, endpoint_url=url).open()
    for _ in range(3):  # the connections are there, as in a service that has run for a while
        await asyncio.gather(*(dispatcher.invoke(body) for _ in range(64)))
    dispatcher.tune(pause=True)  # so that all of them are waiting at one time
    gc.collect()
    gc.disable()
    tasks: list[asyncio.Task[None]] = []
    ticking = asyncio.create_task(tick())
    while len(tasks) < callers:
        tasks += [asyncio.create_task(call()) for _ in range(_COME_AT_ONCE)]
        await asyncio.sleep(0)
    dispatcher.tune(pause=False)
    await wait_for(callers // 2)
    await dispatcher.aclose()
    await wait_for(callers)
    ticking.cancel()
    gc.enable()
    began_s = time.thread_time()
    gc.collect()
    collected_us = (time.thread_time() - began_s) * 1e6
    assert ok >= callers // 2
    ticks = statistics.quantiles(spells_us, n=1000, method="inclusive")  # never beyond the longest
    name = f"loop busy, {callers:,} queued"
    return {
        f"{name}: p99": ticks[989],
        f"{name}: p99.9": ticks[998],
        f"{name}: max": max(spells_us),
        f"{name}: one garbage collection": collected_us,
    }


if __name__ == "__main__":
    main()
