"""A valid invocation, and its form on the wire: names, parameters, sizes.

Everything that can be refused before sending is refused here, by the rules of Lambda's service model
and its published quotas. Path, query and headers are encoded exactly as botocore encodes them.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

from fanout.errors import ConfigError
from fanout.function_name import parse_function_name
from fanout.model import ErrorDetail, InvocationType, InvokeTemplate

SYNC_PAYLOAD_BYTES = 6_291_456
EVENT_PAYLOAD_BYTES = 1_048_576
CLIENT_CONTEXT_BYTES = 3_583  # of base64

_QUALIFIER = re.compile(r"\$(?:LATEST(?:\.PUBLISHED)?)|[a-zA-Z0-9_$-]+", re.ASCII)
_TENANT_ID = re.compile(r"[a-zA-Z0-9._:/=+\-@ ]+", re.ASCII)
_DURABLE_NAME = re.compile(r"[a-zA-Z0-9_-]+", re.ASCII)
_URI_SAFE = "-._~"


def build_template(
    *,
    function: str,
    qualifier: str | None = None,
    invocation_type: str = "RequestResponse",
    log_type: str = "None",
    client_context: str | Mapping[str, Any] | None = None,
    tenant_id: str | None = None,
    durable_name: str | None = None,
    stream: bool = False,
) -> InvokeTemplate:
    """Check the parameters of a call and encode them, once for all calls that share them.

    ``client_context`` is a JSON object, as a mapping or as text (or the base64 of such text, as
    boto3 takes it); ``log_type`` "OnError" asks Lambda for "Tail". Defaults are not sent, as
    botocore does not send what it was not given. Raises ConfigError naming the rule that is broken.
    """
    _check_function(function, qualifier)
    if qualifier is not None:
        _check_text("qualifier", qualifier, _QUALIFIER, 128, "a version, an alias or $LATEST")
    if invocation_type not in ("RequestResponse", "Event", "DryRun"):
        raise _refusal("invocation_type", invocation_type, "RequestResponse | Event | DryRun")
    if log_type not in ("None", "Tail", "OnError"):
        raise _refusal("log_type", log_type, "None | Tail | OnError")
    _check_combination(invocation_type, log_type, client_context, durable_name, stream)
    if tenant_id is not None:
        _check_text("tenant_id", tenant_id, _TENANT_ID, 256, "letters, digits, spaces and . _ : / = + - @")
    if durable_name is not None:
        _check_text("durable_name", durable_name, _DURABLE_NAME, 64, "letters, digits, - and _")

    headers: dict[str, str] = {}
    sdk_params: dict[str, Any] = {"FunctionName": function}
    for parameter, header, value in (
        ("ClientContext", "x-amz-client-context", _encode_client_context(client_context)),
        ("DurableExecutionName", "x-amz-durable-execution-name", durable_name),
        (
            "InvocationType",
            "x-amz-invocation-type",
            None if invocation_type == "RequestResponse" else invocation_type,
        ),
        ("LogType", "x-amz-log-type", None if log_type == "None" else "Tail"),
        ("TenantId", "x-amz-tenant-id", tenant_id),
    ):
        if value is not None:
            headers[header] = value
            sdk_params[parameter] = value
    if qualifier is not None:
        sdk_params["Qualifier"] = qualifier
    version, operation = (
        ("2021-11-15", "response-streaming-invocations") if stream else ("2015-03-31", "invocations")
    )
    return InvokeTemplate(
        function=function,
        path=f"/{version}/functions/{quote(function, safe=_URI_SAFE)}/{operation}",
        query="" if qualifier is None else f"Qualifier={quote(qualifier, safe=_URI_SAFE)}",
        headers=tuple(sorted(headers.items())),
        sdk_params=sdk_params,
        invocation_type=cast(InvocationType, invocation_type),
        streaming=stream,
        durable_name=durable_name,
    )


def payload_fault(template: InvokeTemplate, body: bytes) -> ErrorDetail | None:
    """The error with which Lambda would refuse a payload of this size, or None. Does not look inside."""
    size = len(body)
    if size <= EVENT_PAYLOAD_BYTES:
        return None
    is_event = template.invocation_type == "Event"
    limit = EVENT_PAYLOAD_BYTES if is_event else SYNC_PAYLOAD_BYTES
    if size <= limit:
        return None
    kind = "an Event call" if is_event else "a call"
    return ErrorDetail(
        type="PayloadTooLarge",
        message=f"the payload has {size:,} bytes; {kind} may have {limit:,}",
    )


def region_of(function: str) -> str | None:
    """The Region that a full ARN names; None for a name or a partial ARN."""
    match = parse_function_name(function) if function.startswith("arn:") else None
    return match["region"] if match else None


def _check_function(function: object, qualifier: object) -> None:
    match = parse_function_name(function) if isinstance(function, str) else None
    # A path segment of dots alone would be resolved away before the request is sent.
    if match is None or match["name"] in (".", ".."):
        raise _refusal(
            "function", function, "a name, name:qualifier, a partial ARN or an ARN, of at most 256 characters"
        )
    if qualifier is not None and match["qualifier"] is not None:
        raise ConfigError(
            f"qualifier is given twice: {match['qualifier']!r} in function {function!r} and {qualifier!r} "
            "apart; give one"
        )


def _check_combination(
    invocation_type: str,
    log_type: str,
    client_context: object,
    durable_name: str | None,
    stream: bool,
) -> None:
    if invocation_type == "Event":
        if log_type != "None":
            raise ConfigError(f"log_type {log_type!r} needs a synchronous call: an Event call returns no log")
        if client_context is not None:
            raise ConfigError("client_context needs a synchronous call: Lambda drops it from an Event call")
    if durable_name is not None and invocation_type == "DryRun":
        raise ConfigError("durable_name cannot go with invocation_type DryRun: nothing is executed")
    if stream and invocation_type != "RequestResponse":
        raise ConfigError(f"stream needs invocation_type RequestResponse, not {invocation_type}")
    if stream and durable_name is not None:
        raise ConfigError("durable_name cannot go with stream: the streaming API has no such parameter")


def _check_text(name: str, value: object, pattern: re.Pattern[str], length: int, allowed: str) -> None:
    if not isinstance(value, str) or len(value) > length or not pattern.fullmatch(value):
        raise _refusal(name, value, f"{allowed}, 1 to {length} characters")


def _encode_client_context(context: str | Mapping[str, Any] | None) -> str | None:
    if context is None:
        return None
    if isinstance(context, str):
        encoded = _encode_context_text(context)
    else:
        try:
            encoded = _base64(json.dumps(dict(context), separators=(",", ":"), allow_nan=False))
        except (TypeError, ValueError) as error:
            raise ConfigError(f"client_context has no JSON form: {error}") from None
    if len(encoded) > CLIENT_CONTEXT_BYTES:
        raise ConfigError(
            f"client_context has {len(encoded):,} bytes of base64; Lambda takes {CLIENT_CONTEXT_BYTES:,}"
        )
    return encoded


def _encode_context_text(text: str) -> str:
    if _is_json_object(text):
        return _base64(text)
    # No JSON object is base64 too, so text that boto3 would take can be told apart.
    try:
        decoded = base64.b64decode(text, validate=True).decode()
    except (binascii.Error, ValueError):
        decoded = ""
    if _is_json_object(decoded):
        return text
    raise _refusal("client_context", text, "a JSON object")


def _is_json_object(text: str) -> bool:
    try:
        return isinstance(json.loads(text), dict)
    except (ValueError, RecursionError):
        return False


def _base64(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogatepass")).decode()


def _refusal(name: str, value: object, allowed: str) -> ConfigError:
    shown = repr(value)
    shown = shown if len(shown) <= 200 else f"{shown[:200]}…"
    return ConfigError(f"{name} is {shown}: give {allowed}")
