"""Adaptation: what the limit and the pacer of a run learn from its workers' reports. Pure."""

from __future__ import annotations

from fanout.limit import Limit
from fanout.model import ThrottleKind
from fanout.pacer import Pacer
from fanout.workers.lease_book import LeaseBook
from fanout.workers.messages import Report

_ENOUGH_SUCCESSES = 64  # of one report: what more of them say to a limit


def adapt(report: Report, limit: Limit, pacer: Pacer, book: LeaseBook, *, in_use: int, now_s: float) -> None:
    """Let limit and pacer learn from a report. ``in_use``: permits in use on all workers, calls.

    Throttles under one lease cut once, on whichever workers they were.
    """
    if in_use > limit.peak or now_s >= limit.peak_until_s:
        limit.on_peak(in_use, now_s)
    if report.succeeded:
        limit.on_successes([now_s] * min(report.succeeded, _ENOUGH_SUCCESSES), now_s, max(1, in_use))
        pacer.on_success(now_s, report.succeeded)
    ceiling = limit.ceiling(now_s)
    if report.is_full and book.committed(now_s) >= ceiling:
        limit.on_full(ceiling, now_s)
    if not report.throttles or report.cuts != book.cuts:
        return
    for throttle in report.throttles:
        if throttle.kind == ThrottleKind.RATE.value:
            pacer.on_throttle(now_s, throttle.retry_after_s, now_s)
        else:
            limit.on_throttle(ThrottleKind(throttle.kind), now_s, now_s, throttle.retry_after_s, in_use)
    book.cuts += 1
