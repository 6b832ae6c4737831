"""Classification of an attempt's end: one verdict for the permit, the retry and the outcome.

One table over every answer that Lambda is known to give, for both transports. Codes nobody knows yet
go by their HTTP status; a success that does not fit what was asked is never taken for one.
Never raises, whatever the bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import msgspec

from fanout.errors import ConnectFailed, RequestNotSent, TransportError
from fanout.model import (
    Classification,
    ErrorDetail,
    InvokeTemplate,
    Reply,
    Status,
    ThrottleKind,
    Verdict,
)
from fanout.payload import decode_reply

SUCCESS = Classification(Verdict.SUCCESS)
_EXPECTED_STATUS = {"RequestResponse": 200, "Event": 202, "DryRun": 204}
STATUS_OF_SUCCESS: dict[int, Status] = {200: "succeeded", 202: "accepted", 204: "valid"}

# The outcome's status of an attempt that no other follows, by its verdict.
STATUS_OF_FAILURE: Mapping[Verdict, Status] = {
    Verdict.FUNCTION_ERROR: "function_error",
    Verdict.REJECTED: "rejected",
    Verdict.FATAL: "rejected",
    Verdict.THROTTLED: "undelivered",
    Verdict.TRANSIENT: "undelivered",
    Verdict.AMBIGUOUS: "unknown",
}

THROTTLE_KINDS: Mapping[str, ThrottleKind] = {
    "ReservedFunctionConcurrentInvocationLimitExceeded": ThrottleKind.CONCURRENCY,
    "ConcurrentInvocationLimitExceeded": ThrottleKind.CONCURRENCY,
    "ReservedFunctionInvocationRateLimitExceeded": ThrottleKind.RATE,
    "FunctionInvocationRateLimitExceeded": ThrottleKind.RATE,
    "CallerRateLimitExceeded": ThrottleKind.RATE,
    "ConcurrentSnapshotCreateLimitExceeded": ThrottleKind.WAIT,
}

# Codes whose verdict is not that of their HTTP status, without their "Exception" suffix.
CODE_VERDICTS: Mapping[str, Verdict] = {
    # 400: parameters and the function's state are the same for every record; only the payload is not.
    "InvalidParameterValue": Verdict.FATAL,
    "ModeNotSupported": Verdict.FATAL,
    "NoPublishedVersion": Verdict.FATAL,
    "RecursiveInvocation": Verdict.FATAL,
    "SnapStart": Verdict.FATAL,
    # 400 and 403 of the signature and the credentials, under any status.
    "AccessDenied": Verdict.FATAL,
    "ExpiredToken": Verdict.FATAL,
    "IncompleteSignature": Verdict.FATAL,
    "InvalidClientTokenId": Verdict.FATAL,
    "InvalidSignature": Verdict.FATAL,
    "MissingAuthenticationToken": Verdict.FATAL,
    "OptInRequired": Verdict.FATAL,
    "SignatureDoesNotMatch": Verdict.FATAL,
    "UnrecognizedClient": Verdict.FATAL,
    # 409: states that do not pass by waiting.
    "CodeArtifactUserDeleted": Verdict.FATAL,
    "CodeArtifactUserFailed": Verdict.FATAL,
    "RuntimeAliasDeleted": Verdict.FATAL,
    "RuntimeVersionDeleted": Verdict.FATAL,
    "DurableExecutionAlreadyStarted": Verdict.REJECTED,
    # 502: set up wrongly, against the passing lack of a resource.
    "EC2AccessDenied": Verdict.FATAL,
    "InvalidRuntime": Verdict.FATAL,
    "InvalidSecurityGroupID": Verdict.FATAL,
    "InvalidSubnetID": Verdict.FATAL,
    "InvalidZipFile": Verdict.FATAL,
    "KMSAccessDenied": Verdict.FATAL,
    "KMSDisabled": Verdict.FATAL,
    "KMSInvalidState": Verdict.FATAL,
    "KMSNotFound": Verdict.FATAL,
}

STATUS_VERDICTS: Mapping[int, Verdict] = {
    400: Verdict.REJECTED,
    401: Verdict.FATAL,
    402: Verdict.REJECTED,
    403: Verdict.FATAL,
    404: Verdict.FATAL,
    405: Verdict.FATAL,
    407: Verdict.FATAL,
    408: Verdict.TRANSIENT,
    409: Verdict.TRANSIENT,
    413: Verdict.REJECTED,
    415: Verdict.REJECTED,
    429: Verdict.THROTTLED,
    500: Verdict.TRANSIENT,
    502: Verdict.TRANSIENT,
    503: Verdict.TRANSIENT,
    504: Verdict.TRANSIENT,
    509: Verdict.TRANSIENT,
}

# A snapshot is made anew, which takes minutes: asking again at once would only use the attempts up.
_LEAST_WAIT_S: Mapping[str, float] = {"SnapStartRegenerationFailure": 30.0}
_LONGEST_RETRY_AFTER_S = 86_400.0

_MAX_MESSAGE_CHARS = 2_000


def classify(reply: Reply, template: InvokeTemplate) -> Classification:
    """Classify a whole reply. Under 0.3 µs, and one shared value, for a plain success."""
    if reply.function_error is None and reply.status == _EXPECTED_STATUS[template.invocation_type]:
        return SUCCESS
    if 200 <= reply.status < 300:
        if (
            reply.function_error is not None
            and reply.status == 200 == _EXPECTED_STATUS[template.invocation_type]
        ):
            return Classification(Verdict.FUNCTION_ERROR, _function_error(reply))
        return Classification(Verdict.AMBIGUOUS, _unexpected(reply, template, ""))
    return _classify_refusal(reply, template)


def classify_failure(error: TransportError) -> Classification:
    """Classify a call without a reply: only a request that surely was not sent is safe to repeat."""
    not_sent = isinstance(error, (ConnectFailed, RequestNotSent))
    detail = ErrorDetail(type=type(error).__name__, message=str(error))
    return Classification(Verdict.TRANSIENT if not_sent else Verdict.AMBIGUOUS, detail)


def status_of(reply_status: int) -> Status:
    """The outcome's status of a reply that was classified as a success."""
    return STATUS_OF_SUCCESS[reply_status]


