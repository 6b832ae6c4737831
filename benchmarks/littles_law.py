"""Does throughput reach C/D: C calls in flight, each taking D seconds?

    python -m benchmarks.littles_law

Little's law says that no client can do more. Measured in the steady state of a ``Dispatcher.map``, after
every connection is made; the function's concurrency is provisioned, so that no ramp is in the way. Where
C/D is more than one process can send, the CPU is the limit: the share of a core it used is shown.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

import fanout
from benchmarks.endpoint import BUSY, Endpoint
from benchmarks.measuring import Rounds, arguments, run_process, save, shown, summary

WIDTHS = (10, 100, 1_000, 10_000)
DELAYS_MS = (10, 100, 1_000)
_CPU_BOUND = 0.85  # of the one core that Python's share of the work can have


def main() -> None:
    chosen = arguments(
        __doc__,
        quick_rounds=1,
        full_rounds=3,
        case={"nargs": 4, "default": None, "metavar": ("C", "DELAY_MS", "URL", "SECONDS")},
    )
    if chosen.case:
        concurrency, delay_ms, url, seconds = chosen.case
        import uvloop

        print(json.dumps(uvloop.run(_case(int(concurrency), int(delay_ms) / 1e3, url, float(seconds)))))
        return
    widths, delays_ms, schemes = WIDTHS, DELAYS_MS, (False, True)
    if chosen.tiny:
        widths, delays_ms, schemes = (10,), (10,), (False,)
    elif chosen.quick:
        widths, delays_ms, schemes = (100, 1_000), (10, 100), (True,)
    seconds = 0.3 if chosen.tiny else 1.0 if chosen.quick else 2.0
    cases: list[dict[str, Any]] = []
    print("share of C/D reached in the steady state")
    with Endpoint(delays_ms) as endpoint:
        for tls in schemes:
            for delay_ms in delays_ms:
                for concurrency in widths:
                    for_s = 2 * seconds if delay_ms == 1000 else seconds
                    case = _measured(endpoint, concurrency, delay_ms, tls, chosen.rounds, for_s)
                    cases.append(case)
                    print(f"  {_line(case)}", flush=True)
        save("littles_law", {"endpoint": endpoint.kind, "cases": cases})


def _reachable_per_s(endpoint: Endpoint, concurrency: int, delay_ms: int, seconds: float) -> float:
    """What the leanest client reaches on this machine at this moment, plain: it does nothing but I/O."""
    usage = run_process(
        [
            sys.executable,
            "-m",
            "benchmarks.raw_client",
            endpoint.url(delay_ms),
            str(concurrency),
            str(seconds),
        ],
    )
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    per_s: float = json.loads(usage.stdout)["per_s"]
    return per_s


def _measured(
    endpoint: Endpoint, concurrency: int, delay_ms: int, tls: bool, rounds: Rounds, seconds: float
) -> dict[str, Any]:
    case: dict[str, Any] = {"concurrency": concurrency, "delay_ms": delay_ms, "tls": tls}
    case["limit_per_s"] = concurrency / (delay_ms / 1e3)
    url = endpoint.url(delay_ms, tls=tls)
    told, reachable = [], []
    for _ in rounds:
        reachable.append(_reachable_per_s(endpoint, concurrency, delay_ms, seconds))
        usage = run_process(
            [
                sys.executable,
                "-m",
                "benchmarks.littles_law",
                "--case",
                str(concurrency),
                str(delay_ms),
                url,
                str(seconds),
            ],
            environment=endpoint.environment(),
            endpoint=endpoint,
        )
        if usage.exit_code:
            return case | {"failed": usage.stderr.strip()[-300:]}
        told.append(json.loads(usage.stdout) | {"peak_rss_mb": usage.peak_rss_mb, "busy": usage.busy or 0.0})
    if max(each["busy"] for each in told) > BUSY:
        return case | {"failed": "the endpoint was the bottleneck"}
    return case | {
        "per_s": summary(each["per_s"] for each in told),
        "share": summary(each["per_s"] / case["limit_per_s"] for each in told),
        "reachable_per_s": summary(reachable),
        "share_of_reachable": summary(
            each["per_s"] / per_s for each, per_s in zip(told, reachable, strict=True)
        )["median"],
        "main_thread": max(each["main_thread"] for each in told),
        "cpu_cores": max(each["cpu_cores"] for each in told),
        "peak_rss_mb": max(each["peak_rss_mb"] for each in told),
        "is_cpu_bound": max(each["main_thread"] for each in told) > _CPU_BOUND
        or max(each["cpu_cores"] for each in told) > 0.8 * (os.cpu_count() or 1),
    }


async def _case(concurrency: int, delay_s: float, url: str, seconds: float) -> dict[str, float]:
    """Calls a second between the moment when all are in flight and the end."""
    async with fanout.Dispatcher(
        f"lab-{max(100_000, concurrency)}", qualifier="live", concurrency=concurrency, endpoint_url=url
    ) as dispatcher:
        is_over = False

        def payloads() -> Any:
            while not is_over:
                yield b'{"order":12345678}'

        warm_s = time.perf_counter() + max(0.5, 2.5 * delay_s) + concurrency * 0.0008
        began_s, calls, began_cpu_s, began_main_s = 0.0, 0, 0.0, 0.0
        ended: dict[str, float] = {}
        async for outcome in dispatcher.map(payloads()):
            assert outcome.ok, outcome
            now_s = time.perf_counter()
            if not began_s:
                if now_s >= warm_s:
                    began_s, calls = now_s, 0
                    began_cpu_s, began_main_s = time.process_time(), time.thread_time()
                continue
            calls += 1
            # Whole waves only, as calls that began together end together.
            if not ended and now_s - began_s >= seconds:
                wall_s = now_s - began_s
                ended = {
                    "per_s": calls / wall_s,
                    "cpu_cores": (time.process_time() - began_cpu_s) / wall_s,
                    "main_thread": (time.thread_time() - began_main_s) / wall_s,
                }
                is_over = True
        return ended


def _line(case: dict[str, Any]) -> str:
    name = (
        f"C={case['concurrency']:<6,} D={case['delay_ms']:>4} ms {'TLS  ' if case['tls'] else 'plain'} "
        f"limit {case['limit_per_s']:>11,.0f}/s"
    )
    if "failed" in case:
        return f"{name}  no figure: {case['failed']}"
    bound = f"   CPU is the limit ({case['cpu_cores']:.1f} cores)" if case["is_cpu_bound"] else ""
    return (
        f"{name}  reached {shown(case['per_s']):>24}/s = {case['share']['median']:6.1%}"
        f" ({case['share_of_reachable']:.1%} of what the leanest client reaches){bound}"
    )


if __name__ == "__main__":
    main()
