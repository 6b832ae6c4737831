"""Limits against a simulated Lambda, in virtual time: wasted attempts and time against the ideal.

A discrete-event simulation: clients with the real gate and retry policy, a server with a capacity that
may change, lognormal latency (p50 100 ms, p99 2 s) and a network of 5 ms each way. A refused call is
answered in one round trip. ``python -m benchmarks.limits --sweep``.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.measuring import summary
from fanout.gate import Gate, Release
from fanout.limit import AdaptiveLimit, Cause, Limit
from fanout.model import Classification, ThrottleKind, Verdict
from fanout.retry import RetryPolicy

NET_S = 0.005
P50_S, P99_S = 0.1, 2.0
SIGMA = math.log(P99_S / P50_S) / 2.3263478740408408
THROTTLED = Classification(verdict=Verdict.THROTTLED, throttle=ThrottleKind.CONCURRENCY)


class PlainAIMD:
    """TCP Reno's way: doubles each round until a throttle, then +1 a round; halved once a round at most."""

    peak = 1 << 30
    peak_until_s = float("inf")

    def __init__(self, budget: int, start: float = 10.0, keep: float = 0.5) -> None:
        self._budget, self._level, self._keep = budget, min(budget, start), keep
        self._cut_at_s = float("-inf")
        self._is_starting = True

    def ceiling(self, now_s: float) -> int:
        return int(self._level)

    def on_full(self, in_flight: int, now_s: float) -> bool:
        return False  # it grows by successes

    def on_peak(self, in_flight: int, now_s: float) -> None:
        pass

    def on_success(self, sent_at_s: float, now_s: float, in_flight: int) -> None:
        if in_flight + 1 >= int(self._level):
            self._level = min(self._budget, self._level + (1 if self._is_starting else 1 / self._level))

    def on_successes(self, sent_at_s: Sequence[float], now_s: float, in_flight: int) -> None:
        for place, each_s in enumerate(sent_at_s, 1):
            self.on_success(each_s, now_s, in_flight - place)

    def on_throttle(self, kind: Any, sent_at_s: float, now_s: float, *_: Any) -> None:
        self._is_starting = False
        if sent_at_s >= self._cut_at_s:
            self._cut_at_s = now_s
            self._level = max(1.0, self._level * self._keep)

    def set_budget(self, budget: int, now_s: float, cause: Cause | None = None) -> None:
        self._budget = budget

    def cause(self, now_s: float) -> Cause:
        return "throttles"

    def next_growth_s(self, now_s: float) -> float | None:
        return None


class Gradient(PlainAIMD):
    """Netflix Gradient2: the ratio of long to recent latency, plus a queue of sqrt(limit); throttles cut."""

    def __init__(self, budget: int, start: float = 20.0) -> None:
        super().__init__(budget, start, 0.9)
        self._long_s: float | None = None

    def on_success(self, sent_at_s: float, now_s: float, in_flight: int) -> None:
        rtt_s = now_s - sent_at_s
        self._long_s = rtt_s if self._long_s is None else self._long_s + (rtt_s - self._long_s) / 600
        if in_flight + 1 < self._level / 2:
            return
        gradient = max(0.5, min(1.0, 1.5 * self._long_s / rtt_s))
        target = self._level * gradient + math.sqrt(self._level)
        self._level = max(1.0, min(self._budget, 0.8 * self._level + 0.2 * target))


class Fixed(PlainAIMD):
    """A number of workers somebody wrote down, each retrying with full jitter: what most clients do.

    A worker that waits for its retry holds its permit.
    """

    def on_success(self, sent_at_s: float, now_s: float, in_flight: int) -> None:
        pass

    def on_throttle(self, kind: Any, sent_at_s: float, now_s: float, *_: Any) -> None:
        pass


@dataclass
class Client:
    limit: Limit
    retry: RetryPolicy
    starts_at_s: float = 0.0
    gate: Gate = field(init=False)
    due: list[tuple[float, int, int]] = field(default_factory=list)
    throttles: int = 0
    finished: int = 0
    timer_s: float = math.inf

    def __post_init__(self) -> None:
        self.gate = Gate(self.limit, max_bytes_in_flight=1 << 40)


