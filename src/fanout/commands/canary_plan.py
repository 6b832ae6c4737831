"""A canary before a run: limits, permission, a few real records, and what follows for all of them."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from math import ceil
from statistics import fmean
from typing import Any

import msgspec
from msgspec.structs import replace

from fanout.commands.new_run import run
from fanout.commands.projection import Projection, project
from fanout.commands.run_input import absolute_location, open_input
from fanout.commands.run_request import RunRequest
from fanout.cost import CostEstimate, meter_of
from fanout.errors import ConfigError, FatalRefusal
from fanout.inputs import shown_location
from fanout.model import NEVER_RAN, OK_STATUSES, Outcome
from fanout.queues import is_queue
from fanout.report.summary import RunReport
from fanout.report.totals import in_rehearsal
from fanout.runs.audience import Audience


class Plan(msgspec.Struct, kw_only=True):
    """The findings of a canary, projected on the whole input, as it is and for each "what if"."""

    function: str
    records: int
    canary: int
    canary_calls: int
    counts: dict[str, int]
    limit: int
    limit_cause: str
    rate_per_s: float | None
    cold_starts: int
    mean_ms: float
    p95_ms: float
    cost_basis: str
    projection: Projection
    what_if: dict[str, Projection]
    run_dir: str
    run_command: str


async def count_records(request: RunRequest) -> int:
    """The number of records of an input, bad lines included. Reads all of it; raises SourceError."""
    source = open_input(request, None)
    count = 0
    try:
        async for batch in source.batches():
            count += len(batch)
    finally:
        await source.aclose()
    return count


async def plan(
    request: RunRequest, canary: int, what_ifs: Mapping[str, Mapping[str, float]], audience: Audience
) -> tuple[Plan | None, RunReport]:
    """Send the first ``canary`` records for real, and project.

    The canary's outcomes are kept in the run directory; a run with the same ``--out`` goes on after
    them. Raises as ``start`` does, and FatalRefusal when the function cannot be invoked. There is no plan
    where the canary was stopped before anything ran.
    """
    assert request.location is not None
    if is_queue(request.location):
        raise ConfigError(
            f"{request.location} is a queue, and cannot be read without being taken from: try it with "
            "`fanout run --take 10`"
        )
    assert request.out is not None
    records = await count_records(request)
    if not records:
        raise ConfigError(f"{shown_location(request.location)} has no records: nothing to plan")
    outcomes: list[Outcome] = []
    watched = replace(audience, on_outcome=outcomes.append)
    canaries = replace(request, canary=min(canary, records), records_planned=records)
    report = await run(canaries, watched)
    if report.state == "fatal":
        raise FatalRefusal(str(report.run.get("message") or "refused"))
    ran = [each for each in outcomes if each.duration_ms is not None and each.status not in NEVER_RAN]
    if ran:
        return _plan(request, records, outcomes, ran, report, what_ifs), report
    if report.state != "finished":
        return None, report
    which = f"{shown_location(request.location)}: none of its first {len(outcomes)} records"
    raise ConfigError(f"{which} could be sent: {_why(outcomes)}")


def _plan(
    request: RunRequest,
    records: int,
    outcomes: list[Outcome],
    ran: list[Outcome],
    report: RunReport,
    what_ifs: Mapping[str, Mapping[str, float]],
) -> Plan:
    firsts = [outcome for outcome in ran if outcome.batch is None or outcome.batch.index == 0] or ran[:1]
    costs, cost = _costs(firsts, report)
    size = _batch_size(outcomes)
    durations_s = [(outcome.duration_ms or 0.0) / 1000 for outcome in firsts]
    failures = sum(outcome.status not in OK_STATUSES for outcome in outcomes)
    limits = report.run.get("limits") or {}
    limit = int(limits.get("concurrency") or 1)
    rate = limits.get("rate_per_s")

    def projected(**changed: Any) -> Projection:
        return project(
            **{
                "records": records,
                "concurrency": limit,
                "rate_per_s": rate,
                "durations_s": durations_s,
                "costs_usd": costs,
                "failures": failures,
                "tried": len(outcomes),
                "calls": ceil(records / size),
                **changed,
            }
        )

    return Plan(
        function=request.options.function,
        records=records,
        canary=len(outcomes),
        canary_calls=len(firsts),
        counts={status: count for status, count in report.counts.items() if count},
        limit=limit,
        limit_cause=str(limits.get("cause") or ""),
        rate_per_s=rate,
        cold_starts=report.cold_starts,
        mean_ms=report.latency_ms["mean"],
        p95_ms=report.latency_ms["p95"],
        cost_basis=cost.basis,
        projection=projected(),
        what_if={name: projected(**_what_if(changed, rate)) for name, changed in what_ifs.items()},
        run_dir=str(request.out),
        run_command=_run_command(request),
    )


def _run_command(request: RunRequest) -> str:
    assert request.out is not None
    options = request.options
    inputs = [shown_location(absolute_location(each)) for each in request.locations]
    if options.payload is not None:
        inputs = ["--payload", options.payload]
        if options.repeat is not None:
            inputs += ["--repeat", str(options.repeat)]
    words = ["fanout", "run", options.function, *inputs, "--out", str(request.out.absolute())]
    return in_rehearsal(shlex.join(words))


def _what_if(changed: Mapping[str, float], rate_per_s: float | None) -> dict[str, Any]:
    """Another concurrency has the rate that the limits give it; only a higher limit has a higher rate."""
    names = {"concurrency": ("concurrency", int), "rate": ("rate_per_s", float)}
    out = {names[name][0]: names[name][1](value) for name, value in changed.items()}
    if "concurrency" in out and "rate_per_s" not in out and rate_per_s is not None:
        out["rate_per_s"] = max(rate_per_s, 10.0 * out["concurrency"])  # Lambda's rule for synchronous calls
    return out


def _costs(ran: list[Outcome], report: RunReport) -> tuple[list[float] | None, CostEstimate]:
    each: list[float] = []
    total = meter_of(report.run)
    for outcome in ran:
        before = total.usd
        total.add(outcome)
        each.append(total.usd - before)
    return None if total.unpriced else each, total.estimate()


def _batch_size(outcomes: list[Outcome]) -> float:
    """Records in a call, by the canary's calls: the last was cut short, and counts only if it is alone."""
    sizes = {
        outcome.batch.id: (outcome.seq, outcome.batch.size)
        for outcome in outcomes
        if outcome.batch is not None
    }
    if not sizes:
        return 1.0
    whole = sorted(sizes.values())
    return fmean(size for _, size in (whole[:-1] or whole))


def _why(outcomes: list[Outcome]) -> str:
    error = next((outcome.error for outcome in outcomes if outcome.error is not None), None)
    return "no reason is known" if error is None else f"{error.type}: {error.message}"
