"""What each drawing on the page says, in a sentence: for who cannot see it, and for who is in a hurry."""

from __future__ import annotations

from fanout.quantities import milliseconds, number, percent, seconds
from fanout.report.totals import RunTotals


def captions(report: RunTotals) -> dict[str, str]:
    """A caption for each figure, by its name."""
    latency = report.latency_ms
    timed = int(latency["count"])
    return {
        "flight": _flight(report),
        "throughput": _throughput(report),
        "latency": (
            f"Half of the calls took at most {milliseconds(latency['p50'])}, 95 % at most "
            f"{milliseconds(latency['p95'])}, 99 % at most {milliseconds(latency['p99'])}."
            if timed
            else "No call was timed."
        ),
        "histogram": (
            f"{timed:,} calls; {milliseconds(latency['mean'])} on average, "
            f"{milliseconds(latency['max'])} at most."
            if timed
            else "No call was timed."
        ),
        "executions": _executions(report),
        "throttles": _throttles(report),
        "attempts": _attempts(report),
    }


def _flight(report: RunTotals) -> str:
    seen = [
        bin_ for bin_ in report.stats.series.bins if bin_.in_flight is not None and bin_.limit is not None
    ]
    if not seen:
        return "The run left no timeline: how many calls were in flight is not known."
    most = report.stats.max_in_flight
    limits = [bin_.limit for bin_ in seen if bin_.limit is not None]
    causes = list(dict.fromkeys(bin_.cause for bin_ in seen if bin_.cause))
    share = report.share_of_limit
    return (
        f"At most {most:,} calls were in flight, under a limit between {number(min(limits))} and "
        f"{number(max(limits))}"
        + (f"; {percent(share)} of it was used" if share is not None else "")
        + (f". Set by: {', '.join(causes)}." if causes else ".")
    )


def _throughput(report: RunTotals) -> str:
    bins = [bin_ for bin_ in report.stats.series.bins if bin_.end_s - bin_.start_s >= 0.05]
    best = max((bin_.finished / (bin_.end_s - bin_.start_s) for bin_ in bins), default=0.0)
    return (
        f"{number(report.throughput_per_s)} records per second over {seconds(report.elapsed_s)}; "
        f"{number(best)} in the best interval."
    )


def _executions(report: RunTotals) -> str:
    shown = len(report.stats.executions())
    done = report.stats.done
    text = "Each dot is an execution: when it began, and how long it took."
    if shown < done:
        text += f" {shown:,} of {done:,} are shown, picked at random"
        special = [
            name
            for name, has in (("failures", report.stats.failed), ("cold starts", report.cold_starts))
            if has
        ]
        text += f"; {' and '.join(special)} more often." if special else "."
    if report.cold_starts:
        text += f" {report.cold_starts:,} were cold starts."
    return text


def _throttles(report: RunTotals) -> str:
    if not report.throttles:
        return "Lambda throttled no call."
    ranked = sorted(report.throttles.items(), key=lambda item: -item[1])
    return "; ".join(f"{reason}: {count:,}" for reason, count in ranked) + "."


def _attempts(report: RunTotals) -> str:
    taken = report.stats.attempts_taken()
    return "Records by the number of attempts they took: " + (
        ", ".join(f"{attempts}: {count:,}" for attempts, count in taken.items()) + "." if taken else "none."
    )