def _classify_refusal(reply: Reply, template: InvokeTemplate) -> Classification:
    members = _object(reply.body)
    code = _code(reply, members)
    verdict = _refusal_verdict(reply.status, code)
    if verdict is None:
        # 410 (EFSIO) among them: a file system that failed may have failed halfway through a run.
        return Classification(Verdict.AMBIGUOUS, _unexpected(reply, template, code))
    reason = _text(members.get("Reason")) or None
    detail = ErrorDetail(
        type=code or f"Http{reply.status}",
        message=_message(members) or f"HTTP status {reply.status}{_excerpt(reply.body)}",
        reason=reason,
    )
    throttle = (
        THROTTLE_KINDS.get(reason or "", ThrottleKind.UNKNOWN) if verdict is Verdict.THROTTLED else None
    )
    wait_s = _seconds(reply.retry_after)
    least_s = _LEAST_WAIT_S.get(_short(code)) if verdict is Verdict.TRANSIENT else None
    if least_s is not None:
        wait_s = max(least_s, wait_s or 0.0)
    return Classification(verdict, detail, throttle, wait_s)


def _refusal_verdict(status: int, code: str) -> Verdict | None:
    name = _short(code)
    if (by_code := CODE_VERDICTS.get(name)) is not None and 400 <= status < 600:
        return by_code
    if "TooLarge" in name and 400 <= status < 500:
        return Verdict.REJECTED
    # A code that says throttling under another status than 429 (gateways and old APIs do so).
    if 400 <= status < 600 and name in ("TooManyRequests", "Throttling", "ThrottledException", "Throttled"):
        return Verdict.THROTTLED
    return STATUS_VERDICTS.get(status)


def _short(code: str) -> str:
    return code.removesuffix("Exception").removesuffix("Error")


def _code(reply: Reply, members: Mapping[str, Any]) -> str:
    """``Code:http://…`` and ``namespace#Code`` are both only ``Code``."""
    for candidate in (reply.error_type, members.get("code"), members.get("__type"), members.get("Code")):
        if isinstance(candidate, str) and candidate:
            return _clip(candidate.partition(":")[0].rpartition("#")[2].strip())
    return ""


def _function_error(reply: Reply) -> ErrorDetail:
    members = _object(reply.body)
    if not members:
        return ErrorDetail(
            type=reply.function_error or "Unhandled",
            message=f"no error object in the reply{_excerpt(reply.body)}",
            handled=reply.function_error or None,
        )
    error_type = _text(members.get("errorType"))
    message = _text(members.get("errorMessage"))
    if not error_type and "Task timed out after" in message:
        error_type = "Sandbox.Timedout"  # as Lambda has named it itself since 2025
    return ErrorDetail(
        type=error_type or reply.function_error or "Unhandled",
        message=message,
        stack_trace=_stack_trace(members),
        handled=reply.function_error or None,
        cause=members.get("cause", members.get("causes")),
    )


def _stack_trace(members: Mapping[str, Any]) -> list[str] | None:
    # Python, Java, .NET and Ruby say stackTrace (.NET's innermost exception apart, as cause), Node
    # says trace or, when the handler failed in the runtime itself, stack.
    for name in ("stackTrace", "trace", "stack"):
        trace = members.get(name)
        if isinstance(trace, list):
            return [line if isinstance(line, str) else _text(line) for line in trace]
        if isinstance(trace, str) and trace:
            return trace.splitlines()
    return None


def _unexpected(reply: Reply, template: InvokeTemplate, code: str) -> ErrorDetail:
    return ErrorDetail(
        type=code or "UnexpectedReply",
        message=(
            f"HTTP status {reply.status} is not an answer to a {template.invocation_type} call: "
            f"the function may have run{_excerpt(reply.body)}"
        ),
    )


def _object(body: bytes) -> dict[str, Any]:
    try:
        value = decode_reply(body)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def _message(members: Mapping[str, Any]) -> str:
    for name in ("message", "Message", "errorMessage"):
        if text := _text(members.get(name)):
            return text
    return ""


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):
        return repr(value)


def _excerpt(body: bytes) -> str:
    """The start of a body that is no error object, on one line."""
    text = " ".join(body[:300].decode("utf-8", "replace").split())
    return f": {_clip(text)}" if text else ""


def _clip(text: str) -> str:
    return text if len(text) <= _MAX_MESSAGE_CHARS else f"{text[:_MAX_MESSAGE_CHARS]}…"


def _seconds(retry_after: str | None) -> float | None:
    """A number of seconds, at most a day; None for a date (Lambda sends none) and for nonsense."""
    try:
        seconds = float(retry_after) if retry_after else math.nan
    except ValueError:
        return None
    return min(seconds, _LONGEST_RETRY_AFTER_S) if math.isfinite(seconds) and seconds >= 0 else None
