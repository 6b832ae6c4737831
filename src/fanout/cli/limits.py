"""``fanout limits``: each figure Lambda sets, where it came from, and the budget that follows."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any, NoReturn

import click

from fanout.cli.aws_options import aws_options
from fanout.config import Concurrency, Leave, parse_concurrency, parse_leave
from fanout.errors import FatalRefusal
from fanout.invoke_request import build_template
from fanout.quotas import Answer, Figure, Quotas, discover, read_event_config

if TYPE_CHECKING:
    from fanout.aws import AwsSession

_EPILOG = """\b
Examples:
  1. What a run of the function would use, and why:
       fanout limits orders
  2. An alias with provisioned concurrency:
       fanout limits orders --qualifier live
  3. What half of it would be:
       fanout limits orders --concurrency 50%
  4. For a script:
       fanout limits orders --json | jq .budget
"""
_EXIT_FATAL = 4


@click.command("limits", epilog=_EPILOG)
@click.argument("function")
@click.option("--qualifier", metavar="NAME", help="A version or an alias.")
@click.option("-j", "--concurrency", default="auto", metavar="N|P%|auto|@FILE", help="As for a run. [auto]")
@click.option(
    "--leave",
    metavar="N|P%",
    help="Also show what others use, as CloudWatch reports it, and what a run would get.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@aws_options
def command(
    function: str,
    qualifier: str | None,
    concurrency: str,
    leave: str | None,
    as_json: bool,
    profile: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> None:
    """Show what the account allows FUNCTION, where each figure came from, and the budget that follows.

    An API that the caller may not use leads to a stated assumption. Exit 4 when the function does
    not exist or the credentials are refused.
    """
    build_template(function=function, qualifier=qualifier)  # refuses what no run would take
    asked = parse_concurrency(concurrency)
    left = None if leave is None else parse_leave(leave)
    try:
        quotas, events, claimed = asyncio.run(
            _discover(function, qualifier, asked, left, profile, region, endpoint_url)
        )
    except FatalRefusal as error:
        _refuse(str(error))
    if quotas.function_missing:
        where = f" with the qualifier {qualifier}" if qualifier else ""
        _refuse(f"{function}: no such function{where} in this account and Region")
    if quotas.unreachable is not None:
        _refuse(quotas.unreachable)
    if quotas.refusal is not None:
        _refuse(f"{function}: {quotas.refusal}; check --profile, and that the session has not expired")
    if as_json:
        click.echo(_json(function, quotas, events, claimed))
    elif sys.stdout.isatty():
        _draw(function, quotas, events, claimed)
    else:
        for figure in [*quotas.figures, *_event_figures(quotas, events), *claimed, _budget(quotas)]:
            click.echo(f"{figure.name}\t{_shown(figure.value)}\t{figure.source}")


async def _discover(
    function: str,
    qualifier: str | None,
    concurrency: Concurrency,
    leave: Leave | None,
    profile: str | None,
    region: str | None,
    endpoint_url: str | None,
) -> tuple[Quotas, Answer, list[Figure]]:
    from fanout.aws import AwsSession
    from fanout.transports.control import ControlClient
    from fanout.transports.signed_http import SignedHttp

    async with AwsSession(
        function=function, profile=profile, region=region, endpoint_url=endpoint_url
    ) as session:
        http = await SignedHttp.open(session)
        try:
            control = ControlClient(http)
            quotas, events = await asyncio.gather(
                discover(control, function=function, qualifier=qualifier, concurrency=concurrency),
                read_event_config(control, function, qualifier),
            )
            is_there = not quotas.function_missing and quotas.unreachable is None
            return quotas, events, await _left(session, quotas, leave) if leave and is_there else []
        finally:
            await http.aclose()


async def _left(session: AwsSession, quotas: Quotas, leave: Leave) -> list[Figure]:
    """Concurrency in use by CloudWatch, and what would be left for a run that begins now."""
    from fanout.aws.metrics import claimed_concurrency
    from fanout.quotas.leave import Claimed, OwnUse, leave_ceiling

    name = "left for a run"
    if quotas.reserved is not None:
        return [
            Figure(name, None, "--leave has no meaning with reserved concurrency: nobody else can use it")
        ]
    if quotas.account is None:
        return [Figure(name, None, "unknown: the account's concurrency cannot be read")]
    found = await claimed_concurrency(session)
    claimed = None if isinstance(found, str) else Claimed(*found)
    source = (
        f"unknown, taken for 0: {found}" if isinstance(found, str) else "CloudWatch, of the last minute known"
    )
    return [
        Figure("claimed concurrency", None if claimed is None else claimed.concurrency, source),
        Figure(
            name,
            leave_ceiling(quotas.account, leave, claimed, OwnUse()),
            f"{quotas.account:,} less what is claimed and {leave.of(quotas.account):,}; "
            "reserve concurrency for a function to bound it for good",
        ),
    ]


def _event_figures(quotas: Quotas, events: Answer) -> list[Figure]:
    """The figures of Event calls: tries, age, and where results and failures go."""
    api = "GetFunctionEventInvokeConfig"
    if isinstance(events, str):
        return [Figure("Event calls", None, f"unknown: {events}")]
    places = events.get("DestinationConfig")
    places = places if isinstance(places, dict) else {}
    rows: list[Figure] = []
    for name, value, default in (
        ("Event: more tries", events.get("MaximumRetryAttempts"), 2),
        ("Event: greatest age (s)", events.get("MaximumEventAgeInSeconds"), 21_600),
    ):
        is_set = isinstance(value, int) and not isinstance(value, bool)
        rows.append(Figure(name, value if is_set else default, api if is_set else f"{api}: Lambda's default"))
    for name, which in (("Event: results to", "OnSuccess"), ("Event: failures to", "OnFailure")):
        place = places.get(which)
        target = place.get("Destination") if isinstance(place, dict) else None
        rows.append(
            Figure(name, target if isinstance(target, str) else None, api if target else f"{api}: none")
        )
    rows.append(Figure("Event: dead letters to", quotas.dead_letter_arn, "GetFunction"))
    return rows


def _refuse(line: str) -> NoReturn:
    click.echo(f"fanout: {line}", err=True)
    sys.exit(_EXIT_FATAL)


def _budget(quotas: Quotas) -> Figure:
    return Figure("budget (calls in flight)", quotas.budget, quotas.budget_source)


def _shown(value: float | str | None) -> str:
    if value is None:
        return "-"
    return value if isinstance(value, str) else f"{value:,.15g}"


def _draw(function: str, quotas: Quotas, events: Answer, claimed: list[Figure]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(title=f"What Lambda allows {function}", title_justify="left", box=None, pad_edge=False)
    table.add_column("figure")
    table.add_column("value", justify="right")
    table.add_column("from", style="dim")
    for figure in [*quotas.figures, *_event_figures(quotas, events), *claimed]:
        table.add_row(figure.name, _shown(figure.value), figure.source)
    table.add_section()
    budget = _budget(quotas)
    table.add_row(budget.name, _shown(budget.value), budget.source, style="bold")
    Console(highlight=False).print(table)


def _json(function: str, quotas: Quotas, events: Answer, claimed: list[Figure]) -> str:
    import msgspec

    members: dict[str, Any] = {
        "function": function,
        "budget": quotas.budget,
        "budget_source": quotas.budget_source,
        "cause": quotas.cause,
        "is_assumed": quotas.is_assumed,
        "is_above_allowed": quotas.is_above_allowed,
        "allowed": quotas.allowed,
        "rate_per_s": quotas.rate_per_s,
        "rate_source": quotas.rate_source,
        "function_timeout_s": quotas.function_timeout_s,
        "reserved": quotas.reserved,
        "provisioned": quotas.provisioned,
        "account": quotas.account,
        "unreserved": quotas.unreserved,
        "memory_mb": quotas.memory_mb,
        "architecture": quotas.architecture,
        "ephemeral_mb": quotas.ephemeral_mb,
        "state": quotas.state,
        "state_reason": quotas.state_reason,
        "is_managed": quotas.is_managed,
        "is_durable": quotas.is_durable,
        "is_tenant_isolated": quotas.is_tenant_isolated,
        "event_config": None if isinstance(events, str) else events,
        "figures": [
            figure._asdict() for figure in (*quotas.figures, *_event_figures(quotas, events), *claimed)
        ],
    }
    return msgspec.json.encode(members).decode()
