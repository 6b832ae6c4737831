"""Thresholds: what they take, from when on they judge, and what they say."""

from __future__ import annotations

import pytest

from fanout.errors import ConfigError
from fanout.model import Outcome
from fanout.runs.stop_rules import StopRules
from fanout.runs.threshold import parse_threshold
from fanout.stats import Stats


def stats_of(*durations_ms: float, failed: int = 0) -> Stats:
    """Outcomes of these durations, the first so many of them failed."""
    stats = Stats()
    stats.add_many(
        [
            Outcome(
                seq=seq,
                status="function_error" if seq < failed else "succeeded",
                attempts=1,
                throttles=0,
                duration_ms=ms,
            )
            for seq, ms in enumerate(durations_ms)
        ]
    )
    return stats


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("p50<20ms", None),
        ("p91<20ms", "p91 is "),
        ("p99.9 < 2s", None),
        ("mean<20ms", None),
        ("mean<18ms", "mean is 19"),
        ("max<0.1s", "max is 100"),
        ("max<1m", None),
        ("failure_rate<5.1%", None),
        ("failure_rate<5%", "failure_rate is 5 %"),
    ],
)
def test_what_holds(text: str, said: str | None) -> None:
    """Below the bound it holds; at it or above it does not."""
    broken = parse_threshold(text).broken_by(stats_of(*[10.0] * 90, *[100.0] * 10, failed=5))
    assert (broken is None) if said is None else (broken is not None and said in broken)


def test_the_first_hundred_calls_are_not_judged() -> None:
    """A cold start at the beginning says nothing yet."""
    assert parse_threshold("max<1ms").broken_by(stats_of(*[900.0] * 99)) is None
    assert parse_threshold("max<1ms").broken_by(stats_of(*[900.0] * 100)) is not None


@pytest.mark.parametrize(
    "text",
    [
        "p95",
        "p95<5",
        "p0<1s",
        "p95>1s",
        "median<1s",
        "failure_rate<5ms",
        "p95<5%",
        "max<0s",
        "failure_rate<101%",
    ],
)
def test_what_is_no_threshold(text: str) -> None:
    """Refused at construction, naming what it takes."""
    with pytest.raises(ConfigError, match="threshold is "):
        parse_threshold(text)


def test_enough_and_aborting_stop_a_run() -> None:
    """Enough counts what succeeded; a threshold stops a run only when told to."""
    slow = stats_of(*[50.0] * 100, failed=40)
    thresholds = (parse_threshold("p95<10ms"),)
    assert StopRules(thresholds=thresholds).stop_for(slow) is None
    stopped = StopRules(thresholds=thresholds, aborts_at_thresholds=True).stop_for(slow)
    assert stopped is not None
    assert stopped[0] == "threshold"
    assert StopRules(enough=61).stop_for(slow) is None
    assert StopRules(enough=60).stop_for(slow) == ("enough", "60 records have succeeded")
    with pytest.raises(ConfigError, match="enough is 0"):
        StopRules(enough=0)
    with pytest.raises(ConfigError, match="without a threshold"):
        StopRules(aborts_at_thresholds=True)


def test_what_was_measured_is_kept() -> None:
    """Milliseconds or a share, with whether it holds; nothing before 100 calls."""
    stats = Stats(started_s=0.0)
    for seq in range(200):
        if seq == 50:
            assert parse_threshold("mean<1ms").measured(stats) == {
                "rule": "mean<1ms",
                "value": None,
                "holds": True,
            }
        status = "succeeded" if seq % 4 else "function_error"
        stats.add(Outcome(seq=seq, status=status, attempts=1, throttles=0, duration_ms=10.0))  # type: ignore[arg-type]
    assert parse_threshold("mean<1ms").measured(stats) == {"rule": "mean<1ms", "value": 10.0, "holds": False}
    failed = parse_threshold("failure_rate<30%").measured(stats)
    assert failed == {"rule": "failure_rate<30%", "value": 0.25, "holds": True}
