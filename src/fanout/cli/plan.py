"""``fanout plan``: a canary, and what it means for the whole input."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from fanout import exit_codes
from fanout.cli.interruption import Interruption
from fanout.cli.run_options import default_names, given_options, run_options
from fanout.cli.sections import SectionedCommand
from fanout.commands.options import RunOptions
from fanout.commands.run_request import RunRequest
from fanout.inputs.redaction import shown_location
from fanout.payload import indented
from fanout.runs.audience import Audience

if TYPE_CHECKING:
    from fanout.commands.canary_plan import Plan
    from fanout.commands.projection import Projection

_CANARY = 20
_CANARY_BATCHES = 3  # so that some are whole

_EXAMPLES = """
\b
Examples:
  1. Send 20 records, and say what all of them would take:
       fanout plan my-function orders.jsonl
  2. A larger canary, without being asked, as data:
       fanout plan my-function orders.jsonl --canary 100 --yes --json
  3. What would a higher limit change?
       fanout plan my-function orders.jsonl --what-if concurrency=2000
"""


@click.command(
    cls=SectionedCommand, epilog=_EXAMPLES, short_help="Send a few records, and project time and cost."
)
@click.argument("function")
@click.argument("inputs", nargs=-1, type=click.Path(allow_dash=True, readable=False), metavar="INPUT...")
@click.option(
    "--canary",
    type=click.IntRange(min=1),
    metavar="N",
    help="Records to send (20; with --batch at least three batches).",
)
@click.option("--yes", "-y", is_flag=True, help="Do not ask before the canary is sent.")
@click.option(
    "--what-if",
    "what_ifs",
    multiple=True,
    metavar="NAME=N",
    help="Project with another concurrency=N or rate=N too (repeatable; several with commas).",
)
@click.option(
    "--out", metavar="DIR", help="Where the canary's outcomes are kept (default runs/<function>-<UTC time>)."
)
@run_options
def command(
    function: str,
    inputs: tuple[str, ...],
    canary: int | None,
    yes: bool,
    what_ifs: tuple[str, ...],
    out: str | None,
    as_json: bool,
    quiet: bool,
    **chosen: Any,
) -> None:
    """Send the first records of INPUT to FUNCTION for real, and project the whole run from them.

    Limits and permission are checked first. The canary's outcomes are kept: `fanout run` with the same
    --out goes on after them.
    """
    if not inputs and chosen.get("payload") is None:
        raise click.UsageError("no INPUT: give a file or a URL, or --payload")
    if "-" in inputs:
        raise click.UsageError("INPUT is -: a plan reads its input twice: give a file or a URL")
    if out == "-":
        raise click.UsageError("--out is -: the canary's outcomes are kept in a directory: give one")
    changed = {text: _what_if(text) for text in what_ifs}
    if canary is None:
        canary = max(_CANARY, _CANARY_BATCHES * (chosen.get("batch") or 1))
    if not yes:
        if not (sys.stdin.isatty() and sys.stderr.isatty()):
            raise click.UsageError(
                f"a plan sends up to {canary} records for real, and there is no terminal to ask: give --yes"
            )
        of = " ".join(map(shown_location, inputs)) or "this payload"
        click.confirm(
            f"Send up to {canary} records of {of} to {function} for real?",
            abort=True,
            err=True,
        )
    from fanout.commands.run_request import default_directory

    request = RunRequest(
        options=RunOptions.of(function, given_options(chosen)),
        locations=inputs,
        out=default_directory(function) if out is None else Path(out),
        defaults=default_names(),
    )
    plan = _execute(request, canary, changed)
    if as_json:
        click.echo(indented(msgspec.to_builtins(plan)))
    if not quiet and not as_json:
        for line in _lines(plan):
            click.echo(line)


def _execute(request: RunRequest, canary: int, what_ifs: dict[str, dict[str, float]]) -> Plan:
    from fanout.commands.canary_plan import plan
    from fanout.commands.event_loop import run_blocking

    def say(text: str) -> None:
        click.echo(f"fanout: {text}", err=True)

    interruption = Interruption(say)
    signals = interruption.signals
    audience = Audience(on_message=say, attach=signals.attach, listen=signals.listen)
    try:
        made, report = run_blocking(lambda: interruption.heed(plan(request, canary, what_ifs, audience)))
    except asyncio.CancelledError:
        if signals.ended_by is None:
            raise
        interruption.leave(signals.ended_by)
    finally:
        signals.close()
    if report.state == "interrupted" and report.exit_code >= exit_codes.SIGHUP:
        sys.exit(report.exit_code)
    if made is None:
        if message := report.run.get("message"):
            click.echo(f"fanout: {message}", err=True)
        sys.exit(report.exit_code)
    return made


def _what_if(text: str) -> dict[str, float]:
    changed: dict[str, float] = {}
    for part in text.split(","):
        name, _, number = part.partition("=")
        try:
            changed[name.strip()] = float(number)
        except ValueError:
            changed = {}
            break
    if not changed or not set(changed) <= {"concurrency", "rate"} or min(changed.values()) <= 0:
        raise click.UsageError(f"--what-if is {text!r}: give concurrency=N or rate=N, N more than 0")
    return changed


def _lines(plan: Plan) -> list[str]:
    from fanout.quantities import between, count_of, milliseconds, percent

    counts = ", ".join(f"{count} {status}" for status, count in plan.counts.items())
    is_batched = plan.projection.calls < plan.records
    records = count_of(plan.records, "record")
    if is_batched:
        records += f" in {count_of(plan.projection.calls, 'call')}"
    by_calls = f" in {count_of(plan.canary_calls, 'call')}" if is_batched else ""
    head = [
        f"{plan.function}: {records}, judged by the first {plan.canary:,}{by_calls}",
        f"  canary      {counts}; {milliseconds(plan.mean_ms)} on average, p95 {milliseconds(plan.p95_ms)}",
        f"  limit       {plan.limit:,} at once ({plan.limit_cause})"
        + ("" if plan.rate_per_s is None else f", {plan.rate_per_s:,.0f} calls/s"),
        "",
    ]
    body = _projected("as it is", plan.projection)
    for name, projection in plan.what_if.items():
        body += _projected(name, projection)
    share = plan.projection.failure_share
    tail = [
        f"  failures    {between(share.value, share.low, share.high, percent)}",
        f"  cost from   {plan.cost_basis}",
        "",
        "The canary's outcomes are kept. Go on with the rest:",
        f"  {plan.run_command}",
    ]
    return head + body + tail


def _projected(name: str, projection: Projection) -> list[str]:
    from fanout.quantities import between, dollars, seconds

    time, cost = projection.duration_s, projection.cost_usd
    lines = [
        f"{name} ({projection.concurrency:,} at once; bound by {projection.bound_by})",
        f"  time        {between(time.value, time.low, time.high, seconds)}",
        f"  throughput  {projection.throughput_per_s:,.0f} records/s",
    ]
    if cost is not None:
        lines.append(f"  cost        {between(cost.value, cost.low, cost.high, dollars)}")
    return lines