@dataclass
class Result:
    capacity: float
    clients: list[Client]
    used_s: float = 0.0
    available_s: float = 0.0
    # (time, calls running, of each client, throttles so far), every 100 ms
    samples: list[tuple[float, int, tuple[int, ...], int]] = field(default_factory=list)

    @property
    def use(self) -> float:
        return self.used_s / self.available_s

    @property
    def wasted(self) -> float:
        return sum(c.throttles for c in self.clients) / max(1, sum(c.finished for c in self.clients))

    @property
    def shares(self) -> list[float]:
        total = sum(c.finished for c in self.clients)
        return [c.finished / total for c in self.clients]

    def use_between(self, from_s: float, to_s: float, capacity: Callable[[float], int]) -> float:
        chosen = [(t, n) for t, n, _, _ in self.samples if from_s <= t < to_s]
        return sum(n for _, n in chosen) / sum(capacity(t) for t, _ in chosen)

    def reaches(self, level: float, from_s: float) -> float:
        """Seconds after ``from_s`` until a second's mean is at least ``level``."""
        running = [(t, n) for t, n, _, _ in self.samples if t >= from_s]
        for i in range(len(running) - 5):
            if sum(n for _, n in running[i : i + 5]) / 5 >= level:
                return running[i][0] - from_s
        return math.inf


def simulate(
    limits: Sequence[Limit],
    capacity: Callable[[float], int],
    *,
    seconds: float,
    starts_at_s: Sequence[float] | None = None,
    latency: Callable[[random.Random], float] | None = None,
    seed: int = 1,
    busy_after_s: float = 0.0,
    stray_rate: float = 0.0,
) -> Result:
    """Run all clients for ``seconds`` with endless work; a share of calls is refused whatever is running."""
    rng = random.Random(seed)
    draw = latency or (lambda r: P50_S * math.exp(SIGMA * r.gauss(0, 1)))
    starts = starts_at_s or [rng.uniform(0, 0.05) for _ in limits]
    clients = [
        Client(limit, RetryPolicy(rng=random.Random(seed * 100 + i)), starts[i])
        for i, limit in enumerate(limits)
    ]
    result = Result(0, clients)
    order = itertools.count()
    events: list[tuple[float, int, str, int, float, int]] = []

    def push(at_s: float, what: str, who: int, sent_s: float = 0.0, extra: int = 0) -> None:
        heapq.heappush(events, (at_s, next(order), what, who, sent_s, extra))

    running = 0
    running_of = [0] * len(clients)
    last_s = 0.0

    def pump(who: int, now: float) -> None:
        client = clients[who]
        while client.gate.has_room(now):
            tries = 0
            if client.due and client.due[0][0] <= now:
                tries = heapq.heappop(client.due)[2]
            client.gate.acquire(now)
            push(now + NET_S * rng.uniform(0.8, 1.2), "arrive", who, now, tries)
        change_s = client.gate.next_change_s(now)
        if change_s is not None and not now < client.timer_s <= change_s:
            client.timer_s = max(change_s, now + 1e-6)
            push(client.timer_s, "timer", who)

    for i, start in enumerate(starts):
        push(start, "timer", i)
    for k in range(int(seconds * 10)):
        push(k / 10, "sample", 0)
    while events:
        now, _, what, who, sent_s, tries = heapq.heappop(events)
        if now > seconds:
            break
        result.used_s += min(running, capacity(last_s)) * (now - last_s)
        result.available_s += capacity(last_s) * (now - last_s)
        last_s = now
        if what == "arrive":
            if running >= capacity(now) or (stray_rate and rng.random() < stray_rate):
                push(now + NET_S, "throttle", who, sent_s, tries)
            else:
                running += 1
                running_of[who] += 1
                push(now + draw(rng), "done", who, sent_s, tries)
        elif what == "done":
            push(now + busy_after_s, "free", who)
            push(now + NET_S * rng.uniform(0.8, 1.2), "reply", who, sent_s, tries)
        elif what == "free":
            running -= 1
            running_of[who] -= 1
        elif what == "reply":
            clients[who].finished += 1
            clients[who].gate.release(Release.SUCCESS, 0, sent_s, now)
            pump(who, now)
        elif what == "throttle":
            client = clients[who]
            client.throttles += 1
            delay_s = client.retry.decide(THROTTLED, attempts=0, throttles=tries + 1)
            assert delay_s is not None
            if isinstance(client.limit, Fixed):
                push(now + delay_s + NET_S, "arrive", who, now + delay_s, tries + 1)
                continue
            client.gate.release(Release.DROPPED, 0, sent_s, now, ThrottleKind.CONCURRENCY)
            heapq.heappush(client.due, (now + delay_s, next(order), tries + 1))
            pump(who, now)
        elif what == "timer":
            clients[who].timer_s = math.inf if clients[who].timer_s <= now else clients[who].timer_s
            pump(who, now)
        else:
            result.samples.append((now, running, tuple(running_of), sum(c.throttles for c in clients)))
    return result


CAPACITIES = (5, 20, 50, 200, 800, 2_000)
ASSUMED = 3_000  # what each algorithm believes it may use at most
ALGORITHMS: dict[str, Callable[[], Limit]] = {
    "fanout": lambda: AdaptiveLimit(ASSUMED, cause="assumed"),
    "AIMD": lambda: PlainAIMD(ASSUMED),
    "Gradient2": lambda: Gradient(ASSUMED),
    "fixed + retry": lambda: Fixed(ASSUMED, start=1_000),
}


