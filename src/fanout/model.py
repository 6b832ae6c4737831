"""What a record, a call, a reply and an outcome are: the words every other module speaks.

Data only: nothing here decides, waits or does I/O. Structs are msgspec's, because every record of a
run makes several of them (about 0.2 µs each) and outcomes are written as JSON at the hot path.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

Status = Literal["succeeded", "accepted", "valid", "function_error", "rejected", "undelivered", "unknown"]
InvocationType = Literal["RequestResponse", "Event", "DryRun"]
OnChunk = Callable[[bytes], Awaitable[None]]  # takes one chunk of a streamed reply

STATUSES: tuple[Status, ...] = (
    "succeeded",
    "accepted",
    "valid",
    "function_error",
    "rejected",
    "undelivered",
    "unknown",
)
STATUS_GROUPS = {"failed": frozenset({"function_error", "rejected", "undelivered"})}
OK_STATUSES: frozenset[str] = frozenset({"succeeded", "accepted", "valid"})


class Verdict(enum.Enum):
    """What one attempt's end means: for the permit, for the retry and for the outcome."""

    SUCCESS = "success"
    FUNCTION_ERROR = "function_error"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    AMBIGUOUS = "ambiguous"
    REJECTED = "rejected"
    FATAL = "fatal"


class ThrottleKind(enum.Enum):
    """Which budget a 429 spoke of: it decides whether the limit or the pacer learns from it."""

    CONCURRENCY = "concurrency"
    RATE = "rate"
    WAIT = "wait"
    UNKNOWN = "unknown"


class Record(msgspec.Struct, frozen=True):
    """One payload with a name and parameters of its own.

    ``payload``: ``bytes`` are JSON already and are sent as they are; anything else is encoded.
    The other members override the dispatcher's option of the same name for this record only.
    """

    payload: Any
    key: str | None = None
    client_context: str | Mapping[str, Any] | None = None
    qualifier: str | None = None
    tenant_id: str | None = None
    durable_name: str | None = None


class ErrorDetail(msgspec.Struct, omit_defaults=True):
    """Why a record, or one attempt, did not succeed.

    ``type`` is the function's error type, Lambda's error code, or fanout's own name for a fault of
    the client side (``InvalidJson``, ``ReplyLost`` …). ``stack_trace`` is as the runtime gave it.
    """

    type: str
    message: str = ""
    stack_trace: list[str] | None = None
    handled: str | None = None  # "Handled" or "Unhandled", as Lambda said
    reason: str | None = None  # a 429's Reason
    cause: Any = None  # further members that the runtime gave (Java's cause)


class AttemptEnd(msgspec.Struct, omit_defaults=True):
    """How one attempt ended, for an outcome's ``history``."""

    verdict: str
    at: str  # UTC, ISO 8601
    duration_ms: float
    error: str = ""
    request_id: str | None = None


class Outcome(msgspec.Struct, omit_defaults=True, kw_only=True):
    """What became of one record. Exactly one exists for each record that was finished.

    ``seq`` counts from 0 in the input. Times are in milliseconds; ``duration_ms`` is the last
    attempt's round trip as the client saw it, ``billed_ms``, ``init_ms``, ``restore_ms``,
    ``memory_mb`` and ``max_memory_mb`` come from the REPORT line (log type Tail only).
    ``input`` is there whenever the record did not succeed; ``output`` is the function's JSON.
    """

    seq: int
    key: str | None = None
    status: Status
    attempts: int
    throttles: int
    request_id: str | None = None
    http_status: int | None = None
    executed_version: str | None = None
    started_at: str | None = None
    queued_ms: float | None = None
    duration_ms: float | None = None
    billed_ms: int | None = None
    init_ms: float | None = None
    restore_ms: float | None = None
    memory_mb: int | None = None
    max_memory_mb: int | None = None
    timed_out: bool = False
    trace_id: str | None = None
    durable_execution_arn: str | None = None
    output: msgspec.Raw | None = None
    output_encoding: Literal["text", "base64"] | None = None  # when the reply was no JSON
    output_file: str | None = None  # relative to the run directory, for streamed replies
    error: ErrorDetail | None = None
    input: msgspec.Raw | None = None
    input_encoding: Literal["text", "base64"] | None = None  # when the input was no JSON
    line: int | None = None  # 1-based line of the input, where it has lines
    is_fault: bool = False  # the record itself is at fault, and can never be sent
    log_tail: str | None = None
    history: list[AttemptEnd] | None = None
    generation: int = 0
    qualifier: str | None = None
    client_context: str | None = None  # the record's own, in base64, where it had one
    tenant_id: str | None = None
    durable_name: str | None = None

    @property
    def ok(self) -> bool:
        """Whether the record succeeded (or was accepted, or is valid)."""
        return self.status in OK_STATUSES

    @property
    def body(self) -> bytes:
        """The function's reply, as JSON bytes; empty when there is none."""
        return b"" if self.output is None else bytes(self.output)

    def json(self) -> Any:
        """The function's reply, decoded; ``None`` when there is none."""
        return None if self.output is None else msgspec.json.decode(self.output)


class Reply(msgspec.Struct):
    """One whole HTTP reply to an invocation, the same from every transport. Header values verbatim."""

    status: int
    body: bytes = b""
    function_error: str | None = None
    log_result: str | None = None  # base64
    executed_version: str | None = None
    request_id: str | None = None
    error_type: str | None = None  # x-amzn-ErrorType
    retry_after: str | None = None
    trace_id: str | None = None
    durable_execution_arn: str | None = None


class InvokeTemplate(msgspec.Struct, frozen=True):
    """Everything of a call but its payload. Made once for each distinct set of parameters.

    ``path`` and ``query`` are percent-encoded as they go on the wire; ``headers`` are the
    ``X-Amz-*`` ones in lower case, sorted by name, without those of the signature; ``sdk_params``
    are the same as botocore's ``invoke`` takes them. ``trace_id`` goes out as ``X-Amzn-Trace-Id``,
    which is not signed.
    """

    function: str
    path: str
    query: str
    headers: tuple[tuple[str, str], ...]
    sdk_params: Mapping[str, Any]
    invocation_type: InvocationType = "RequestResponse"
    streaming: bool = False
    trace_id: str | None = None


class Classification(msgspec.Struct, frozen=True):
    """What one attempt's end means. ``throttle`` is set exactly when the verdict is THROTTLED."""

    verdict: Verdict
    error: ErrorDetail | None = None
    throttle: ThrottleKind | None = None
    retry_after_s: float | None = None


class ReportLine(msgspec.Struct, frozen=True):
    """The figures of a REPORT line (or a ``platform.report`` object); absent ones are None."""

    billed_ms: int | None = None
    duration_ms: float | None = None
    init_ms: float | None = None
    restore_ms: float | None = None
    memory_mb: int | None = None
    max_memory_mb: int | None = None
    timed_out: bool = False
