"""Writes a run directory as a real run leaves it: a ramp, throttles, cold starts, all kinds of failures.

``python -m tests.report.realistic RUN_DIR [RECORDS]``
"""

from __future__ import annotations

import heapq
import json
import random
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from fanout.model import AttemptEnd, ErrorDetail, Outcome
from fanout.stats import Sample, TimelineWriter

START_S = 1_795_334_400.0  # 2026-11-22 08:00:00 UTC
HOSTILE = (
    "</script><script>document.title='PWNED'</script>"
    "<img src=x onerror=\"document.title='PWNED'\">\x1b[2J\u202e\u2028<!--"
)

_PYTHON_TRACE = [
    '  File "/var/task/app.py", line 41, in handler\n    return total(order)\n',
    '  File "/var/task/orders.py", line 12, in total\n    raise ValueError(f"bad total {value}")\n',
]
_NODE_TRACE = [
    "TypeError: Cannot read properties of undefined (reading 'id')",
    "    at exports.handler (/var/task/index.js:17:23)",
    "    at process.processTicksAndRejections (node:internal/process/task_queues:95:5)",
]
_FUNCTION_ERRORS: list[tuple[float, ErrorDetail]] = [
    (
        0.5,
        ErrorDetail(
            type="ValueError", message="bad total -3.50", stack_trace=_PYTHON_TRACE, handled="Unhandled"
        ),
    ),
    (0.2, ErrorDetail(type="TypeError", message=_NODE_TRACE[0], stack_trace=_NODE_TRACE)),
    (
        0.15,
        ErrorDetail(
            type="Sandbox.Timedout", message="RequestId: 8f1c Error: Task timed out after 3.00 seconds"
        ),
    ),
    (
        0.1,
        ErrorDetail(
            type="Runtime.OutOfMemory", message="RequestId: 8f1c Error: Runtime exited: signal: killed"
        ),
    ),
    (0.05, ErrorDetail(type=f"Evil{HOSTILE}", message=HOSTILE, stack_trace=[HOSTILE, f"  at {HOSTILE}"])),
]
_OTHERS: list[tuple[Literal["rejected", "undelivered", "unknown"], ErrorDetail, int | None]] = [
    ("rejected", ErrorDetail(type="InvalidJson", message="malformed (byte 17)"), None),
    ("rejected", ErrorDetail(type="RequestTooLargeException", message="6300000 bytes; at most 6291456"), 413),
    ("undelivered", ErrorDetail(type="ServiceException", message="internal error; 4 attempts"), 500),
    ("unknown", ErrorDetail(type="ReplyLost", message="no reply after 63 s; it may have run"), None),
]


