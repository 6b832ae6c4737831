"""Stats: every outcome counts once, figures are within their stated error, memory stays bounded."""

from __future__ import annotations

import math
import tracemalloc
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.model import STATUSES, BatchPlace, ErrorDetail, Outcome, Status
from fanout.quantities import between, count_of, dollars, milliseconds, number, percent, seconds
from fanout.stats import Sample, Stats, TimelineWriter, printable, read_timeline, stats_of
from fanout.stats.failures import MOST_CLUSTERS, OTHER, top_frame
from fanout.stats.histogram import ERROR
from fanout.stats.reservoir import MOST_EXECUTIONS, MOST_SLOWEST
from fanout.stats.series import MOST_BINS
from fanout.stats.snapshot import Pace
from tests.example_counts import examples

START = "2026-11-21T08:00:00.000Z"
START_S = 1_795_248_000.0


def outcome(seq: int = 0, status: Status = "succeeded", **members: object) -> Outcome:
    """An outcome with little in it."""
    given_: dict[str, object] = {"attempts": 1, "throttles": 0, "duration_ms": 100.0, "started_at": START}
    return Outcome(seq=seq, status=status, **(given_ | members))  # type: ignore[arg-type]


def failure(seq: int, kind: str, trace: list[str] | None = None, **members: object) -> Outcome:
    """A function error."""
    error = ErrorDetail(type=kind, message=f"message of {seq}", stack_trace=trace)
    return outcome(seq, "function_error", error=error, **members)


def sample(stats: Stats, now_s: float, **members: object) -> Sample:
    """Close a bin."""
    given_: dict[str, object] = {"in_flight": 5, "limit": 10, "cause": "account"}
    return stats.sample(now_s=now_s, **(given_ | members))  # type: ignore[arg-type]


def exact(values: list[float], share: float) -> float:
    """The nearest-rank quantile."""
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


@given(st.lists(st.floats(min_value=0.002, max_value=5e6), min_size=1, max_size=300))
def test_percentiles_are_within_the_stated_error(values: list[float]) -> None:
    """Each percentile is within 0.5 % of the exact one, whatever the values; max and mean are exact."""
    stats = Stats(started_s=0.0)
    for seq, value in enumerate(values):
        stats.add(outcome(seq, duration_ms=value))
        if seq % 7 == 0:
            sample(stats, float(seq))
    latency = stats.latency_ms()
    for name, share in (("p50", 0.5), ("p90", 0.9), ("p95", 0.95), ("p99", 0.99)):
        assert latency[name] == pytest.approx(exact(values, share), rel=ERROR + 1e-9)
    assert latency["max"] == max(values)
    assert latency["mean"] == pytest.approx(sum(values) / len(values))
    assert latency["count"] == len(values)


@pytest.mark.parametrize("value", [0.0, 1e-9, 1e12, float("inf")])
def test_latencies_out_of_range_are_counted(value: float) -> None:
    """A latency that no bucket is for lands in the nearest one: nothing raises, nothing is lost."""
    stats = Stats(started_s=0.0)
    try:
        stats.add(outcome(duration_ms=value))
    except OverflowError:
        pytest.fail("an endless latency must not end the run")
    assert stats.latency_ms()["count"] == 1


@given(st.lists(st.tuples(st.sampled_from(STATUSES), st.integers(0, 4), st.integers(0, 3)), max_size=200))
def test_counts_sum_to_the_records(seen: list[tuple[Status, int, int]]) -> None:
    """Counts, attempts and failure clusters each sum to the records they are of."""
    stats = Stats(started_s=0.0)
    for seq, (status, attempts, throttles) in enumerate(seen):
        stats.add(outcome(seq, status, attempts=attempts, throttles=throttles))
    sample(stats, 1.0)
    assert stats.counts == {status: Counter(s for s, _, _ in seen)[status] for status in STATUSES}
    assert stats.done == len(seen)
    assert sum(stats.attempts_taken().values()) == len(seen)
    assert stats.retries == sum(max(0, attempts - 1) for _, attempts, _ in seen)
    assert sum(cluster.count for cluster in stats.failures()) == stats.failed
    assert sum(bin_.finished for bin_ in stats.series.bins) == len(seen)


