"""Function errors in Lambda's words, made from a process's exit or an error object."""

from __future__ import annotations

import os
import signal
from typing import Any

import msgspec

from fanout.emulator.call import Result
from fanout.emulator.payloads import decode


def died(error_type: str, message: str) -> Result:
    """Make the result of a call whose environment is gone."""
    body = msgspec.json.encode({"errorType": error_type, "errorMessage": message})
    return Result(body, error_type=error_type, is_environment_lost=True)


def describe_exit(status: int) -> str:
    """Put a wait status into the words recorded from Lambda."""
    if os.WIFSIGNALED(status):
        name = signal.strsignal(os.WTERMSIG(status)) or str(os.WTERMSIG(status))
        return f"Runtime exited with error: signal: {name.lower()}"
    code = os.waitstatus_to_exitcode(status)
    return (
        f"Runtime exited with error: exit status {code}"
        if code
        else "Runtime exited without providing a reason"
    )


def error_object(body: bytes) -> dict[str, Any] | None:
    """Read an error object; None if it is none."""
    try:
        error = decode(body)
    except ValueError:
        return None
    return error if isinstance(error, dict) else None


def error_type_of(body: bytes) -> str:
    """Read the type out of an error object; `Unhandled` if it has none."""
    return encodable((error_object(body) or {}).get("errorType") or "Unhandled")


def error_message_of(body: bytes) -> str:
    """Read the message out of an error object; the whole body if it has none."""
    error = error_object(body)
    if error is not None and "errorMessage" in error:
        return encodable(error["errorMessage"])
    return body.decode("utf-8", "replace")


def encodable(value: object) -> str:
    """Its text, with question marks for halves of a character, which no UTF-8 holds."""
    return str(value).encode("utf-8", "replace").decode()
