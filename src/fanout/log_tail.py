"""The log tail of a call: its text, and the figures of its REPORT line.

Lambda returns the last 4 KB of a call's log, in base64: the beginning may be missing, and so may the
REPORT line. Text logs have it as ``REPORT RequestId: …``, tab-separated; JSON logs as an object of
type ``platform.report``. Never raises, whatever the bytes.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from typing import Any

import msgspec

from fanout.model import Outcome, ReportLine

_LINE = re.compile(r"REPORT RequestId: (?P<id>[^\s]+)(?P<rest>[^\n\r]*)")
_OBJECT_TYPE = re.compile(r'"type"\s*:\s*"platform\.report"')
_NUMBER = r"(\d+(?:\.\d+)?)"
_FIELDS = {
    name: re.compile(rf"(?:^|\t){label}: {_NUMBER} {unit}")
    for name, label, unit in (
        ("duration_ms", "Duration", "ms"),
        ("billed_ms", "Billed Duration", "ms"),
        ("memory_mb", "Memory Size", "MB"),
        ("max_memory_mb", "Max Memory Used", "MB"),
        ("init_ms", "Init Duration", "ms"),
        ("restore_ms", "Restore Duration", "ms"),
    )
}
_STATUS = re.compile(r"(?:^|\t)Status: (\w+)")
_METRICS = {
    "duration_ms": "durationMs",
    "billed_ms": "billedDurationMs",
    "memory_mb": "memorySizeMB",
    "max_memory_mb": "maxMemoryUsedMB",
    "init_ms": "initDurationMs",
    "restore_ms": "restoreDurationMs",
}
_WHOLE = frozenset({"billed_ms", "memory_mb", "max_memory_mb"})
_MAX_FIGURE = 1e15  # beyond it a float is no exact count any more: not Lambda's figure

_decode_object = msgspec.json.Decoder(dict[str, Any]).decode


def add_log(outcome: Outcome, log_result: str, *, keeps_tail: bool) -> None:
    """Put the figures of a ``LogResult`` into an outcome that has its request id, and its text if wanted."""
    tail = decode_tail(log_result)
    if keeps_tail:
        outcome.log_tail = tail
    if (report := parse_report(tail, outcome.request_id)) is None:
        return
    outcome.billed_ms = report.billed_ms
    outcome.init_ms = report.init_ms
    outcome.restore_ms = report.restore_ms
    outcome.memory_mb = report.memory_mb
    outcome.max_memory_mb = report.max_memory_mb
    outcome.timed_out = report.timed_out


def decode_tail(base64_text: str) -> str:
    """The text of a ``LogResult``; what is damaged is left out, what is not UTF-8 replaced."""
    text = base64_text.strip()
    try:
        raw = base64.b64decode(text)
    except (binascii.Error, ValueError):
        # Cut or garbled: what stands before the fault, in whole groups of four.
        sound = re.match(r"[A-Za-z0-9+/]*", text)
        length = len(sound[0]) if sound else 0
        raw = base64.b64decode(text[: length - length % 4])
    # The 4 KB may begin inside a character: its remaining bytes say nothing.
    start = 0
    while start < min(3, len(raw)) and 0x80 <= raw[start] < 0xC0:
        start += 1
    return raw[start:].decode("utf-8", "replace")


def parse_report(tail: str, request_id: str | None = None) -> ReportLine | None:
    """The figures of the call's REPORT line, or None when the tail does not have it.

    With ``request_id`` only the line of that request counts (an environment's log may hold those of
    others); without it the last one does. Billed Duration already contains Init Duration.
    """
    found: tuple[int, ReportLine] | None = None
    for match in _LINE.finditer(tail):
        if request_id is None or match["id"] == request_id:
            found = match.start(), _from_text(match["rest"])
    for match in _OBJECT_TYPE.finditer(tail):
        record = _record_around(tail, match.start())
        if (
            record is not None
            and (request_id is None or record.get("requestId") == request_id)
            and (found is None or match.start() > found[0])
        ):
            found = match.start(), _from_record(record)
    return found[1] if found else None


def _from_text(rest: str) -> ReportLine:
    figures: dict[str, Any] = {}
    for name, pattern in _FIELDS.items():
        if match := pattern.search(rest):
            figures[name] = _figure(name, float(match[1]))
    status = _STATUS.search(rest)
    return ReportLine(**figures, timed_out=status is not None and status[1] == "timeout")


def _from_record(record: Mapping[str, Any]) -> ReportLine:
    metrics = record.get("metrics")
    if not isinstance(metrics, dict):
        metrics = {}
    figures: dict[str, Any] = {}
    for name, member in _METRICS.items():
        value = metrics.get(member)
        if isinstance(value, (int, float)) and not isinstance(value, bool):
            figures[name] = _figure(name, value)
    return ReportLine(**figures, timed_out=record.get("status") == "timeout")


def _record_around(tail: str, position: int) -> dict[str, Any] | None:
    """The ``record`` of the object that has its type at ``position``; objects may share a line."""
    start = position
    for _ in range(8):  # the type is one of the first members
        start = tail.rfind("{", 0, start)
        if start < 0:
            return None
        end = _end_of_object(tail, start)
        if end is None or end <= position:
            continue
        try:
            value = _decode_object(tail[start:end].encode("utf-8", "replace"))
        except (msgspec.DecodeError, ValueError, RecursionError):
            continue
        if value.get("type") == "platform.report" and isinstance(value.get("record"), dict):
            record: dict[str, Any] = value["record"]
            return record
    return None


def _end_of_object(text: str, start: int) -> int | None:
    """The end of the object that begins at ``start``; None if it is cut."""
    depth = 0
    quoted = escaped = False
    for index in range(start, len(text)):
        character = text[index]
        if quoted:
            if escaped:
                escaped = False
            elif character == "\\":
                escaped = True
            elif character == '"':
                quoted = False
        elif character == '"':
            quoted = True
        elif character == "{":
            depth += 1
        elif character == "}":
            depth -= 1
            if depth == 0:
                return index + 1
    return None


def _figure(name: str, value: float) -> float | int | None:
    if not -_MAX_FIGURE < value < _MAX_FIGURE:
        return None
    return round(value) if name in _WHOLE else float(value)
