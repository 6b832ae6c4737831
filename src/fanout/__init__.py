"""Invoke an AWS Lambda function once per record, within its limits, with one outcome each.

``fanout.run`` for batch scripts, ``fanout.Dispatcher`` for async services; see README.md.
"""

from __future__ import annotations

import os
from importlib import import_module

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

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


def preload(*names: str) -> None:
    """Import now what is otherwise imported when it is first needed.

    ``names`` are those of this package that will be used, such as ``"Dispatcher"``; without any, all. For
    Lambda's initialisation phase, and for services that would rather start slowly than answer their first
    request slowly. Reads credential files as a first call does, and sends nothing.
    """
    unknown = [name for name in names if name not in _HOMES]
    if unknown:
        raise ValueError(f"fanout has no {unknown[0]!r} to preload: see fanout.__all__")
    for module in (*sorted({_HOMES[name] for name in names or _HOMES}), *_LATER):
        import_module(module)
    from fanout.aws.environment import plain_settings

    if plain_settings(os.environ, region=None, endpoint_url=None) is None:
        for module in _OF_BOTOCORE:
            import_module(module)


_LATER = (
    "anyio._backends._asyncio",
    "anyio.lowlevel",
    "anyio.streams.memory",
    "encodings.idna",
    "fanout.aws.session",
    "fanout.quotas.discover",
    "fanout.transports.direct",
)
_OF_BOTOCORE = ("aiobotocore.session", "botocore.httpsession")  # for what the environment does not say


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'fanout' has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
