"""Many permits: thousands of calls in flight that take a second each, over TLS.

    python -m benchmarks.many_permits

The memory of each connection, the share of Little's law, and how the connections come to be: how many
handshakes are under way at once, how long until all calls are in flight, and how long the event loop
stands still meanwhile. As many permits as the process may open files for, 20,000 at the most; the
endpoint runs on the same machine, and takes its half of the handshakes' CPU.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from pathlib import Path
from typing import Any

import fanout
from benchmarks.endpoint import Endpoint
from benchmarks.measuring import arguments, run_process, save, shown, summary
from fanout.transports.http.connections import ConnectionPool

WIDTHS = (1_000, 9_000, 19_000)
_SPARE_FILES = 200
_DELAY_S = 1.0
_TICK_S = 0.001
_FILLING_MOST_S = 40.0  # then it is measured with what connections there are, and their number says so


def main() -> None:
    chosen = arguments(
        __doc__,
        quick_rounds=1,
        full_rounds=3,
        case={"nargs": 3, "default": None, "metavar": ("C", "URL", "SECONDS")},
    )
    if chosen.case:
        import uvloop

        concurrency, url, seconds = chosen.case
        print(json.dumps(uvloop.run(_case(int(concurrency), url, float(seconds)))))
        return
    files = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    wanted = (50,) if chosen.tiny else WIDTHS[:1] if chosen.quick else WIDTHS
    widths = [width for width in wanted if width + _SPARE_FILES <= files]
    cases = []
    with Endpoint((int(_DELAY_S * 1000),)) as endpoint:
        url = endpoint.url(int(_DELAY_S * 1000), tls=True)
        for width in widths:
            told = []
            for _ in chosen.rounds:
                words = ["--case", str(width), url, "0.5" if chosen.tiny else "3" if chosen.quick else "6"]
                usage = run_process(
                    [sys.executable, "-m", "benchmarks.many_permits", *words],
                    environment=endpoint.environment(),
                    endpoint=endpoint,
                )
                if usage.exit_code:
                    raise SystemExit(usage.stderr)
                told.append(json.loads(usage.stdout) | {"endpoint_busy": usage.busy or 0.0})
            case = {"concurrency": width, "rounds": len(told)} | {
                name: summary(each[name] for each in told) for name in told[0]
            }
            cases.append(case)
            print(f"{width:,} in flight of {_DELAY_S:g} s, TLS:")
            print(f"  share of C/D           {shown(case['share'], '', 3)}")
            print(f"  memory                 {shown(case['kb_each'], ' KB a connection', 1)}")
            print(f"  all in flight after    {shown(case['full_s'], ' s', 2)}")
            print(f"  connections by the end {shown(case['connections'])}")
            print(f"  handshakes at once     {shown(case['handshakes'])}")
            print(f"  longest stall, filling {shown(case['stall_filling_ms'], ' ms', 0)}")
            print(f"  longest stall, steady  {shown(case['stall_steady_ms'], ' ms', 0)}")
            print(f"  cores of the client    {shown(case['cores'], '', 2)}", flush=True)
    save("many_permits", {"endpoint": endpoint.kind, "cases": cases})


class _Openings:
    """Counts the connections that are being made."""

    def __init__(self) -> None:
        self.under_way = self.most = 0
        self.made: set[int] = set()  # connections, by identity: none is closed meanwhile
        open_now = ConnectionPool._open_now

        async def counted(pool: ConnectionPool) -> Any:
            self.under_way += 1
            self.most = max(self.most, self.under_way)
            try:
                connection = await open_now(pool)
                self.made.add(id(connection))
                return connection
            finally:
                self.under_way -= 1

        setattr(ConnectionPool, open_now.__name__, counted)


async def _case(concurrency: int, url: str, seconds: float) -> dict[str, float]:
    openings, stalls = _Openings(), [0.0]

    async def tick() -> None:
        last_s = time.perf_counter()
        while True:
            await asyncio.sleep(_TICK_S)
            now_s = time.perf_counter()
            stalls[0] = max(stalls[0], now_s - last_s - _TICK_S)
            last_s = now_s

    async with fanout.Dispatcher(
        "lab-100000", qualifier="live", concurrency=concurrency, endpoint_url=url
    ) as dispatcher:
        await dispatcher.invoke(b"{}")  # what is made once is not a connection's
        before_kb, ticking = _rss_kb(), asyncio.create_task(tick())
        began_s = time.perf_counter()
        full_s = counted_s = counted_cpu_s = 0.0
        calls, is_over = 0, False
        found: dict[str, float] = {}

        def payloads() -> Any:
            while not is_over:
                yield b'{"order":12345678}'

        async for outcome in dispatcher.map(payloads()):
            assert outcome.ok, outcome
            now_s = time.perf_counter()
            if not full_s:
                is_late = now_s - began_s > _FILLING_MOST_S
                if len(openings.made) >= concurrency - 1 or is_late:  # and the one of the first call
                    full_s = now_s - began_s
                    filling_s, stalls[0] = stalls[0], 0.0
            elif not counted_s:
                if now_s - began_s > full_s + 2 * _DELAY_S:
                    counted_s, calls, stalls[0] = now_s, 0, 0.0
                    counted_cpu_s = time.process_time()
            else:
                calls += 1
                if not found and now_s - counted_s >= seconds:
                    wall_s = now_s - counted_s
                    found = {
                        "share": calls / wall_s / (concurrency / _DELAY_S),
                        "kb_each": (_rss_kb() - before_kb) / concurrency,
                        "full_s": full_s,
                        "connections": len(openings.made) + 1,
                        "handshakes": openings.most,
                        "stall_filling_ms": filling_s * 1e3,
                        "stall_steady_ms": stalls[0] * 1e3,
                        "cores": (time.process_time() - counted_cpu_s) / wall_s,
                    }
                    is_over = True
        ticking.cancel()
    return found


def _rss_kb() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1024


if __name__ == "__main__":
    main()
