"""Log of one call: START, the function's own lines, END, REPORT, as text or JSON; the last 4 KB."""

from __future__ import annotations

import base64
import json
import math
import time
from dataclasses import dataclass

TAIL_BYTES = 4_096


@dataclass(slots=True, kw_only=True)
class Measures:
    """The figures of a REPORT line.

    ``init_ms`` on an environment's first call only; ``max_memory_mb`` where known.
    """

    duration_ms: float
    memory_mb: int
    max_memory_mb: int | None = None
    init_ms: float | None = None
    status: str = ""
    error_type: str = ""

    @property
    def billed_ms(self) -> int:
        """Duration and init together, rounded up to the millisecond."""
        return math.ceil(self.duration_ms + (self.init_ms or 0.0))


def render(request_id: str, version: str, output: bytes, measures: Measures, *, as_json: bool) -> bytes:
    """Lay out the whole log of one call; ``output`` is what the function's process wrote."""
    if output and not output.endswith(b"\n"):
        output += b"\n"
    if as_json:
        return _render_json(request_id, version, output, measures)
    fields = [
        f"REPORT RequestId: {request_id}",
        f"Duration: {measures.duration_ms:.2f} ms",
        f"Billed Duration: {measures.billed_ms} ms",
        f"Memory Size: {measures.memory_mb} MB",
    ]
    if measures.max_memory_mb is not None:
        fields.append(f"Max Memory Used: {measures.max_memory_mb} MB")
    if measures.init_ms is not None:
        fields.append(f"Init Duration: {measures.init_ms:.2f} ms")
    if measures.status:
        fields.append(f"Status: {measures.status}")
    if measures.error_type:
        fields.append(f"Error Type: {measures.error_type}")
    report = "\t".join(fields) + "\t\n"
    start = f"START RequestId: {request_id} Version: {version}\n"
    return start.encode() + output + f"END RequestId: {request_id}\n{report}".encode()


def tail(log: bytes) -> bytes:
    """Make the header value of a log: base64 of its last 4 KB."""
    return base64.b64encode(log[-TAIL_BYTES:])


def timeout_line(request_id: str, timeout_s: float) -> bytes:
    """Say in the log that the call took too long."""
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime())
    return f"{stamp}.000Z {request_id} Task timed out after {timeout_s:.2f} seconds\n\n".encode()


def _render_json(request_id: str, version: str, output: bytes, measures: Measures) -> bytes:
    metrics: dict[str, float] = {
        "durationMs": round(measures.duration_ms, 3),
        "billedDurationMs": measures.billed_ms,
        "memorySizeMB": measures.memory_mb,
    }
    if measures.max_memory_mb is not None:
        metrics["maxMemoryUsedMB"] = measures.max_memory_mb
    if measures.init_ms is not None:
        metrics["initDurationMs"] = round(measures.init_ms, 3)
    report: dict[str, object] = {
        "requestId": request_id,
        "metrics": metrics,
        "status": measures.status or "success",
    }
    if measures.error_type:
        report["errorType"] = measures.error_type
    start = _event("platform.start", {"requestId": request_id, "version": version})
    return start + output + _event("platform.report", report)


def _event(kind: str, record: dict[str, object]) -> bytes:
    now_s = time.time()
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(now_s)) + f".{int(now_s * 1000) % 1000:03d}Z"
    return json.dumps({"time": stamp, "type": kind, "record": record}, separators=(",", ":")).encode() + b"\n"
