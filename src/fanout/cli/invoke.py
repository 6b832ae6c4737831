"""``fanout invoke``: one call, shown to a person or handed on byte by byte."""

from __future__ import annotations

import asyncio
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NoReturn

import click

from fanout import exit_codes
from fanout.cli.aws_options import aws_options
from fanout.errors import ConfigError

if TYPE_CHECKING:
    from fanout.aws import AwsSession
    from fanout.cli.call_display import Display
    from fanout.model import InvokeTemplate

_EPILOG = """\b
Examples:
  1. A payload from the command line, the result pretty on a terminal:
       fanout invoke orders '{"id": 7}'
  2. From a file, with the end of the function's log on stderr:
       fanout invoke orders @event.json --log-type Tail
  3. As the AWS CLI has it: the result in a file, status and version on stdout:
       fanout invoke orders file://event.json result.json
  4. In a pipe:
       generate | fanout invoke orders - | jq .total
  5. All that is known about the call, as one object:
       fanout invoke orders:live '{}' --json
  6. Only check that the call would be allowed:
       fanout invoke orders --invocation-type DryRun

\b
Nothing is sent twice: there are no retries. Exit codes: 0 succeeded, 1 the
function reported an error or the call did not succeed, 2 usage, 4 fatal
(access, credentials, no such function), 130 interrupted, 141 the reader of
stdout went away.
"""
# The longest a function can run, and what its answer may take to arrive.
_LONGEST_CALL_S = 915.0
_FILE = re.compile(r"@|fileb?://")  # the AWS CLI's two as well


@click.command("invoke", epilog=_EPILOG)
@click.argument("function")
@click.argument("payload", required=False)
@click.argument("outfile", required=False, type=click.Path(dir_okay=False))
@click.option("--qualifier", metavar="NAME", help="A version or an alias.")
@click.option(
    "--invocation-type",
    type=click.Choice(["RequestResponse", "Event", "DryRun"]),
    default="RequestResponse",
    help="Wait for the result (default), hand over, or only check permission.",
)
@click.option(
    "--log-type",
    type=click.Choice(["None", "Tail", "OnError"]),
    default="None",
    help="Show the last 4 KB of the function's log on stderr: always, or if the call did not succeed.",
)
@click.option("--client-context", metavar="JSON", help="Context for the function, as a JSON object.")
@click.option("--tenant-id", metavar="ID", help="For functions isolated by tenant.")
@click.option("--durable-name", metavar="NAME", help="The durable execution's name.")
@click.option("--stream", is_flag=True, help="Show the reply as it comes, in parts.")
@click.option(
    "--timeout",
    type=click.FloatRange(min=0, min_open=True),
    metavar="SECONDS",
    help="How long the call may take. Default: as long as a function can run.",
)
@click.option(
    "--transport", type=click.Choice(["direct", "sdk"]), default="direct", help="How calls are sent."
)
@click.option("--json", "as_json", is_flag=True, help="The whole outcome as one JSON object on stdout.")
@aws_options
def command(
    function: str,
    payload: str | None,
    outfile: str | None,
    invocation_type: str,
    log_type: str,
    as_json: bool,
    timeout: float | None,
    transport: Literal["direct", "sdk"],
    profile: str | None,
    region: str | None,
    endpoint_url: str | None,
    **parameters: Any,
) -> None:
    """Invoke FUNCTION once with PAYLOAD, and print what it returns.

    PAYLOAD is JSON, @FILE, file://FILE, or - for standard input; without it, what is piped in, or nothing.
    With OUTFILE the result goes there, and StatusCode, FunctionError and ExecutedVersion to stdout.
    """
    from fanout.aws import AwsSession
    from fanout.cli.call_display import Display
    from fanout.invoke_request import build_template, payload_fault

    template = build_template(
        function=function, invocation_type=invocation_type, log_type=log_type, **parameters
    )
    body = _read_payload(payload)
    if (fault := payload_fault(template, body)) is not None:
        raise ConfigError(fault.message)
    display = Display(
        as_json=as_json, log_type=log_type, template=template, body=body, out=_open_outfile(outfile)
    )
    session = AwsSession(function=function, profile=profile, region=region, endpoint_url=endpoint_url)
    try:
        code = asyncio.run(_call(session, template, body, display, transport, timeout))
    except KeyboardInterrupt:
        _leave("interrupted: a function that was called runs on", exit_codes.SIGINT)
    sys.exit(code)


async def _call(
    session: AwsSession,
    template: InvokeTemplate,
    body: bytes,
    display: Display,
    kind: Literal["direct", "sdk"],
    timeout_s: float | None,
) -> int:
    from fanout.classify import classify, classify_failure
    from fanout.errors import TransportError
    from fanout.transports import open_transport

    async with session:
        transport = await open_transport(
            session,
            kind=kind,
            max_connections=1,
            read_timeout_s=_LONGEST_CALL_S,
            call_timeout_s=timeout_s,
        )
        try:
            display.start()
            reply = await transport.send(template, body, display.on_chunk)
        except TransportError as error:
            return display.end(None, classify_failure(error))
        finally:
            await transport.aclose()
    return display.end(reply, classify(reply, template))


def _read_payload(payload: str | None) -> bytes:
    if payload is None:
        body = sys.stdin.buffer.read() if _is_piped(sys.stdin) else b""
    elif payload == "-":
        body = sys.stdin.buffer.read()
    elif (file := _FILE.match(payload)) is not None:
        path = payload[file.end() :]
        try:
            body = Path(path).expanduser().read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            why = getattr(error, "strerror", None) or error
            raise ConfigError(f"payload file {path!r} cannot be read: {why}") from error
    else:
        body = payload.encode("utf-8", "surrogateescape")
    body = body.removeprefix(b"\xef\xbb\xbf")  # a byte order mark is no JSON
    if body.strip():
        from fanout.payload import json_fault

        if (fault := json_fault(body)) is not None:
            raise ConfigError(
                f"the payload is not valid JSON: {fault}; a string needs quotes, a file needs @"
            )
    return body


def _open_outfile(path: str | None) -> BinaryIO | None:
    """Opened before the call: a result that cannot be written is known before the function has run."""
    if path is None or path == "-":  # as everywhere
        return None
    try:
        return Path(path).open("wb")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise ConfigError(f"output file {path!r} cannot be written: {why}") from error


def _is_piped(stream: Any) -> bool:
    # Not merely "no terminal": under cron or in a container standard input is often /dev/null or closed.
    try:
        mode = os.fstat(stream.fileno()).st_mode
    except (AttributeError, OSError, ValueError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _leave(line: str, code: int) -> NoReturn:
    click.echo(f"fanout: {line}", err=True)
    sys.exit(code)
