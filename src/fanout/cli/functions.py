"""``fanout functions``: what there is to invoke in this account and Region."""

from __future__ import annotations

import asyncio
import sys
from typing import TYPE_CHECKING, Any

import click

from fanout.cli.aws_options import aws_options

if TYPE_CHECKING:
    from fanout.aws import AwsSession
from fanout.errors import FatalRefusal

_EPILOG = """\b
Examples:
  1. Every function of the Region:
       fanout functions --region eu-west-1
  2. Those whose name begins with orders:
       fanout functions orders
  3. Each of them through a script; the columns are separated by tabs:
       fanout functions orders | cut -f1 | xargs -n1 fanout limits
  4. As JSON:
       fanout functions --json | jq '.[] | select(.timeout_s > 60) | .name'
"""


@click.command("functions", epilog=_EPILOG)
@click.argument("prefix", default="")
@click.option("--json", "as_json", is_flag=True, help="A JSON array of objects instead of a table.")
@aws_options
def command(
    prefix: str, as_json: bool, profile: str | None, region: str | None, endpoint_url: str | None
) -> None:
    """List the functions there are, or those whose name begins with PREFIX.

    Name, runtime, memory, timeout and last change; a table on a terminal, tab-separated lines in a pipe.
    """
    from fanout.aws import AwsSession

    session = AwsSession(function=prefix or "*", profile=profile, region=region, endpoint_url=endpoint_url)
    found = asyncio.run(_list(prefix, session))
    if as_json:
        import msgspec

        encoded = msgspec.json.encode(found)
        click.echo(
            msgspec.json.format(encoded, indent=2).decode() if sys.stdout.isatty() else encoded.decode()
        )
    elif sys.stdout.isatty():
        _draw(prefix, found)
    else:
        for row in found:
            click.echo("\t".join(str(row[column]) for column in _COLUMNS))


_COLUMNS = ("name", "runtime", "memory_mb", "timeout_s", "last_modified")


async def _list(prefix: str, session: AwsSession) -> list[dict[str, Any]]:
    from fanout.errors import TransportError
    from fanout.transports.control import ControlClient, ControlRefusal
    from fanout.transports.signed_http import SignedHttp

    found: list[dict[str, Any]] = []
    async with session:
        http = await SignedHttp.open(session)
        try:
            control, query = ControlClient(http), {"MaxItems": "50"}
            while True:
                page = await control.get("/2015-03-31/functions", query)
                found += [
                    _row(function)
                    for function in page.get("Functions") or []
                    if function["FunctionName"].startswith(prefix)
                ]
                if not (marker := page.get("NextMarker")):
                    break
                query["Marker"] = marker
        except ControlRefusal as error:
            raise FatalRefusal(
                f"the functions cannot be listed: {error} (it takes lambda:ListFunctions)", code=error.code
            ) from error
        except (TransportError, ConnectionError, TimeoutError) as error:
            raise FatalRefusal(f"the functions cannot be listed: {error}") from error
        finally:
            await http.aclose()
    return sorted(found, key=lambda row: str(row["name"]))


def _row(function: dict[str, Any]) -> dict[str, Any]:
    is_image = function.get("PackageType") == "Image"
    return {
        "name": function["FunctionName"],
        "runtime": function.get("Runtime") or ("image" if is_image else "-"),
        "memory_mb": function.get("MemorySize", 128),
        "timeout_s": function.get("Timeout", 3),
        "last_modified": function.get("LastModified", "-"),
        "arn": function.get("FunctionArn", ""),
        "architecture": (function.get("Architectures") or ["x86_64"])[0],
    }


def _draw(prefix: str, found: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not found:
        click.echo(
            f"no function begins with {prefix!r}" if prefix else "no functions in this Region", err=True
        )
        return
    table = Table(box=None, pad_edge=False, caption=f"{len(found):,} functions", caption_justify="left")
    table.add_column("name", overflow="fold")
    table.add_column("runtime")
    table.add_column("memory", justify="right")
    table.add_column("timeout", justify="right")
    table.add_column("last modified", style="dim")
    for row in found:
        table.add_row(
            Text(row["name"]),
            Text(row["runtime"]),
            f"{row['memory_mb']:,} MB",
            f"{row['timeout_s']:,} s",
            Text(row["last_modified"][:19].replace("T", " ")),
        )
    Console(highlight=False).print(table)