class Simulation:
    """Calls with latencies under a limit that ramps up, is cut by throttles and recovers."""

    def __init__(self, records: int, *, limit: int, mean_s: float, seed: int, tail: bool) -> None:
        self.records = records
        self.random = random.Random(seed)
        self.ceiling = limit
        self.mean_s = mean_s
        self.tail = tail
        self.throttles: Counter[str] = Counter()
        self.samples: list[Sample] = []
        self.warm = 0
        self._cut_s = 0.45 * records * mean_s / limit  # when the throttled phase begins
        self._cut_until_s = self._cut_s + 0.2 * records * mean_s / limit

    def limit_at(self, now_s: float) -> tuple[float, str]:
        """The limit at a moment, and what sets it."""
        ramp = min(self.ceiling, self.ceiling / 3 + self.ceiling / 3 * now_s / 10)
        if self._cut_s <= now_s < self._cut_until_s:
            wave = ((now_s - self._cut_s) * 4 / (self._cut_until_s - self._cut_s)) % 1
            return ramp * (0.55 + 0.25 * wave), "throttles"
        return ramp, "ramp" if ramp < self.ceiling else "reserved"

    def outcomes(self) -> Iterator[Outcome]:
        """The outcomes in order of finishing."""
        now_s, next_sample_s, seq, done = 0.0, 1.0, 0, 0
        flying: list[tuple[float, int, float, bool]] = []
        while done < self.records:
            limit, cause = self.limit_at(now_s)
            while seq < self.records and len(flying) < limit:
                cold = len(flying) >= self.warm
                self.warm += cold
                took_s = self.random.lognormvariate(0, 0.45) * self.mean_s + cold * self.random.uniform(
                    0.2, 0.9
                )
                heapq.heappush(flying, (now_s + took_s, seq, now_s, cold))
                seq += 1
            end_s, ended, begun_s, cold = heapq.heappop(flying)
            while next_sample_s < end_s:
                limit, cause = self.limit_at(next_sample_s)
                self.sample(
                    next_sample_s, len(flying) + 1, limit, cause if seq < self.records else "source", done
                )
                next_sample_s += 1
            now_s = end_s
            done += 1
            yield self.outcome(ended, begun_s, end_s - begun_s, cold)
        self.sample(now_s, 0, *self.limit_at(now_s), done)

    def sample(self, now_s: float, in_flight: int, limit: float, cause: str, done: int) -> None:
        """Note one line of the timeline."""
        if cause == "throttles":
            self.throttles["ReservedFunctionConcurrentInvocationLimitExceeded"] += self.random.randrange(
                40, 160
            )
            self.throttles["CallerRateLimitExceeded"] += self.random.randrange(12)
        self.samples.append(
            Sample(
                t=round(START_S + now_s, 3),
                in_flight=in_flight,
                limit=round(limit),
                cause=cause,
                rate_per_s=limit * 10,
                done=done,
                throttles=dict(self.throttles),
            )
        )

    def outcome(self, seq: int, begun_s: float, took_s: float, cold: bool) -> Outcome:
        """One outcome: about 2 % do not succeed."""
        rnd = self.random
        outcome = Outcome(
            seq=seq,
            key=f"order-{seq}" if seq % 5 else None,
            status="succeeded",
            attempts=1,
            throttles=1 if self._cut_s < begun_s < self._cut_until_s and rnd.random() < 0.04 else 0,
            request_id=f"{rnd.getrandbits(32):08x}-0000-4000-8000-{seq:012d}",
            http_status=200,
            executed_version="$LATEST",
            started_at=stamp(begun_s),
            queued_ms=0.8,
            duration_ms=round(took_s * 1000, 3),
            output_raw=msgspec.Raw(b'{"ok":true}'),
        )
        if self.tail:
            outcome.billed_ms = int(took_s * 990) + 1
            outcome.memory_mb, outcome.max_memory_mb = 512, 180
            outcome.init_ms = round(rnd.uniform(150, 700), 2) if cold else None
        dice = rnd.random()
        if dice < 0.016:
            detail = rnd.choices(
                [error for _, error in _FUNCTION_ERRORS], [weight for weight, _ in _FUNCTION_ERRORS]
            )[0]
            self.fail(outcome, "function_error", detail)
            outcome.log_tail = f"START\n[ERROR] {detail.type}\nREPORT Duration: 3 ms" if self.tail else None
        elif dice < 0.018:
            status, detail, http = rnd.choice(_OTHERS)
            self.fail(outcome, status, detail)
            outcome.http_status, outcome.output_raw = http, None
            if status == "undelivered":
                outcome.attempts = 4
        elif dice < 0.024:
            outcome.attempts = 2
            outcome.history = [
                AttemptEnd(
                    verdict="transient", at=stamp(begun_s - 1), duration_ms=21.0, error="ServiceException"
                ),
                AttemptEnd(verdict="success", at=stamp(begun_s), duration_ms=outcome.duration_ms or 0),
            ]
        return outcome

    @staticmethod
    def fail(outcome: Outcome, status: Any, detail: ErrorDetail) -> None:
        """Make it a failure."""
        outcome.status, outcome.error = status, detail
        outcome.input_raw = msgspec.Raw(b'{"order":%d}' % outcome.seq)
        if "Evil" in detail.type:
            outcome.key = HOSTILE


def stamp(running_s: float) -> str:
    """ISO 8601 of a moment of the run."""
    moment = datetime.fromtimestamp(START_S + running_s, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def write_run(
    run_dir: Path,
    records: int = 100_000,
    *,
    limit: int = 3000,
    mean_s: float = 0.8,
    seed: int = 7,
    tail: bool = True,
    with_timeline: bool = True,
    **more: Any,
) -> dict[str, Any]:
    """Write a run directory; returns what its run.json says. ``more`` goes into run.json."""
    run_dir.mkdir(parents=True, exist_ok=True)
    simulation = Simulation(records, limit=limit, mean_s=mean_s, seed=seed, tail=tail)
    counts: Counter[str] = Counter()
    encode = msgspec.json.Encoder().encode
    with (run_dir / "outcomes.jsonl").open("wb") as file:
        for outcome in simulation.outcomes():
            counts[outcome.status] += 1
            file.write(encode(outcome) + b"\n")
    if with_timeline:
        with TimelineWriter(run_dir / "timeline.jsonl", begun_s=START_S) as writer:
            for sample in simulation.samples:
                writer.append(sample)
    run = {
        "fanout_version": "0.1.0",
        "function": "nightly-orders",
        "region": "us-east-1",
        "function_configuration": {"memory_mb": 512, "architecture": "arm64", "storage_mb": 512},
        "options": {
            "concurrency": "auto",
            "log_type": "Tail" if tail else "None",
            "invocation_type": "RequestResponse",
        },
        "input": {"location": "orders.jsonl", "fingerprint": "sha256:0f"},
        "state": "finished",
        "records_read": records,
        "counts": dict(counts),
        "started_at": stamp(0),
        "finished_at": stamp(simulation.samples[-1].t - START_S),
    } | more
    (run_dir / "run.json").write_text(json.dumps(run, indent=1))
    return run


if __name__ == "__main__":
    write_run(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 100_000)
