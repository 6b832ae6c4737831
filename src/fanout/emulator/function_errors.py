"""Function errors in Lambda's words, made from a process's exit or an error object."""

from __future__ import annotations

import contextlib
import os
import signal

import msgspec

from fanout.emulator.call import Result


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


def error_type_of(body: bytes) -> str:
    """Read the type out of an error object; `Unhandled` if it has none."""
    with contextlib.suppress(msgspec.DecodeError):
        error = msgspec.json.decode(body)
        if isinstance(error, dict) and error.get("errorType"):
            return str(error["errorType"])
    return "Unhandled"


def error_message_of(body: bytes) -> str:
    """Read the message out of an error object; the whole body if it has none."""
    with contextlib.suppress(msgspec.DecodeError):
        error = msgspec.json.decode(body)
        if isinstance(error, dict) and "errorMessage" in error:
            return str(error["errorMessage"])
    return body.decode("utf-8", "replace")
