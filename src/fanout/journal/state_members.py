"""The members of run.json that verbs rely on, and their types: another type is damage, found at reading."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

import msgspec

_Count = Annotated[int, msgspec.Meta(ge=0)]


class _Input(msgspec.Struct):
    location: str | None = None
    path: str | None = None


class _Members(msgspec.Struct):
    id: str | None = None
    generation: _Count | None = None
    fanout_version: str | None = None
    function: str | None = None
    name: str | None = None
    labels: dict[str, Any] | None = None
    options: dict[str, Any] | None = None
    input: _Input | None = None
    state: str | None = None
    halted_by: str | None = None
    exit_code: int | None = None
    records_read: _Count | None = None
    counts: dict[str, _Count] | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    not_sent: list[int] | None = None
    refused: list[int] | None = None
    redrive: dict[str, Any] | None = None
    results: dict[str, Any] | None = None
    region: str | None = None
    function_configuration: dict[str, Any] | None = None
    limits: dict[str, Any] | None = None


def fault_of(state: dict[str, Any]) -> str | None:
    """What is wrong with a member; None where all are as they are written. Others are not looked at."""
    try:
        msgspec.convert(state, _Members)
    except msgspec.ValidationError as error:
        return str(error)
    return None
