"""A sentence for each drawing: for screen readers, and for readers in a hurry."""

from __future__ import annotations

from fanout.charts.course import MOST_POINTS, Course, course_of, span_s
from fanout.quantities import count_of, milliseconds, number, percent, seconds
from fanout.stats import Stats, cause_words


def captions(stats: Stats, most_points: int = MOST_POINTS) -> dict[str, str]:
    """A caption for each figure, by its name; ``most_points`` as it is drawn with."""
    latency = stats.latency_ms()
    timed = int(latency["count"])
    return {
        "flight": _flight(stats),
        "throughput": _throughput(stats, course_of(stats, most_points)),
        "latency": (
            f"Half of the calls took at most {milliseconds(latency['p50'])}, 95 % at most "
            f"{milliseconds(latency['p95'])}, 99 % at most {milliseconds(latency['p99'])}."
            if timed
            else "No call was timed."
        ),
        "histogram": (
            f"{count_of(timed, 'call')}; {milliseconds(latency['mean'])} on average, "
            f"{milliseconds(latency['max'])} at most. The scale is logarithmic."
            if timed
            else "No call was timed."
        ),
        "executions": _executions(stats),
        "throttles": _throttles(stats),
        "attempts": _attempts(stats),
    }


def _flight(stats: Stats) -> str:
    seen = [bin_ for bin_ in stats.series.bins if bin_.in_flight is not None and bin_.limit is not None]
    if not seen:
        return "The run left no timeline: how many calls were in flight is not known."
    most = stats.max_in_flight
    limits = [bin_.limit for bin_ in seen if bin_.limit is not None]
    causes = list(dict.fromkeys(cause_words(bin_.cause) for bin_ in seen if bin_.cause))
    share = stats.share_of_limit
    least, highest = number(min(limits)), number(max(limits))
    limit = f"of {least}" if least == highest else f"between {least} and {highest}"
    return (
        f"At most {count_of(most, 'call was', 'calls were')} in flight, under a limit {limit}"
        + (f"; {percent(share)} of it was used" if share is not None else "")
        + (f". Set by: {', '.join(causes)}." if causes else ".")
    )


def _throughput(stats: Stats, course: Course) -> str:
    best = max((bin_.finished / span_s(bin_) for bin_ in course.bins), default=0.0)
    mean = f"{number(stats.throughput_per_s)} records per second over {seconds(stats.elapsed_s)}"
    # The last interval has not passed yet: alone, it says less than the mean.
    return f"{mean}; {number(best)} in the best interval." if best > stats.throughput_per_s else f"{mean}."


def _executions(stats: Stats) -> str:
    shown = len(stats.executions())
    done = stats.done
    text = "Each dot is an execution: when it began, and how long it took, on a logarithmic scale."
    if shown < done:
        text += f" {shown:,} of {done:,} are shown, picked at random"
        special = [
            name for name, has in (("failures", stats.failed), ("cold starts", stats.cold_starts)) if has
        ]
        text += f"; {' and '.join(special)} more often." if special else "."
    if stats.cold_starts:
        text += f" {stats.cold_starts:,} were cold starts."
    return text


def _throttles(stats: Stats) -> str:
    if not stats.throttles:
        return "Lambda throttled no call."
    ranked = sorted(stats.throttles.items(), key=lambda item: -item[1])
    return "; ".join(f"{reason}: {count:,}" for reason, count in ranked) + "."


def _attempts(stats: Stats) -> str:
    taken = stats.attempts_taken()
    return "Records by the number of attempts they took: " + (
        ", ".join(f"{attempts}: {count:,}" for attempts, count in taken.items()) + "." if taken else "none."
    )