def sweep(capacity: int, seeds: Sequence[int]) -> list[dict[str, float | str]]:
    """One row for each algorithm: alone, two together, and after the capacity was halved and came back."""

    def mean(values: Sequence[float]) -> float:
        return sum(values) / len(values)

    seconds = 20.0
    ideal = simulate([AdaptiveLimit(capacity, cause="reserved")], lambda _: capacity, seconds=seconds).use
    rows: list[dict[str, float | str]] = []

    def measure(name: str, make: Callable[[], Limit], starts_at_s: Sequence[float] | None) -> None:
        alone = [simulate([make()], lambda _: capacity, seconds=seconds, seed=seed) for seed in seeds]
        pair = [
            simulate(
                [make(), make()], lambda _: capacity, seconds=seconds, seed=seed, starts_at_s=starts_at_s
            )
            for seed in seeds
        ]
        back = [
            simulate(
                [make()], lambda t: capacity // 2 if 7 <= t < 12 else capacity, seconds=seconds, seed=seed
            )
            for seed in seeds
        ]
        rows.append(
            {
                "capacity": capacity,
                "algorithm": name,
                "wasted": mean([r.wasted for r in alone]),
                "time_against_ideal": ideal / mean([r.use for r in alone]),
                "settled": ideal
                / mean([r.use_between(seconds / 2, seconds, lambda _: capacity) for r in alone]),
                "two_wasted": mean([r.wasted for r in pair]),
                "two_smaller_share": mean([min(r.shares) for r in pair]),
                "back_after_s": mean([min(8.0, r.reaches(0.85 * ideal * capacity, 12.0)) for r in back]),
            }
        )

    for name, make in ALGORITHMS.items():
        measure(name, make, None)
    measure("fanout, known", lambda: AdaptiveLimit(capacity, cause="reserved"), (0.0, 0.3))
    return rows


STRAYS = (  # budget, seconds a call takes, seconds of the run: at length, and the first ones alone
    (200, 1.0, 20.0),
    (200, 0.1, 20.0),
    (200, 0.02, 20.0),
    (200, 1.0, 5.0),
    (200, 0.1, 2.0),
    (200, 0.02, 2.0),
    (800, 1.0, 5.0),
    (800, 0.1, 2.0),
)


def strays(seeds: Sequence[int]) -> list[dict[str, Any]]:
    """Half a percent of calls refused whatever is running: throughput against a run without."""
    return [
        {
            "budget": budget,
            "call_s": call_s,
            "seconds": seconds,
            "left": summary(
                _finished(budget, call_s, seconds, 0.005, seed)
                / _finished(budget, call_s, seconds, 0.0, seed)
                for seed in seeds
            ),
        }
        for budget, call_s, seconds in STRAYS
    ]


def _finished(budget: int, call_s: float, seconds: float, stray_rate: float, seed: int) -> int:
    result = simulate(
        [AdaptiveLimit(budget, cause="reserved")],
        lambda _: 10**9,
        seconds=seconds,
        latency=lambda rng: rng.uniform(0.8 * call_s, 1.2 * call_s),
        stray_rate=stray_rate,
        seed=seed,
    )
    return result.clients[0].finished


def main(seeds: Sequence[int] = (1, 2, 3)) -> dict[str, Any]:
    """Print the table; returns what is kept of it."""
    from multiprocessing import Pool

    head = (
        "capacity",
        "algorithm",
        "wasted",
        "time",
        "settled",
        "two: wasted",
        "smaller share",
        "back after",
    )
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    kept = []
    with Pool() as pool:
        for rows in pool.imap(_sweep_one, [(capacity, seeds) for capacity in CAPACITIES]):
            for row in rows:
                kept.append(row)
                print(
                    f"| {row['capacity']:,} | {row['algorithm']} | {row['wasted']:.1%} "
                    f"| {row['time_against_ideal']:.2f} | {row['settled']:.2f} | {row['two_wasted']:.1%} "
                    f"| {row['two_smaller_share']:.0%} | {row['back_after_s']:.1f} s |",
                    flush=True,
                )
    print("\n| stray refusals: budget, a call | for | throughput left, least to most |\n|---|---|---|")
    found = strays(range(1, 1 + 10 * len(seeds)))
    for each in found:
        left = each["left"]
        print(
            f"| {each['budget']}, {each['call_s']:g} s | {each['seconds']:g} s "
            f"| {left['median']:.1%} ({left['least']:.0%} to {left['most']:.0%}) |"
        )
    return {"rows": kept, "strays": found}


def _sweep_one(what: tuple[int, Sequence[int]]) -> list[dict[str, float | str]]:
    return sweep(*what)