@pytest.mark.parametrize(
    "records", [10_000, pytest.param(1_000_000, marks=[pytest.mark.slow, pytest.mark.timeout(600)])]
)
def test_memory_does_not_grow_with_the_run(records: int) -> None:
    """However many records, failures of however many kinds, and samples: all of it takes less than 2 MB."""
    stats = Stats(started_s=0.0)

    tracemalloc.start()
    for seq in range(records):
        if seq % 10:
            stats.add(outcome(seq, duration_ms=1.0 + seq % 997, key=f"key-{seq}", init_ms=1.0))
        else:
            stats.add(failure(seq, f"Kind{seq % 5000}", [f"frame {seq}"]))
        if seq % (records // 1000) == 0:
            sample(stats, seq / 50)
    held_bytes, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held_bytes < 2_000_000
    assert len(stats.series.bins) <= MOST_BINS
    assert len(stats.failures()) <= MOST_CLUSTERS + 1
    assert len(stats.slowest()) == MOST_SLOWEST


def test_an_outcome_itself_is_not_kept() -> None:
    """What is sampled holds neither input nor output, which may be megabytes each."""
    stats = Stats(started_s=0.0)
    stats.add(outcome(key="k" * 10_000))
    assert len(stats.slowest()[0].key or "") == 200
    assert not hasattr(stats.slowest()[0], "output")
    assert not hasattr(stats.executions()[0], "input")


def test_generations_of_a_record_that_took_equally_long_are_both_kept() -> None:
    """A redriven record may take as many milliseconds as before, and has another request id."""
    stats = Stats()
    for generation in range(3):
        stats.add(outcome(duration_ms=7.0, request_id=f"r{generation}"))
    assert [each.duration_ms for each in stats.slowest()] == [7.0] * 3


def test_common_kinds_of_failure_outlive_a_flood_of_rare_ones() -> None:
    """With more kinds than are kept the common ones stay, and the rest is counted under one name."""
    stats = Stats(started_s=0.0)
    for seq in range(5000):
        stats.add(failure(seq, "Common" if seq % 2 else f"Rare{seq}"))
    first, *_, last = stats.failures()
    assert (first.type, first.count) == ("Common", 2500)
    assert last.type == OTHER
    assert sum(cluster.count for cluster in stats.failures()) == 5000


def test_failures_cluster_by_type_and_top_frame() -> None:
    """Failures of one type raised at two places are two kinds, each with its first as the sample."""
    stats = Stats(started_s=0.0)
    for seq, line in enumerate((3, 3, 9)):
        trace = [
            '  File "/var/task/app.py", line 1, in handler\n',
            f'  File "/var/task/x.py", line {line}, in f\n',
        ]
        stats.add(failure(seq, "ValueError", trace, key=f"k{seq}"))
    assert [(c.type, c.frame, c.count, c.seq, c.key) for c in stats.failures()] == [
        ("ValueError", "x.py:3 in f", 2, 0, "k0"),
        ("ValueError", "x.py:9 in f", 1, 2, "k2"),
    ]
    assert stats.failures()[0].message == "message of 0"


@pytest.mark.parametrize(
    ("trace", "frame"),
    [
        (
            ['  File "/var/task/a.py", line 4, in h\n    boom()\n', '  File "b.py", line 7, in g\n'],
            "b.py:7 in g",
        ),
        (["TypeError: no", "    at f (/var/task/i.js:1:2)", "    at g (node:x)"], "f (i.js:1:2)"),
        (["com.example.H.handle(H.java:12)", "java.lang.Thread.run"], "com.example.H.handle(H.java:12)"),
        ([], ""),
    ],
)
def test_top_frame_of_each_runtime(trace: list[str], frame: str) -> None:
    """Python's last frame, Node's first and Java's first line are where the error was raised."""
    assert top_frame(trace) == frame


def test_bins_merge_in_pairs_as_the_run_grows() -> None:
    """A long run has at most 600 bins, which tile its running time and lose no count."""
    stats = Stats(started_s=0.0)
    for second in range(1, 5001):
        stats.add(outcome(second, duration_ms=float(second)))
        stats.note_throttle("rate")
        sample(stats, float(second), in_flight=second % 2)
    bins = stats.series.bins
    assert MOST_BINS / 2 <= len(bins) <= MOST_BINS
    assert stats.series.width_s == 16
    assert [bin_.start_s for bin_ in bins[1:]] == [bin_.end_s for bin_ in bins[:-1]]
    assert (bins[0].start_s, bins[-1].end_s) == (0.0, 5000.0)
    assert sum(bin_.finished for bin_ in bins) == 5000
    assert sum(bin_.throttles["rate"] for bin_ in bins) == 5000
    assert bins[0].in_flight == pytest.approx(0.5)
    assert bins[-1].percentiles_ms()[0] == pytest.approx(4997, rel=0.01)


def test_a_pause_between_sessions_has_no_length() -> None:
    """What elapsed between an interruption and its resumption is no running time."""
    stats = Stats(started_s=100.0)
    sample(stats, 110.0)
    stats.begin_session(5000.0)
    sample(stats, 5003.0)
    assert stats.elapsed_s == 13.0
    assert stats.clock.at(105.0) == 5.0
    assert stats.clock.at(5001.0) == 11.0


def test_a_clock_that_runs_backwards_stands_still() -> None:
    """Unix time may be set back: the running time then waits, and no bin has a negative length."""
    stats = Stats(started_s=100.0)
    for now_s in (105.0, 90.0, 106.0):
        sample(stats, now_s)
    assert stats.elapsed_s == 6.0
    assert all(bin_.end_s >= bin_.start_s for bin_ in stats.series.bins)


def test_reservoir_is_a_fair_sample() -> None:
    """Early and late executions are picked alike."""
    stats = Stats(started_s=0.0)
    for seq in range(60_000):
        stats.add(outcome(seq))
    seqs = [picked.seq for picked in stats.executions()]
    assert len(seqs) == MOST_EXECUTIONS
    assert sum(seqs) / len(seqs) == pytest.approx(30_000, rel=0.1)
    assert sum(1 for seq in seqs if seq < 20_000) == pytest.approx(200, abs=60)


def test_report_lines_are_summed() -> None:
    """Billed time and memory come from the REPORT line; cold starts are those with an init or a restore."""
    stats = Stats(started_s=0.0)
    stats.add(outcome(0, billed_ms=1000, memory_mb=512, max_memory_mb=80, init_ms=200.0))
    stats.add(outcome(1, billed_ms=500, memory_mb=1024, max_memory_mb=90, restore_ms=50.0))
    stats.add(outcome(2))
    assert (stats.billed_ms, stats.billed_records, stats.billed_gb_s) == (1500, 2, 1.0)
    assert (stats.cold_starts, stats.init_ms, stats.max_memory_mb) == (2, 250.0, 90)


def test_calls_that_never_ran_have_no_latency() -> None:
    """Times of rejected and undelivered records say nothing of the function, and are left out."""
    stats = Stats(started_s=0.0)
    stats.add(outcome(0, "undelivered", duration_ms=5.0))
    stats.add(outcome(1, "rejected", duration_ms=5.0))
    stats.add(outcome(2, "unknown", duration_ms=900.0))
    assert stats.latency_ms()["count"] == 1


@pytest.mark.parametrize("size", [1, 3])
def test_calls_are_those_that_were_sent(size: int) -> None:
    """Of one record or of several: also a call that met throttles alone, and none of a record never sent."""

    def call(number: int, status: Status, **members: object) -> list[Outcome]:
        places = [BatchPlace(f"b{number}", index, size) for index in range(size)] if size > 1 else [None]
        return [
            outcome(number * size + at, status, batch=place, **members) for at, place in enumerate(places)
        ]

    stats = Stats(started_s=START_S)
    stats.add_many(call(0, "succeeded") + call(1, "function_error", attempts=3))
    stats.add_many(call(2, "undelivered", attempts=0, throttles=9))
    assert (stats.done, stats.calls) == (3 * size, 3)
    stats.add_many([*call(3, "undelivered", attempts=0), outcome(4 * size, "rejected", attempts=0)])
    assert (stats.done, stats.calls) == (4 * size + 1, 3)


def test_snapshot_tells_pace_and_end() -> None:
    """Rate and ETA come from the last seconds and the last minute; before two looks nothing is said."""
    stats = Stats(started_s=0.0)
    looks = []
    for now in range(21):
        while stats.done < now * 10:
            stats.add(outcome(stats.done))
        looks.append(
            stats.snapshot(now_s=float(now), in_flight=1, limit=2, cause="account", total=1000, cost_usd=0.5)
        )
    assert looks[0].eta_s is None
    assert looks[0].rate_now_per_s == 0
    last = looks[-1]
    assert (last.done, last.total, last.fraction, last.cost_usd) == (200, 1000, 0.2, 0.5)
    assert last.rate_now_per_s == pytest.approx(10)
    assert last.eta_s == pytest.approx(80)
    assert last.p50_ms == pytest.approx(100, rel=ERROR)


def test_a_run_that_stands_still_has_no_end() -> None:
    """The pace of the last minute would promise one that moves away."""
    stats = Stats(started_s=0.0)
    snapshots = []
    for now in range(30):
        if now < 10:
            stats.add(outcome(now))
        snapshots.append(stats.snapshot(now_s=float(now), in_flight=1, limit=2, cause="account", total=1000))
    assert snapshots[9].eta_s is not None
    assert (snapshots[-1].rate_now_per_s, snapshots[-1].eta_s) == (0, None)


def test_snapshot_without_a_total_has_no_end() -> None:
    """Where the total is not known, nothing is said of the end."""
    stats = Stats(started_s=0.0)
    stats.add(outcome())
    looked = [stats.snapshot(now_s=now, in_flight=0, limit=None, cause="source") for now in (1.0, 2.0)]
    assert (looked[1].total, looked[1].fraction, looked[1].eta_s) == (None, None, None)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ((4.2, 3.9, 5.0), "4.2s, between 3.9s and 5.0s"),
        ((4.2, 4.2, 4.2), "4.2s"),
        ((90, 89.6, 90.4), "1m30s"),
    ],
)
def test_ranges_read_well(value: tuple[float, float, float], said: str) -> None:
    """A range is said in words, and not at all where both its ends would be written the same."""
    assert between(*value, seconds) == said


