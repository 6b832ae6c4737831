"""The scenes of ``benchmarks.limits``: each a run, its goal, and whether it was met.

``share`` of a scene is how much of its length is played: 1, or less for a look.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Awaitable, Callable

from benchmarks.endpoint import Endpoint
from benchmarks.limits_run import Run, Verdict, call_for, drive, judge, pace
from fanout.emulator import EmulatorProcess

DENIED = ["GetFunction", "GetAccountSettings", "GetProvisionedConcurrencyConfig"]


async def reserved(share: float) -> Verdict:
    records = max(2_000, int(5_000 * share))  # the first connections are to be a small part of it
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


async def denied(share: float) -> Verdict:
    records = int(5_000 * share)
    with EmulatorProcess(simulate=["name=f,latency=100ms,concurrency=50"]) as emulator:
        emulator.set_limits(deny=DENIED)
        run = await drive(emulator, records)
    second = pace(run.finished_s, 0.1, run.finished_s[records // 2], run.finished_s[-1])
    wasted = run.throttles / records
    return judge(
        "the same, discovery denied",
        "throttled <= 2 % of records; >= 85 % of 500/s over the second half",
        run,
        f"{wasted:.2%} throttled; {second / 500:.1%} of 500/s over the second half",
        {"throttled": wasted <= 0.02, "speed": second >= 425},
    )


async def two_runs(share: float) -> Verdict:
    seconds = max(4.0, 20.0 * share)
    with EmulatorProcess(simulate=["name=f,latency=100ms,concurrency=50"]) as emulator:
        command = [sys.executable, "-m", "benchmarks.limits", "--client", emulator.endpoint_url, str(seconds)]
        pipe = asyncio.subprocess.PIPE
        clients = [await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe) for _ in range(2)]
        for client in clients:
            assert client.stdout is not None
            await client.stdout.readline()  # ready: they begin together, however slow their starts
        told = await asyncio.gather(*(client.communicate(b"\n") for client in clients))
        answers = [json.loads(stdout) for stdout, _ in told]
        server = emulator.stats()
    # Shares while both ran: from the later start to the earlier end.
    from_s = max(a["started_at_s"] for a in answers)
    to_s = min(a["started_at_s"] + a["finished_s"][-1] for a in answers)
    counts = [sum(from_s <= a["started_at_s"] + t < to_s for t in a["finished_s"]) for a in answers]
    first = counts[0] / sum(counts)
    finished_s = sorted(a["started_at_s"] + t for a in answers for t in a["finished_s"])
    together = pace(finished_s, 0.1, from_s, to_s)
    run = Run(server=server, seconds=to_s - from_s)
    for a in answers:
        run.statuses.update(a["statuses"])
    wasted = run.throttles / sum(run.statuses.values())
    return judge(
        "two runs at once, both auto",
        "each 40-60 %; throttled <= 5 %",
        run,
        f"{first:.0%} and {1 - first:.0%}; {wasted:.2%} throttled; {together / 500:.1%} of 500/s together",
        {"share": 0.4 <= first <= 0.6, "throttled": wasted <= 0.05},
    )


async def halved_and_doubled(share: float) -> Verdict:
    down_s, up_s = 6.0 * share, 13.0 * share
    records = int(1_000 * down_s + 500 * (up_s - down_s) + 1_000 * max(3.0, 6.5 * share))
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


async def rate_limited(share: float) -> Verdict:
    records = int(1_500 * share)
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


async def scaling(share: float) -> Verdict:
    records = int(30_000 * share)
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


async def lost_replies(share: float) -> Verdict:
    records = int(5_000 * share)
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


async def squeezed(share: float) -> Verdict:
    """Somebody else takes four fifths of what is known to be there, and gives it back."""
    full, squeezed_to, down_s = 200, 40, 2.0
    up_s = down_s + max(3.0, 10.0 * share)
    records = int(full * (down_s + 3.5) + squeezed_to * (up_s - down_s))
    changes = {down_s: squeezed_to, up_s: full}
    changed_at_s: dict[int, float] = {}

    async def during(seconds: float) -> None:
        for at_s in [at_s for at_s in changes if seconds >= at_s]:
            limit = changes.pop(at_s)
            await asyncio.to_thread(emulator.set_limits, function="f", reserved_concurrency=limit)
            changed_at_s[limit] = seconds

    with EmulatorProcess(simulate=["name=f,latency=uniform(800ms,1200ms),concurrency=200"]) as emulator:
        run = await drive(emulator, records, during=during, concurrency=full)
    low_s, high_s = changed_at_s[squeezed_to], changed_at_s[full]
    low = [sample for sample in run.samples if low_s <= sample[0] < high_s]
    obeyed_s = next(
        (low[i][0] - low_s for i in range(len(low)) if all(s[1] <= squeezed_to for s in low[i:])), 99.0
    )
    back_s = next((s[0] - high_s for s in run.samples if s[0] > high_s and s[1] >= 0.9 * full), 99.0)
    before = max((s[2] for s in run.samples if s[0] < low_s), default=0)
    at_once = max(s[2] for s in low if s[0] <= low_s + max(obeyed_s, 1.0)) - before
    later = low[-1][2] - before - at_once
    return judge(
        "squeeze: 200, 40, 200 again, 1 s",
        "obeyed within 1.2 s at <= 40 refused calls; back within 3 s; nothing lost",
        run,
        f"obeyed after {obeyed_s:.1f} s at {at_once} refused calls, {later} more in {high_s - low_s:.0f} s; "
        f"90 % again after {back_s:.1f} s",
        {
            "obeyed": obeyed_s <= 1.2,
            "refused": at_once <= 40,
            "back": back_s <= 3.0,
            "nothing lost": run.statuses["succeeded"] == records,
        },
    )


def _strays(latency_ms: int, seconds: float, *, has_server: bool = True) -> Scene:
    """Calls refused at random, by the emulator, or by the endpoint of the laboratory, which is quicker."""
    budget, rate, call_s = 200, 0.005, latency_ms / 1e3
    limit_per_s = budget / call_s
    first_s = max(2.0, 3 * call_s)

    async def run_with(throttle_rate: float, length_s: float) -> Run:
        if not has_server:
            with Endpoint((latency_ms,), throttle_rate=throttle_rate) as endpoint:
                return await call_for(length_s, "lab-100000", endpoint.url(latency_ms), budget)
        simulate = f"name=f,latency={latency_ms}ms,concurrency={budget},throttle_rate={throttle_rate}"
        seed = str(random.randrange(1 << 30))  # other calls each time
        with EmulatorProcess(simulate=[simulate], extra=["--seed", seed]) as emulator:
            return await call_for(length_s, "f", emulator.endpoint_url, budget)

    async def scene(share: float) -> Verdict:
        length_s = max(first_s + 2 * call_s, seconds * share)
        whole: list[float] = []
        at_first: list[float] = []
        # A few hundred calls a second are made by any machine; of more, what this one makes without refusals.
        for throttle_rate in (rate,) if limit_per_s < 1_000 else (0.0, rate):
            run = await run_with(throttle_rate, length_s)
            # To the end of the last calls that others followed.
            whole.append(pace(run.finished_s, call_s, 0.0, length_s + call_s))
            at_first.append(pace(run.finished_s, call_s, 0.0, first_s + call_s))
        reachable, first_reachable = (
            min(limit_per_s, max(paces)) if len(paces) > 1 else limit_per_s for paces in (whole, at_first)
        )
        left = whole[-1] / reachable if reachable else 0.0
        left_at_first = at_first[-1] / first_reachable if first_reachable else 0.0
        records = sum(run.statuses.values())
        return judge(
            f"stray refusals: 0.5 % of calls, budget {budget}, {latency_ms} ms",
            f">= 90 % of {limit_per_s:,.0f}/s, or of what this machine reaches; nothing lost",
            run,
            f"{left:.1%} of {reachable:,.0f}/s; {left_at_first:.1%} over the first {first_s:.0f} s; "
            f"{run.refused:,} refused of {records + run.refused:,}",
            {"speed": left >= 0.9, "nothing lost": run.statuses["succeeded"] == records},
        )

    return scene


Scene = Callable[[float], Awaitable[Verdict]]
SCENES: list[Scene] = [
    reserved,
    denied,
    two_runs,
    halved_and_doubled,
    rate_limited,
    scaling,
    lost_replies,
    squeezed,
    _strays(1_000, 12.0),
    _strays(100, 6.0),
    _strays(20, 4.0, has_server=False),
]
