"""Records, calls, replies and outcomes: the words every other module uses.

Data only: nothing here decides, waits or does I/O. Structs are msgspec's, because every record of a
run makes several of them (about 0.2 µs each) and outcomes are written as JSON at the hot path.
"""

from __future__ import annotations

import base64
import enum
import json
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Literal

import msgspec

Status = Literal["succeeded", "accepted", "valid", "function_error", "rejected", "undelivered", "unknown"]
InvocationType = Literal["RequestResponse", "Event", "DryRun"]
OnChunk = Callable[[bytes], Awaitable[None]]  # takes one chunk of a streamed reply

_SHOWN_CHARS = 100  # of a reply or a message, in a repr

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
NEVER_RAN: frozenset[str] = frozenset({"rejected", "undelivered"})  # their times say nothing of the function


class Verdict(enum.Enum):
    """The verdict on one attempt's end: for the permit, for the retry and for the outcome."""

    SUCCESS = "success"
    FUNCTION_ERROR = "function_error"
    THROTTLED = "throttled"
    TRANSIENT = "transient"
    AMBIGUOUS = "ambiguous"
    REJECTED = "rejected"
    FATAL = "fatal"


class ThrottleKind(enum.Enum):
    """The budget that a 429 is about: it decides whether the limit or the pacer learns from it."""

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
    """The error of a record, or of one attempt, that did not succeed.

    ``type`` is the function's error type, Lambda's error code, or fanout's own name for a fault of
    the client side (``InvalidJson``, ``ReplyLost`` …). ``stack_trace`` is as the runtime gave it.
    """

    type: str
    message: str = ""
    stack_trace: list[str] | None = None
    handled: str | None = None  # "Handled" or "Unhandled", as Lambda said
    reason: str | None = None  # a 429's Reason
    cause: Any = None  # further members that the runtime gave (Java's cause)


SUPERSEDED = "Superseded"  # the error type of an attempt whose twin succeeded first


class AttemptEnd(msgspec.Struct, omit_defaults=True):
    """The end of one attempt, for an outcome's ``history``."""

    verdict: str
    at: str  # UTC, ISO 8601
    duration_ms: float
    error: str = ""
    request_id: str | None = None


class BatchPlace(msgspec.Struct):
    """The place of a record in the call that carried it with others. ``index`` counts from 0."""

    id: str  # the same for all records of the call
    index: int
    size: int