def stamp(running_s: float) -> str:
    """ISO 8601 of a second of the run."""
    minutes, rest = divmod(running_s, 60)
    return f"2026-11-21T08:{int(minutes):02}:{rest:06.3f}Z"


def test_replay_equals_watching(tmp_path: Path) -> None:
    """A journal and its timeline give the figures again that were counted live, bin for bin."""
    live = Stats(started_s=START_S)
    outcomes = []
    path = tmp_path / "timeline.jsonl"
    with TimelineWriter(path, begun_s=START_S) as writer:
        for second in range(10):
            for part in range(20):
                done = outcome(
                    second * 20 + part,
                    started_at=stamp(second + part / 40),
                    duration_ms=30.0 + part,
                    attempts=1 + part % 2,
                )
                live.add(done)
                outcomes.append(done)
            live.note_throttle("ReservedFunctionConcurrentInvocationLimitExceeded")
            writer.append(sample(live, START_S + second + 1, in_flight=second))
    told = stats_of(outcomes, read_timeline(path), started_s=START_S)
    assert told.counts == live.counts
    assert told.latency_ms() == live.latency_ms()
    assert told.throttles == live.throttles
    assert told.retries == live.retries
    assert told.series.bins == live.series.bins
    assert told.limit_s == live.limit_s
    assert told.executions() == live.executions()


