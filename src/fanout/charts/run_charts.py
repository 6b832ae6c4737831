"""The charts of a run: what each draws, a few hundred points however long the run was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from html import escape
from itertools import pairwise

from fanout.charts.axes import count_axis, latency_axis, time_axis
from fanout.charts.course import MOST_POINTS, Course, course_of, is_timed, span_s
from fanout.charts.drawing import Dots, Drawing, Line, Values
from fanout.quantities import milliseconds, number, percent, seconds, unix_s
from fanout.stats import Stats
from fanout.stats.histogram import lower_ms
from fanout.stats.series import Bin
from fanout.stats.text import printable

_MOST_BARS = 60
_HUES = ("amber", "red", "violet", "teal", "blue", "grey")
_LOOKS = {  # of an execution: the hue, and whether it is drawn as a square
    "succeeded": ("green", False),
    "accepted": ("green", False),
    "valid": ("green", False),
    "cold start": ("blue", False),
    "function_error": ("red", True),
    "rejected": ("violet", True),
    "undelivered": ("amber", True),
    "unknown": ("grey", True),
}

TITLES = {
    "throughput": "Throughput, against what the limit allows",
    "latency": "Latency over time",
    "flight": "In flight, against the limit",
    "histogram": "Latency, all calls",
    "executions": "Executions",
    "throttles": "Throttles, by reason",
    "attempts": "Attempts",
}


def charts(stats: Stats, captions: dict[str, str]) -> dict[str, str]:
    """Each chart as HTML, by name; those that would show nothing are left out."""
    course = course_of(stats)
    made: dict[str, Drawing | None] = {
        "throughput": _throughput(course),
        "latency": _latency(course),
        "flight": _flight(course),
        "histogram": _histogram(stats),
        "executions": _executions(stats),
        "throttles": _throttles(course),
    }
    drawn = {
        name: drawing.html(TITLES[name], printable(captions[name], 500))
        for name, drawing in made.items()
        if drawing is not None
    }
    attempts = stats.attempts_taken()
    if set(attempts) - {1}:
        drawn["attempts"] = bars([(f"{taken}", count) for taken, count in attempts.items()])
    return drawn


def chart(stats: Stats, name: str, caption: str, *, most_points: int = MOST_POINTS) -> str:
    """One of the charts over time as HTML; "" where it would show nothing."""
    drawing = _OVER_TIME[name](course_of(stats, most_points))
    return "" if drawing is None else drawing.html(TITLES[name], printable(caption, 500))


def bars(rows: Sequence[tuple[str, int]], hue: str = "teal") -> str:
    """Counts as a table of bars."""
    most = max(count for _, count in rows)
    total = sum(count for _, count in rows)
    body = "".join(
        f"<tr><th scope=row>{escape(name)}</th><td class=n>{count:,}</td>"
        f"<td class=n>{percent(count / total)}</td>"
        f'<td class=wide><div class="bar {hue}" style="width:{count / most:.1%}"></div></td></tr>'
        for name, count in rows
    )
    return f"<table class=bars><tbody>{body}</tbody></table>"


def _over_time(
    course: Course, most: float, lines: list[Line], label: Callable[[float], str]
) -> Drawing | None:
    if not course.bins:
        return None
    return Drawing(
        x=time_axis(course.longest_s),
        y=count_axis(most, label),
        places=[bin_.end_s for bin_ in course.bins],
        labels=[seconds(bin_.end_s) for bin_ in course.bins],
        lines=lines,
    )


def _throughput(course: Course) -> Drawing | None:
    failed = [bin_.failed / span_s(bin_) for bin_ in course.bins]
    both = [bin_.finished / span_s(bin_) for bin_ in course.bins]
    has_failed = any(failed)
    most = max(both, default=0.0)
    # A limit far above what was reached would press everything else to the ground: it is told, not drawn.
    room = most * 3
    ceilings = [value if value is not None and value <= room else None for value in course.ceilings]
    most = max(most, *(value for value in ceilings if value is not None), 0.0)
    lines = [
        Line(
            name="what the limit allows",
            hue="amber",
            values=ceilings,
            texts=_per_second(course.ceilings),
            is_dashed=True,
        ),
        Line(
            name="succeeded",
            hue="green",
            values=both,
            texts=_per_second([all_ - bad for all_, bad in zip(both, failed, strict=True)]),
            is_area=True,
            base=failed,
        ),
    ]
    if has_failed:
        lines.append(
            Line(name="did not succeed", hue="red", values=failed, texts=_per_second(failed), is_area=True)
        )
    if not any(value is not None for value in course.ceilings):
        del lines[0]
    return _over_time(course, most, lines, lambda value: f"{number(value)}/s")


def _latency(course: Course) -> Drawing | None:
    course = course.timed()
    found = [bin_.percentiles_ms() if is_timed(bin_) else None for bin_ in course.bins]
    lines = []
    for place, name, hue in ((2, "p99", "red"), (1, "p95", "amber"), (0, "p50", "blue")):
        values = [None if each is None else each[place] for each in found]
        texts = ["" if value is None else milliseconds(value) for value in values]
        lines.append(Line(name=name, hue=hue, values=values, texts=texts))
    most = max((each[2] for each in found if each is not None), default=0.0)
    return _over_time(course, most, lines, _axis_ms) if most else None


def _axis_ms(value: float) -> str:
    return "0" if value == 0 else f"{value / 1000:g}s" if value >= 1000 else f"{value:g}ms"


def _flight(course: Course) -> Drawing | None:
    flying = [bin_.in_flight for bin_ in course.bins]
    limits = [bin_.limit for bin_ in course.bins]
    most = max((value for value in (*flying, *limits) if value is not None), default=0.0)
    if not most:
        return None
    lines = [
        Line(
            name="limit",
            hue="amber",
            values=limits,
            texts=[_limit_text(bin_) for bin_ in course.bins],
            is_dashed=True,
        ),
        Line(
            name="in flight",
            hue="blue",
            values=flying,
            texts=["" if value is None else number(round(value)) for value in flying],
            is_area=True,
        ),
    ]
    return _over_time(course, most, lines, number)


def _limit_text(bin_: Bin) -> str:
    if bin_.limit is None:
        return ""
    cause = f" ({printable(bin_.cause, 60)})" if bin_.cause else ""
    return f"{number(round(bin_.limit))}{cause}"


def _throttles(course: Course) -> Drawing | None:
    totals: dict[str, int] = {}
    for bin_ in course.bins:
        for reason, count in bin_.throttles.items():
            totals[reason] = totals.get(reason, 0) + count
    if not totals:
        return None
    lines: list[Line] = []
    base: list[float] = [0.0] * len(course.bins)
    for reason, hue in zip(sorted(totals, key=lambda each: -totals[each]), _HUES, strict=False):
        rates = [bin_.throttles.get(reason, 0) / span_s(bin_) for bin_ in course.bins]
        top = [below + rate for below, rate in zip(base, rates, strict=True)]
        lines.append(
            Line(
                name=printable(reason, 80),
                hue=hue,
                values=top,
                texts=_per_second(rates),
                is_area=True,
                base=base,
            )
        )
        base = top
    return _over_time(course, max(base), lines, lambda value: f"{number(value)}/s")


def _histogram(stats: Stats) -> Drawing | None:
    pairs = stats.latencies.buckets()
    if not pairs:
        return None
    first, last = pairs[0][0], pairs[-1][0]
    width = (last - first) // _MOST_BARS + 1
    counts = [0] * ((last - first) // width + 1)
    for index, count in pairs:
        counts[(index - first) // width] += count
    edges = [lower_ms(first + bar * width) for bar in range(len(counts) + 1)]
    texts = [f"{count:,}" for count in counts for _ in (0, 1)]
    labels = [f"{milliseconds(low)} to {milliseconds(high)}" for low, high in pairwise(edges) for _ in (0, 1)]
    return Drawing(
        x=latency_axis(edges[0], edges[-1]),
        y=count_axis(max(counts)),
        places=[edge for low, high in pairwise(edges) for edge in (low, high)],
        labels=labels,
        lines=[
            Line(
                name="calls",
                hue="blue",
                values=[float(count) for count in counts for _ in (0, 1)],
                texts=texts,
                is_area=True,
            )
        ],
    )


def _executions(stats: Stats) -> Drawing | None:
    groups: dict[str, tuple[list[tuple[float, float]], list[str]]] = {}
    for picked in stats.executions():
        if picked.started_at is None:
            continue
        is_cold = picked.init_ms is not None and picked.status == "succeeded"
        points, texts = groups.setdefault("cold start" if is_cold else picked.status, ([], []))
        begun_s = max(0.0, stats.clock.at(unix_s(picked.started_at)))
        points.append((begun_s, picked.duration_ms))
        text = f"record {picked.seq}" + (f", {printable(picked.key, 60)}" if picked.key else "")
        text += f": {milliseconds(picked.duration_ms)}"
        if picked.init_ms is not None:
            text += f", {milliseconds(picked.init_ms)} of it to initialize"
        texts.append(text)
    if not groups:
        return None
    durations = [ms for points, _ in groups.values() for _, ms in points]
    longest_s = max(begun_s for points, _ in groups.values() for begun_s, _ in points)
    return Drawing(
        x=time_axis(max(longest_s, stats.elapsed_s)),
        y=latency_axis(min(durations), max(durations)),
        dots=[
            Dots(
                name=name.replace("_", " "),
                hue=hue,
                points=groups[name][0],
                texts=groups[name][1],
                is_square=is_square,
            )
            for name, (hue, is_square) in _LOOKS.items()
            if name in groups
        ],
    )


def _per_second(values: Values) -> list[str]:
    return ["" if value is None else f"{number(value)}/s" for value in values]


_OVER_TIME = {
    "throughput": _throughput,
    "latency": _latency,
    "flight": _flight,
    "throttles": _throttles,
}
