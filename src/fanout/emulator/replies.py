"""Refusals of the API on the wire: status, error type, body members."""

from __future__ import annotations

from typing import Any

import msgspec

from fanout.emulator.model import Reason

Headers = list[tuple[bytes, bytes]]


class Refusal(Exception):
    """An answer that is not the function's: one of the API's errors."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        kind: str = "User",
        reason: str = "",
        member: str = "message",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        body: dict[str, Any] = {"Reason": reason} if reason else {}
        if kind:
            body["Type"] = kind
        body[member] = message
        self.body = msgspec.json.encode(body) if code else b""


def throttled(reason: Reason) -> Refusal:
    """Refuse a call for now, in the shape recorded from Lambda."""
    return Refusal(429, "TooManyRequestsException", "Rate Exceeded.", reason=reason.value)


def not_found(arn: str) -> Refusal:
    """Say that there is no such function, version or alias."""
    return Refusal(404, "ResourceNotFoundException", f"Function not found: {arn}", member="Message")


def invalid(message: str) -> Refusal:
    """Say that a parameter breaks a rule."""
    return Refusal(400, "InvalidParameterValueException", message)


def denied(operation: str) -> Refusal:
    """Refuse as IAM does."""
    message = (
        f"User: arn:aws:iam::123456789012:user/emulated is not authorized to perform: lambda:{operation} "
        "because no identity-based policy allows the action"
    )
    return Refusal(403, "AccessDeniedException", message, kind="", member="Message")


_STATUS_CODES = {
    400: "InvalidParameterValueException",
    402: "ServiceQuotaExceededException",
    403: "AccessDeniedException",
    404: "ResourceNotFoundException",
    408: "SnapStartTimeoutException",
    409: "ResourceConflictException",
    413: "RequestTooLargeException",
    415: "UnsupportedMediaTypeException",
    500: "ServiceException",
    502: "EC2UnexpectedException",
}


def simulated_status(status: int) -> Refusal:
    """Make the answer of a simulated HTTP fault; 503 and above come bare, as from a load balancer."""
    if status == 429:
        return throttled(Reason.CALLER_RATE)
    code = _STATUS_CODES.get(status, "")
    return Refusal(
        status, code, "simulated fault", kind="User" if status < 500 else "Service", member="Message"
    )