def test_replay_of_a_resumed_run_leaves_the_pause_out(tmp_path: Path) -> None:
    """Two sessions in one timeline: throttle counts add up, the pause between them has no length."""
    path = tmp_path / "timeline.jsonl"
    for begun_s in (START_S, START_S + 1000):
        with TimelineWriter(path, begun_s=begun_s) as writer:
            writer.append(Sample(t=begun_s + 2, in_flight=1, limit=10, cause="account", throttles={"a": 3}))
    told = stats_of([outcome(0)], read_timeline(path), started_s=START_S)
    assert told.throttles == {"a": 6}
    assert told.elapsed_s == pytest.approx(4.0)


def test_time_before_workers_are_ready_does_not_count(tmp_path: Path) -> None:
    """A session that begins twice, with nothing between: throughput is that of the rest."""
    path = tmp_path / "timeline.jsonl"
    live = Stats(started_s=START_S)
    with TimelineWriter(path, begun_s=START_S) as writer:
        live.begin_session(START_S + 12)
        writer.begin(START_S + 12)
        live.add(outcome(0, started_at=stamp(12.5)))
        writer.append(sample(live, START_S + 14))
    told = stats_of([outcome(0, started_at=stamp(12.5))], read_timeline(path), started_s=START_S)
    assert told.elapsed_s == live.elapsed_s == pytest.approx(2.0)
    assert told.limit_s == live.limit_s
    assert told.series.bins == live.series.bins


