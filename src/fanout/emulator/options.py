"""Options of the emulator: one table, for ``fanout emulate`` and for ``python -m fanout.emulator``."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fanout.emulator.settings import DEFAULT_TIMEOUT_S, Settings
from fanout.errors import EmulatorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Option:
    """One option. ``kind`` is ``bool`` for a flag; ``name`` is the member of Settings that it sets."""

    flag: str
    name: str
    kind: type = str
    default: Any = None
    metavar: str = ""
    is_repeatable: bool = False
    help: str


OPTIONS = (
    Option(
        flag="--simulate",
        name="simulate",
        metavar="SPEC",
        default=(),
        is_repeatable=True,
        help="A function without code: 'name=f,latency=lognormal(100ms,2s),error_rate=0.01'. Repeatable.",
    ),
    Option(flag="--name", name="name", metavar="NAME", help="The function's name; default: the file's."),
    Option(
        flag="--concurrency",
        name="concurrency",
        kind=int,
        metavar="N",
        help="Reserved concurrency; calls beyond it are throttled. Default: none reserved.",
    ),
    Option(
        flag="--account-concurrency",
        name="account_concurrency",
        kind=int,
        metavar="N",
        help="The account's concurrency. Default: 1000, or what the reservations need.",
    ),
    Option(
        flag="--no-limits",
        name="no_limits",
        kind=bool,
        help="Count, but throttle nothing: no concurrency, rate or scaling limit.",
    ),
    Option(
        flag="--timeout",
        name="timeout",
        kind=float,
        default=DEFAULT_TIMEOUT_S,
        metavar="SECONDS",
        help=f"Kill a call that takes longer. Default: {DEFAULT_TIMEOUT_S:g}.",
    ),
    Option(
        flag="--memory",
        name="memory",
        kind=int,
        default=128,
        metavar="MB",
        help="Memory size in the handler's context and in REPORT lines; not enforced. Default: 128.",
    ),
    Option(
        flag="--bootstrap",
        name="bootstrap",
        metavar="CMD",
        help="Run CMD as each environment's runtime client, instead of the built-in one for Python.",
    ),
    Option(
        flag="--log-format",
        name="log_format",
        default="Text",
        metavar="Text|JSON",
        help="Format of START, END, REPORT.",
    ),
    Option(
        flag="--host",
        name="host",
        default="127.0.0.1",
        metavar="HOST",
        help="A loopback address to listen on.",
    ),
    Option(
        flag="--port",
        name="port",
        kind=int,
        metavar="PORT",
        help="0 finds a free one. Default: 9001, and with -- COMMAND a free one.",
    ),
    Option(flag="--region", name="region", metavar="REGION", help="Default: AWS_REGION, or us-east-1."),
    Option(
        flag="--seed",
        name="seed",
        kind=int,
        default=0,
        metavar="N",
        help="Seed of simulated latencies and faults.",
    ),
    Option(
        flag="--linger-ms",
        name="linger_ms",
        kind=float,
        default=0.0,
        metavar="MS",
        help="How long an environment stays busy after its reply. Default: 0.",
    ),
    Option(
        flag="--event-wait-scale",
        name="event_wait_scale",
        kind=float,
        default=1.0,
        metavar="X",
        help="Multiply the waits of Event retries (1 and 2 minutes) by X. Default: 1.",
    ),
    Option(
        flag="--on-success",
        name="on_success",
        metavar="ARN",
        help="Send a record of each Event call that succeeded to this SQS queue or SNS topic.",
    ),
    Option(
        flag="--on-failure",
        name="on_failure",
        metavar="ARN",
        help="Send a record of each Event call that failed to this SQS queue or SNS topic.",
    ),
    Option(
        flag="--dead-letter",
        name="dead_letter",
        metavar="ARN",
        help="Send the payload of each Event call that failed to this SQS queue or SNS topic.",
    ),
    Option(
        flag="--durable",
        name="durable",
        metavar="DURATION",
        help="Make the functions durable: calls of one name start one execution, which may take this long.",
    ),
    Option(
        flag="--count-by",
        name="count_by",
        metavar="EXPR",
        help="Count executions by this member of the payload (a name, or JMESPath), shown at /_fanout/stats.",
    ),
    Option(
        flag="--ready-json",
        name="ready_json",
        kind=bool,
        help="Print one line of JSON on stdout when listening.",
    ),
    Option(
        flag="--die-with-parent",
        name="die_with_parent",
        kind=bool,
        help="End when stdin ends; ignore Ctrl-C.",
    ),
    Option(
        flag="--no-init-check",
        name="no_init_check",
        kind=bool,
        help="Do not import the handler before the first call.",
    ),
    Option(flag="--quiet", name="quiet", kind=bool, help="No greeting, and no function logs on stderr."),
)


def split_command(arguments: Sequence[str]) -> tuple[list[str], tuple[str, ...] | None]:
    """Split a command line at its first ``--``; None where there is none."""
    arguments = list(arguments)
    if "--" not in arguments:
        return arguments, None
    at = arguments.index("--")
    return arguments[:at], tuple(arguments[at + 1 :])


def settings_from(values: dict[str, Any], command: tuple[str, ...] | None = None) -> Settings:
    """Make settings of parsed options; raises EmulatorError for those that cannot work."""
    if command is not None and not command:
        raise EmulatorError("no command after --; write: fanout emulate … -- COMMAND [ARGUMENT…]")
    values = dict(values)
    values["command"] = command or ()
    values["init_check"] = not values.pop("no_init_check")
    values["simulate"] = tuple(values["simulate"])
    values["log_format"] = {"text": "Text", "json": "JSON"}.get(
        values["log_format"].lower(), values["log_format"]
    )
    return Settings(**values)


def parse(arguments: Sequence[str]) -> Settings:
    """Read a command line; leaves by SystemExit 2 as argparse does when it cannot be read."""
    parser = argparse.ArgumentParser(prog="python -m fanout.emulator", description="Lambda on this machine.")
    parser.add_argument("handler", nargs="?", metavar="FILE.py:HANDLER")
    for option in OPTIONS:
        if option.kind is bool:
            parser.add_argument(option.flag, dest=option.name, action="store_true", help=option.help)
        else:
            parser.add_argument(
                option.flag,
                dest=option.name,
                type=option.kind,
                default=[] if option.is_repeatable else option.default,
                action="append" if option.is_repeatable else "store",
                metavar=option.metavar,
                help=option.help.replace("%", "%%"),
            )
    own, command = split_command(arguments)
    return settings_from(vars(parser.parse_args(own)), command)
