"""The result of an Event call, as a message of a destination or of a dead-letter queue reports it.

Direct, in an SNS notification, or in an EventBridge event. Source: LAMBDA's guide, "Retaining records of
asynchronous invocations": https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-retain-records.html
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

from fanout.model import ErrorDetail, Status
from fanout.payload import decode_reply
from fanout.queues.message import Message

_json = msgspec.json.Decoder(dict[str, msgspec.Raw])


class CallResult(msgspec.Struct):
    """The result of one Event call. ``output`` and ``input`` are JSON; None where the message had none."""

    request_id: str
    status: Status
    kind: Literal["destination", "dead-letter"]
    output: bytes | None = None
    input: bytes | None = None
    error: ErrorDetail | None = None
    executed_version: str | None = None
    tries: int | None = None
    function_arn: str | None = None


def read_result(message: Message) -> CallResult | None:
    """The result that a message carries; None when it is something else's message."""
    return _result(message.body, _attributes(message.message_attributes), depth=0)


def _result(body: str | bytes, attributes: dict[str, str], *, depth: int) -> CallResult | None:
    if "RequestID" in attributes and "ErrorCode" in attributes:
        return _dead_letter(body, attributes)
    try:
        members = _json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        return None
    if "requestContext" in members:
        return _destination_record(members)
    if depth:
        return None
    if "detail" in members and "detail-type" in members:
        return _result(bytes(members["detail"]), {}, depth=1)
    text = _text(members.get("Message"))
    if text is not None and "TopicArn" in members:
        return _result(text, _attributes(_value(members.get("MessageAttributes"))), depth=1)
    return None


def _destination_record(members: dict[str, msgspec.Raw]) -> CallResult | None:
    context = _value(members.get("requestContext"))
    if not isinstance(context, dict):
        return None
    request_id, condition = context.get("requestId"), context.get("condition")
    if not isinstance(request_id, str) or not isinstance(condition, str):
        return None
    response = _value(members.get("responseContext"))
    response = response if isinstance(response, dict) else {}
    payload = members.get("responsePayload")
    arn, tries = context.get("functionArn"), context.get("approximateInvokeCount")
    version = response.get("executedVersion")
    result = CallResult(
        request_id,
        "succeeded",
        "destination",
        input=None if (sent := members.get("requestPayload")) is None else bytes(sent),
        executed_version=version if isinstance(version, str) else None,
        tries=tries if isinstance(tries, int) else None,
        function_arn=arn if isinstance(arn, str) else None,
    )
    if condition == "Success":
        result.output = None if payload is None else bytes(payload)
        return result
    if condition == "RetriesExhausted" or response.get("functionError"):
        result.status = "function_error"
        result.error = _error(None if payload is None else _value(payload), condition)
        handled = response.get("functionError")
        result.error.handled = handled if isinstance(handled, str) else None
    else:
        result.status = "undelivered"
        result.error = ErrorDetail(condition, f"Lambda gave the event up: {condition}")
    return result


def _dead_letter(body: str | bytes, attributes: dict[str, str]) -> CallResult:
    code, message = attributes["ErrorCode"], attributes.get("ErrorMessage", "")
    result = CallResult(
        attributes["RequestID"],
        "function_error",
        "dead-letter",
        input=body.encode() if isinstance(body, str) else body,
        error=ErrorDetail("DeadLetter", message),
    )
    if code != "200":  # Lambda's own refusals: the function did not run
        result.status = "undelivered"
        result.error = ErrorDetail(f"DeadLetter{code}", message)
    return result


def _error(payload: Any, condition: str) -> ErrorDetail:
    if not isinstance(payload, dict):
        text = "" if payload is None else msgspec.json.encode(payload).decode()[:1024]
        return ErrorDetail(condition, text)
    kind, message = payload.get("errorType"), payload.get("errorMessage")
    trace = payload.get("stackTrace", payload.get("trace"))
    return ErrorDetail(
        kind if isinstance(kind, str) and kind else condition,
        message if isinstance(message, str) else "",
        stack_trace=[str(line) for line in trace] if isinstance(trace, list) else None,
        cause=payload.get("cause"),
    )


def _attributes(members: Any) -> dict[str, str]:
    """Attributes of a message (``StringValue``) or of an SNS notification (``Value``), as text."""
    found = {}
    for name, each in members.items() if isinstance(members, dict) else ():
        value = each.get("StringValue", each.get("Value")) if isinstance(each, dict) else None
        if isinstance(value, str):
            found[name] = value
    return found


def _value(raw: msgspec.Raw | None) -> Any:
    if raw is None:
        return None
    try:
        return decode_reply(bytes(raw))
    except (ValueError, RecursionError):
        return None


def _text(raw: msgspec.Raw | None) -> str | None:
    value = _value(raw)
    return value if isinstance(value, str) else None