def test_throttles_of_a_resumed_run_count_once(tmp_path: Path) -> None:
    """Statistics that go on write what their own session met: told again, it adds up to the same."""
    path = tmp_path / "timeline.jsonl"
    live = Stats(started_s=START_S)
    for begun_s, count in ((START_S, 10), (START_S + 1000, 2)):
        with TimelineWriter(path, begun_s=begun_s) as writer:
            live.begin_session(begun_s)
            for _ in range(count):
                live.note_throttle("a")
            writer.append(sample(live, begun_s + 1))
    assert live.throttles == {"a": 12}
    assert stats_of([outcome(0)], read_timeline(path), started_s=START_S).throttles == {"a": 12}


def test_replay_of_a_killed_session_counts_its_last_moment(tmp_path: Path) -> None:
    """Outcomes after the last sample of a session that was killed are running time; the pause is none."""
    path = tmp_path / "timeline.jsonl"
    with TimelineWriter(path, begun_s=START_S) as writer:
        writer.append(Sample(t=START_S + 1))
    first = [outcome(0), outcome(1, started_at=stamp(1.5))]
    with TimelineWriter(path, begun_s=START_S + 3000) as writer:
        resumed = stats_of(first, list(read_timeline(path))[:2], started_s=START_S)
        resumed.begin_session(START_S + 3000)
        resumed.add(outcome(2, started_at=stamp(3000.2)))
        writer.append(sample(resumed, START_S + 3002))
    told = stats_of([*first, outcome(2, started_at=stamp(3000.2))], read_timeline(path), started_s=START_S)
    assert resumed.elapsed_s == pytest.approx(3.6)
    assert told.elapsed_s == resumed.elapsed_s


def test_a_timeline_that_cannot_be_written_costs_the_timeline_only(tmp_path: Path) -> None:
    """A directory in its place: one line says so, and nothing is raised, in writing or in reading."""
    (tmp_path / "timeline.jsonl").mkdir()
    with TimelineWriter(tmp_path / "timeline.jsonl", begun_s=1.0) as writer:
        writer.append(Sample(t=2.0))
    assert writer.fault is not None
    assert "timeline.jsonl cannot be written" in writer.fault
    assert list(read_timeline(tmp_path / "timeline.jsonl")) == []


def test_of_a_long_trace_both_ends_are_kept() -> None:
    """Where it began and where it was raised. A flood of other places is counted all the same."""
    stats = Stats(started_s=0.0)
    trace = [f'  File "/var/task/x.py", line {number}, in f\n' for number in range(500)]
    stats.add(failure(0, "RecursionError", trace))
    (kept,) = stats.failures()
    assert kept.stack_trace is not None
    assert len(kept.stack_trace) < 100
    assert (kept.stack_trace[0], kept.stack_trace[-1]) == (trace[0], trace[-1])
    for seq in range(1, 1500):
        stats.add(failure(seq, "RecursionError", [f'  File "/var/task/y.py", line {seq}, in g\n']))
    assert sum(cluster.count for cluster in stats.failures()) == 1500


def test_the_pace_of_a_long_run_is_that_of_its_last_seconds() -> None:
    """What came long before does not count any more."""
    pace = Pace()
    for second in range(600):
        pace.note(float(second), second * (100 if second < 300 else 1) + (0 if second < 300 else 30_000))
    assert pace.is_known
    assert len(pace._seen) < 300


def test_a_timeline_whose_disk_is_full_costs_the_timeline_only(tmp_path: Path) -> None:
    """It is said once. An empty file is gone on with."""
    (tmp_path / "empty.jsonl").touch()
    with TimelineWriter(tmp_path / "empty.jsonl", begun_s=1.0) as writer:
        assert writer.fault is None
    (tmp_path / "timeline.jsonl").symlink_to("/dev/full")
    with TimelineWriter(tmp_path / "timeline.jsonl", begun_s=1.0) as writer:
        writer.append(Sample(t=2.0))
        writer.append(Sample(t=3.0))
    assert writer.fault is not None
    assert writer.fault.endswith("cannot be written: No space left on device; the run goes on without it")


