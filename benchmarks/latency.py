"""How much longer one call takes through a dispatcher than over the bare transport, in a service.

    python -m benchmarks.latency

Light load: one request of the service at a time, a few milliseconds apart, each making one call; bare
and through ``dispatcher.invoke`` in turns, so that both meet the same machine.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import time
from typing import Any

import fanout
from benchmarks.endpoint import Endpoint
from benchmarks.measuring import arguments, run_process, save, shown, summary

_GAP_S = 0.002


def main() -> None:
    chosen = arguments(__doc__, case={"nargs": 2, "default": None, "metavar": ("URL", "CALLS")})
    if chosen.case:
        import uvloop

        print(json.dumps(uvloop.run(_case(chosen.case[0], int(chosen.case[1])))))
        return
    calls = 50 if chosen.tiny else 1_000 if chosen.quick else 3_000
    told = []
    with Endpoint((0,)) as endpoint:
        for _ in range(chosen.rounds):
            usage = run_process(
                [sys.executable, "-m", "benchmarks.latency", "--case", endpoint.url(0), str(calls)],
                environment=endpoint.environment(),
            )
            if usage.exit_code:
                raise SystemExit(usage.stderr)
            told.append(json.loads(usage.stdout))
    results: dict[str, Any] = {"calls": calls}
    for name in told[0]:
        results[name] = summary(each[name] for each in told)
        print(f"  {name:24} {shown(results[name], ' µs', 0)}")
    save("latency", results)


async def _case(url: str, calls: int) -> dict[str, float]:
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
    bare, through = (statistics.quantiles(values, n=100) for values in (bare_us, through_us))
    return {
        "bare p50": bare[49],
        "bare p99": bare[98],
        "invoke p50": through[49],
        "invoke p99": through[98],
        "added p50": through[49] - bare[49],
        "added p99": through[98] - bare[98],
    }


if __name__ == "__main__":
    main()
