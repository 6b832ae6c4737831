"""Charts over time: what they draw, and that their captions say the same."""

from __future__ import annotations

import html
import re

import pytest

from fanout.charts import captions
from fanout.charts.axes import latency_axis, time_axis
from fanout.charts.run_charts import chart
from fanout.model import Outcome
from fanout.stats import Stats


def course(ends_s: list[float], *, call_s: float, until_s: float, every_s: float = 1.0) -> Stats:
    """A run in which calls that took so long ended at these times, looked at every so often."""
    stats, seq = Stats(started_s=0.0), 0
    for look in range(1, round(until_s / every_s) + 1):
        while seq < len(ends_s) and ends_s[seq] <= look * every_s:
            stats.add(Outcome(seq=seq, status="succeeded", attempts=1, throttles=0, duration_ms=call_s * 1e3))
            seq += 1
        stats.sample(now_s=look * every_s, in_flight=1, limit=10.0, cause=None)
    return stats


@pytest.mark.parametrize(
    ("ends_s", "call_s", "stretches"),
    [
        pytest.param([t / 10 for t in [*range(1, 200), *range(400, 600)]], 0.1, 2, id="an outage of 20 s"),
        pytest.param([float(t) for t in range(5, 60, 5)], 5.0, 1, id="calls of 5 s, one after the other"),
    ],
)
def test_a_line_of_latency_ends_where_no_call_was(ends_s: list[float], call_s: float, stretches: int) -> None:
    """An outage is a gap in it; seconds in which calls were merely under way are none."""
    stats = course(ends_s, call_s=call_s, until_s=60.0)
    drawn = chart(stats, "latency", "")
    paths = re.findall(r'<path class="line [^"]*" d="([^"]*)"', drawn)
    assert [path.count("M") for path in paths] == [stretches] * 3


@pytest.mark.parametrize("most_points", [300, 60])
def test_the_best_interval_is_one_that_is_drawn(most_points: int) -> None:
    """Not a burst of a tenth of a second that no chart shows."""
    ends_s = sorted([*(t / 2 for t in range(1, 240)), *[60.05] * 100])
    stats = course(ends_s, call_s=0.5, until_s=120.0, every_s=0.1)
    said = captions(stats, most_points)["throughput"]
    best = re.search(r"([\d.,]+) in the best interval", said)
    drawn = html.unescape(chart(stats, "throughput", "", most_points=most_points))
    rates = {float(rate.replace(",", "")) for rate in re.findall(r'"([\d.,]+)/s"', drawn)}
    assert best is not None
    assert float(best[1].replace(",", "")) == max(rates)


@pytest.mark.parametrize("longest_s", [0.0, 1.0, 179.0, 7_000.0, 86_400.0, 9e6])
def test_any_run_has_few_ticks(longest_s: float) -> None:
    """From a moment to months."""
    axis = time_axis(longest_s)
    assert 1 <= len(axis.ticks) <= 12
    assert axis.ticks[0][0] == 0.0
    assert all(place <= max(longest_s, 0.1) for place, _ in axis.ticks)


@pytest.mark.parametrize("most_ms", [0.0, 5.0, 3e3, 9e5, 1e12])
def test_any_latencies_have_few_ticks(most_ms: float) -> None:
    """Fewer of each power of ten, the more powers there are."""
    axis = latency_axis(0.0, most_ms)
    assert len(axis.ticks) <= 20
    assert axis.is_log