def test_replay_without_a_timeline() -> None:
    """Without one the course is made of the outcomes alone; gaps are one bin, nothing is known of limits."""
    outcomes = [outcome(seq, started_at=stamp(seq * 10), throttles=1) for seq in range(5)]
    told = stats_of(outcomes, (), started_s=START_S)
    assert told.done == 5
    assert told.elapsed_s == pytest.approx(40.1)
    assert told.throttles == {"unknown": 5}
    assert sum(bin_.finished for bin_ in told.series.bins) == 5
    assert len(told.series.bins) < 12
    assert told.limit_s == 0


def test_replay_of_nothing() -> None:
    """A run without outcomes has figures, all of them zero."""
    told = stats_of((), (), started_s=START_S)
    assert (told.done, told.elapsed_s, told.latency_ms()["p99"]) == (0, 0.0, 0.0)


def test_replay_with_strange_times() -> None:
    """Times that are none, or from another century, cost no record."""
    outcomes = [outcome(0, started_at="yesterday"), outcome(1, started_at=None, duration_ms=None), outcome(2)]
    assert stats_of(outcomes, (), started_s=START_S).done == 3


def test_a_torn_timeline_is_read_and_continued(tmp_path: Path) -> None:
    """A line cut short by a crash costs that line only, also when the run goes on after it."""
    path = tmp_path / "timeline.jsonl"
    with TimelineWriter(path, begun_s=1.0) as writer:
        writer.append(Sample(t=2.0, in_flight=1))
    path.write_bytes(path.read_bytes() + b'{"t":3.0,"in_fl')
    with TimelineWriter(path, begun_s=10.0) as writer:
        writer.append(Sample(t=11.0))
    assert [line.t for line in read_timeline(path)] == [1.0, 2.0, 10.0, 11.0]
    assert list(read_timeline(tmp_path / "absent")) == []


@settings(max_examples=examples(200))
@given(st.text(max_size=80))
def test_printable_text_moves_nothing(text: str) -> None:
    """No control, line break, escape or direction mark is left, whatever came."""
    shown = printable(text)
    assert not any(ord(char) < 32 or 0x7F <= ord(char) <= 0x9F for char in shown)
    assert not set(shown) & set(
        "\u2028\u2029\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069\u200e\u200f"
    )
    shown.encode()


def test_printable_takes_escape_sequences_whole() -> None:
    """Colours and window titles of a log leave no debris; long text is cut with an ellipsis."""
    assert printable("\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jend\n\tline") == "red end line"
    assert printable("a" * 100, 10) == "aaaaaaaaa…"
    assert printable("e\u0301") == "e\u0301"
    assert printable("e" + "\u0301" * 50) == "e"


def test_figures_read_well() -> None:
    """Figures for people: short, and never rounded to a claim that does not hold."""
    assert [percent(share) for share in (0, 0.00001, 0.5, 0.99999, 1)] == [
        "0%",
        "<0.1%",
        "50.0%",
        "99.9%",
        "100%",
    ]
    assert [seconds(value) for value in (0.04, 9.96, 75, 3700)] == ["0.0s", "10s", "1m15s", "1h01m"]
    assert [milliseconds(value) for value in (1.25, 999.6, 12_345)] == ["1.2ms", "1,000ms", "12.3s"]
    assert [dollars(value) for value in (0, 0.0000002, 0.0123, 1234.5)] == [
        "$0.00",
        "$0.0000002",
        "$0.0123",
        "$1,234.50",
    ]
    assert [number(value) for value in (0.5, 3, 12345.6)] == ["0.5", "3", "12,346"]


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 records have"), (1, "1 record has"), (1204, "1,204 records have")]
)
def test_a_count_agrees_with_its_noun(count: int, said: str) -> None:
    """One record is no plural, in a summary or anywhere else."""
    assert count_of(count, "record has", "records have") == said
    assert count_of(count, "record") == said.rsplit(" ", 1)[0]
