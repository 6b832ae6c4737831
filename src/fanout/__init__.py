"""Invoke an AWS Lambda function once per record, within its limits, with one outcome each.

``fanout.run`` for batch scripts, ``fanout.Dispatcher`` for async services; see README.md.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fanout.commands import dry_run, run
    from fanout.commands.dry_run_report import DryRunReport
    from fanout.dispatcher import Dispatcher, Health, Outcomes, ReplyStream
    from fanout.errors import (
        ConfigError,
        ConnectFailed,
        EmulatorError,
        FanoutError,
        FatalRefusal,
        JournalError,
        OutageError,
        RecordsFailed,
        ReplyLost,
        RequestNotSent,
        SourceError,
        TransportError,
    )
    from fanout.inputs import Input
    from fanout.model import ErrorDetail, InvokeTemplate, Outcome, Record, Reply
    from fanout.report.summary import RunReport
    from fanout.stats import Snapshot
    from fanout.transports import Transport

# Imported when first used, so that the command starts quickly.
_HOMES = {
    "ConfigError": "fanout.errors",
    "ConnectFailed": "fanout.errors",
    "Dispatcher": "fanout.dispatcher",
    "DryRunReport": "fanout.commands.dry_run_report",
    "EmulatorError": "fanout.errors",
    "ErrorDetail": "fanout.model",
    "FanoutError": "fanout.errors",
    "FatalRefusal": "fanout.errors",
    "Health": "fanout.dispatcher",
    "OutageError": "fanout.errors",
    "Input": "fanout.inputs",
    "InvokeTemplate": "fanout.model",
    "JournalError": "fanout.errors",
    "Outcome": "fanout.model",
    "Outcomes": "fanout.dispatcher",
    "Record": "fanout.model",
    "RecordsFailed": "fanout.errors",
    "Reply": "fanout.model",
    "ReplyLost": "fanout.errors",
    "ReplyStream": "fanout.dispatcher",
    "RequestNotSent": "fanout.errors",
    "RunReport": "fanout.report.summary",
    "Snapshot": "fanout.stats",
    "SourceError": "fanout.errors",
    "Transport": "fanout.transports",
    "TransportError": "fanout.errors",
    "dry_run": "fanout.commands",
    "run": "fanout.commands",
}

__all__ = [
    "ConfigError",
    "ConnectFailed",
    "Dispatcher",
    "DryRunReport",
    "EmulatorError",
    "ErrorDetail",
    "FanoutError",
    "FatalRefusal",
    "Health",
    "Input",
    "InvokeTemplate",
    "JournalError",
    "OutageError",
    "Outcome",
    "Outcomes",
    "Record",
    "RecordsFailed",
    "Reply",
    "ReplyLost",
    "ReplyStream",
    "RequestNotSent",
    "RunReport",
    "Snapshot",
    "SourceError",
    "Transport",
    "TransportError",
    "dry_run",
    "preload",
    "run",
]


def preload() -> None:
    """Import now what is otherwise imported when it is first needed.

    For Lambda's initialisation phase, which is not billed against a call, and for services that would
    rather start slowly than answer their first request slowly. Sends nothing.
    """
    for name in (*sorted({*_HOMES.values()}), *_LATER):
        import_module(name)


_LATER = ("fanout.transports.direct", "fanout.aws.session", "aiobotocore.session", "botocore.httpsession")


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fanout' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