class Outcome(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """The outcome of one record. Exactly one exists for each record that was finished.

    ``seq`` counts from 0 in the input. Times are in milliseconds; ``duration_ms`` is the last
    attempt's round trip as the client saw it, ``billed_ms``, ``init_ms``, ``restore_ms``,
    ``memory_mb`` and ``max_memory_mb`` come from the REPORT line (log type Tail only).
    ``input`` is there whenever the record did not succeed; ``output`` is what the function returned. Both
    are kept as they stand in the journal (``…_raw``) and decoded when they are asked for.
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
    output_raw: msgspec.Raw | None = msgspec.field(default=None, name="output")
    output_encoding: Literal["text", "base64"] | None = None  # when the reply was no JSON
    output_file: str | None = None  # relative to the run directory, for streamed replies
    error: ErrorDetail | None = None
    input_raw: msgspec.Raw | None = msgspec.field(default=None, name="input")
    input_encoding: Literal["text", "base64"] | None = None  # when the input was no JSON
    line: int | None = None  # 1-based line of the input, where it has lines
    source: str | None = None  # which input the record came from, where there are several
    is_fault: bool = False  # the record itself is at fault, and can never be sent
    log_tail: str | None = None
    history: list[AttemptEnd] | None = None
    generation: int = 0
    collected_at: str | None = None  # the result of an Event call, by its destination or dead-letter queue
    qualifier: str | None = None
    client_context: str | None = None  # the record's own, in base64, where it had one
    tenant_id: str | None = None
    durable_name: str | None = None
    batch: BatchPlace | None = None  # where the call carried several records
    copies: int = 0  # second attempts beside a late one, of a hedged call

    @property
    def ok(self) -> bool:
        """True if the record succeeded (or was accepted, or is valid)."""
        return self.status in OK_STATUSES

    @property
    def output(self) -> Any:
        """The function's result, decoded; a reply that is not JSON as text or bytes; None without one."""
        return _value(self.output_raw, self.output_encoding)

    @property
    def output_bytes(self) -> bytes:
        """The reply as the function sent it; empty when there is none."""
        return _bytes(self.output_raw, self.output_encoding)

    @property
    def input(self) -> Any:
        """The payload of a record that did not succeed, decoded as ``output`` is; None for one that did."""
        return _value(self.input_raw, self.input_encoding)

    @property
    def input_bytes(self) -> bytes:
        """That payload as it was sent, or would have been; empty for a record that succeeded."""
        return _bytes(self.input_raw, self.input_encoding)

    @property
    def body(self) -> bytes:
        """The function's reply, as JSON bytes; empty when there is none. ``output_bytes`` in most cases."""
        return b"" if self.output_raw is None else bytes(self.output_raw)

    def json(self) -> Any:
        """The same as ``output``."""
        return self.output

    def to_dict(self) -> dict[str, Any]:
        """The members that stand in the journal's line, as plain data: for frames and notebooks."""
        members: dict[str, Any]
        try:
            members = msgspec.json.decode(msgspec.json.encode(self))
        except (UnicodeEncodeError, msgspec.DecodeError):  # lone surrogates
            members = json.loads(json.dumps(self, default=plain_members))
        return members

    def __repr__(self) -> str:
        name = f"{self.seq}" if self.key is None else f"{self.seq} {self.key!r}"
        took = "" if self.duration_ms is None else f" in {self.duration_ms:,.0f} ms"
        tries = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        if self.error is not None:
            said = f"{self.error.type}: {self.error.message}" if self.error.message else self.error.type
            said = repr(said)[1:-1]
        else:
            said = ascii(self.output_bytes[: _SHOWN_CHARS * 2].decode("utf-8", "replace"))[1:-1]
        if len(said) > _SHOWN_CHARS:
            said = f"{said[: _SHOWN_CHARS - 1]}…"
        return f"<Outcome {name} {self.status}{took}{tries}{': ' if said else ''}{said}>"


def plain_members(value: Any) -> Any:
    """The members of an outcome, or of a part of it, as ``json`` takes them."""
    if isinstance(value, msgspec.Raw):
        return json.loads(bytes(value))
    fields = msgspec.structs.fields(value)
    members = ((field, getattr(value, field.name)) for field in fields)
    return {field.encode_name: member for field, member in members if member != field.default}


def _value(raw: msgspec.Raw | None, encoding: str | None) -> Any:
    if raw is None:
        return None
    try:
        value = msgspec.json.decode(raw)
    except msgspec.DecodeError:  # lone surrogates, which JSON's grammar allows
        value = json.loads(bytes(raw))
    return base64.b64decode(value) if encoding == "base64" else value


def _bytes(raw: msgspec.Raw | None, encoding: str | None) -> bytes:
    if raw is None:
        return b""
    if encoding is None:
        return bytes(raw)
    value = _value(raw, encoding)
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogatepass")


class PlainSums(msgspec.Struct, array_like=True):
    """Sums over outcomes that succeeded at the first attempt, alone and without a cold start.

    ``billed``: those whose REPORT line told; ``unbilled``: succeeded without one, round trips rounded up.
    """

    counts: dict[str, int] = {}
    billed: int = 0
    billed_ms: int = 0
    billed_mb_ms: int = 0
    memory_mb: int = 0
    max_memory_mb: int = 0
    unbilled: int = 0
    unbilled_ms: int = 0


class Reply(msgspec.Struct, gc=False):
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
    durable_name: str | None = None
    trace_id: str | None = None


class Classification(msgspec.Struct, frozen=True):
    """The classification of one attempt's end. ``throttle`` is set exactly when the verdict is THROTTLED."""

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
