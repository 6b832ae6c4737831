"""Does fanout fill Lambda's limits and never exceed them? By the counts of an emulated Lambda.

    python -m benchmarks.limits            the scenes: about three minutes
    python -m benchmarks.limits --scene N  one of them
    python -m benchmarks.limits --sweep    the algorithm against two others, in virtual time

Exit code 1 when a scene misses its goal. Results go to benchmarks/results/limits.json.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fanout
from benchmarks import limits_sweep
from fanout.emulator import EmulatorProcess

RESULTS = Path(__file__).parent / "results" / "limits.json"
DENIED = ["GetFunction", "GetAccountSettings", "GetProvisionedConcurrencyConfig"]
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


async def reserved() -> Verdict:
    records = 5_000
    with EmulatorProcess(simulate=["name=f,latency=100ms,concurrency=50"]) as emulator:
        run = await drive(emulator, records)
    per_s = records / run.seconds
    return judge(
        "reserved 50, 100 ms, auto",
        "at most 50 in flight; 0 throttles; >= 95 % of 500/s",
        run,
        f"{run.server['max_in_flight']} in flight; {run.throttles} throttles; {per_s / 500:.1%} of 500/s",
        {
            "in flight": run.server["max_in_flight"] <= 50,
            "throttles": run.throttles == 0,
            "speed": per_s >= 475,
        },
    )


async def denied() -> Verdict:
    records = 5_000
    with EmulatorProcess(simulate=["name=f,latency=100ms,concurrency=50"]) as emulator:
        emulator.set_limits(deny=DENIED)
        run = await drive(emulator, records)
    half_s = run.finished_s[records // 2]
    second = (records - records // 2) / (run.finished_s[-1] - half_s)
    wasted = run.throttles / records
    return judge(
        "the same, discovery denied",
        "throttled <= 2 % of records; >= 85 % of 500/s over the second half",
        run,
        f"{wasted:.2%} throttled; {second / 500:.1%} of 500/s over the second half",
        {"throttled": wasted <= 0.02, "speed": second >= 425},
    )


async def two_runs() -> Verdict:
    records = 5_000
    with EmulatorProcess(simulate=["name=f,latency=100ms,concurrency=50"]) as emulator:
        command = [sys.executable, "-m", "benchmarks.limits", "--client", emulator.endpoint_url, str(records)]
        clients = [
            await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE) for _ in range(2)
        ]
        answers = [json.loads((await client.communicate())[0]) for client in clients]
        server = emulator.stats()
    # Shares while both ran: from the later start to the earlier end.
    from_s = max(a["started_at_s"] for a in answers)
    to_s = min(a["started_at_s"] + a["finished_s"][-1] for a in answers)
    counts = [sum(from_s <= a["started_at_s"] + t < to_s for t in a["finished_s"]) for a in answers]
    share = counts[0] / sum(counts)
    together = sum(counts) / (to_s - from_s)
    run = Run(server=server, seconds=to_s - from_s)
    for a in answers:
        run.statuses.update(a["statuses"])
    wasted = run.throttles / (2 * records)
    return judge(
        "two runs at once, both auto",
        "each 40-60 %; throttled <= 5 %",
        run,
        f"{share:.0%} and {1 - share:.0%}; {wasted:.2%} throttled; {together / 500:.1%} of 500/s together",
        {"share": 0.4 <= share <= 0.6, "throttled": wasted <= 0.05},
    )


async def halved_and_doubled() -> Verdict:
    records, down_s, up_s = 16_000, 6.0, 13.0
    changes = {down_s: 50, up_s: 100}
    changed_at_s = {}

    async def during(seconds: float) -> None:
        for at_s in [at_s for at_s in changes if seconds >= at_s]:
            limit = changes.pop(at_s)
            changed_at_s[limit] = seconds
            await asyncio.to_thread(emulator.set_limits, function="f", reserved_concurrency=limit)

    with EmulatorProcess(simulate=["name=f,latency=100ms,concurrency=100"]) as emulator:
        run = await drive(emulator, records, during=during)
    followed = {}
    for limit, at_s in changed_at_s.items():
        # Followed: the first half second at the new pace, no more than the limit allows and 85 % of it.
        paces = [(s / 10, run.per_s(at_s + s / 10, at_s + s / 10 + 0.5)) for s in range(100)]
        followed[limit] = next((s for s, pace in paces if 0.85 <= pace / limit / 10 <= 1.05), 99.0)
    wasted = run.throttles / records
    return judge(
        "limit halved, then doubled, in mid-run",
        "follows within 5 s each way; nothing lost",
        run,
        f"{followed[50]:.2g} s down, {followed[100]:.2g} s up; {run.statuses['succeeded']:,} of {records:,} "
        f"succeeded; {wasted:.2%} throttled",
        {
            "down": followed[50] <= 5,
            "up": followed[100] <= 5,
            "nothing lost": run.statuses["succeeded"] == records,
        },
    )


async def rate_limited() -> Verdict:
    records = 1_500
    at_first_s = [0]

    async def during(seconds: float) -> None:
        if seconds <= 1.0:
            stats = await asyncio.to_thread(emulator.stats)
            at_first_s[0] = sum(stats["throttles"].values())

    with EmulatorProcess(simulate=["name=f,latency=1ms,concurrency=10"]) as emulator:
        run = await drive(emulator, records, during=during)
    per_s = run.per_s(1.0, run.finished_s[-1])
    later = run.throttles - at_first_s[0]
    return judge(
        "rate-limited: concurrency 10, 1 ms",
        "100/s +- 3 %; 0 rate throttles after the first second",
        run,
        f"{per_s:.1f}/s; {later} throttles after the first second",
        {"rate": abs(per_s / 100 - 1) <= 0.03, "throttles": later == 0},
    )


async def scaling() -> Verdict:
    records = 30_000
    with EmulatorProcess(
        simulate=["name=f,latency=2s,concurrency=3000"], extra=["--account-concurrency", "4000"]
    ) as emulator:
        run = await drive(emulator, records)
    ramp = [(s, n, min(3_000, 1_000 + 100 * s)) for s, n, _, _ in run.samples if 2 <= s <= run.seconds - 2.5]
    filled = sum(n for _, n, _ in ramp) / sum(ideal for _, _, ideal in ramp)
    wasted = run.throttles / records
    return judge(
        "scaling rule: limit 3,000, 2 s",
        "in flight follows the ramp; throttles <= 1 %",
        run,
        f"{filled:.1%} of the ramp; {run.server['max_in_flight']:,} at most; {wasted:.2%} throttled",
        {"follows": filled >= 0.9, "throttled": wasted <= 0.01},
    )


async def lost_replies() -> Verdict:
    records = 5_000
    with EmulatorProcess(
        simulate=["name=f,latency=100ms,concurrency=50,lost_rate=0.01,runs_on=3s,timeout=4s"]
    ) as emulator:
        run = await drive(emulator, records)
    return judge(
        "1 % of replies lost, function runs on 3 s",
        "never more than the budget running",
        run,
        f"{run.server['max_in_flight']} running at most; {run.throttles} throttles; "
        f"{run.statuses['unknown']} unknown; {records / run.seconds:.0f}/s",
        {
            "in flight": run.server["max_in_flight"] <= 50,
            "throttles": run.throttles == 0,
            "told": run.statuses["unknown"] + run.statuses["succeeded"] == records,
        },
    )


SCENES = [reserved, denied, two_runs, halved_and_doubled, rate_limited, scaling, lost_replies]


async def client(url: str, records: int) -> None:
    """One run of the two-runs scene, in a process of its own."""
    run = Run()
    async with fanout.Dispatcher("f", endpoint_url=url) as dispatcher:
        run.started_at_s = time.monotonic()
        async for outcome in dispatcher.map({"record": n} for n in range(records)):
            run.finished_s.append(time.monotonic() - run.started_at_s)
            run.statuses[outcome.status] += 1
    print(
        json.dumps({"started_at_s": run.started_at_s, "finished_s": run.finished_s, "statuses": run.statuses})
    )


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scene", type=int, choices=range(1, len(SCENES) + 1))
    parser.add_argument("--sweep", action="store_true")
    parser.add_argument("--client", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y", AWS_REGION="us-east-1")
    import uvloop

    if arguments.client:
        uvloop.run(client(arguments.client[0], int(arguments.client[1])))
        return 0
    if arguments.sweep:
        limits_sweep.main(RESULTS.with_name("limits_sweep.json"))
        return 0
    verdicts = []
    for number, scene in enumerate(SCENES, 1):
        if arguments.scene in (None, number):
            verdict = uvloop.run(scene())
            verdicts.append(verdict)
            print(
                f"{'ok  ' if verdict.is_met else 'MISS'} {number} {verdict.scene}: {verdict.measured}",
                flush=True,
            )
    if arguments.scene is not None:
        return 0 if verdicts[0].is_met else 1
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps([vars(v) for v in verdicts], indent=1))
    return 0 if all(v.is_met for v in verdicts) else 1


if __name__ == "__main__":
    sys.exit(main())
