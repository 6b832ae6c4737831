"""Runtime client for Python: loads the handler, then serves calls.

Messages, error shapes and log lines follow AWS's own Python runtime: code that works here meets the
same words on Lambda.
"""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

from .context import LambdaContext
from .errors import describe, to_json
from .log import log_error, set_up_logging
from .runtime_client import RuntimeClient


class _Fault(Exception):
    """The handler cannot be loaded."""

    def __init__(self, error_type: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.trace = trace or []


def load(handler: str, root: str) -> Callable[[Any, Any], Any]:
    """Import ``module.function`` from the task root; ``_Fault`` with Lambda's words if it cannot be."""
    module_name, dot, function_name = handler.rpartition(".")
    if not dot:
        raise _Fault("Runtime.MalformedHandlerName", f"Bad handler '{handler}': not enough values to unpack")
    try:
        module = _import(module_name, root)
    except ImportError as error:
        raise _Fault(
            "Runtime.ImportModuleError", f"Unable to import module '{module_name}': {error}"
        ) from error
    except SyntaxError as error:
        trace = [f'  File "{error.filename}" Line {error.lineno}\n    {error.text}']
        message = f"Syntax error in module '{module_name}': {error}"
        raise _Fault("Runtime.UserCodeSyntaxError", message, trace) from error
    function = getattr(module, function_name, None)
    if not callable(function):
        raise _Fault(
            "Runtime.HandlerNotFound", f"Handler '{function_name}' missing on module '{module_name}'"
        )
    return function  # type: ignore[no-any-return]


def _import(module_name: str, root: str) -> ModuleType:
    sys.path.insert(0, root)
    path = Path(root, *module_name.split(".")).with_suffix(".py")
    if not path.is_file():
        path = Path(root, f"{module_name}.py")
    # By its file, not by its name: a handler called json.py must not find the standard library's.
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise ModuleNotFoundError(f"No module named '{module_name}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)
    return module


def serve() -> None:
    """Load the handler, then serve calls for ever; leaves by SystemExit."""
    as_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"
    client = RuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"])
    request_ids = set_up_logging(as_json=as_json)
    try:
        handler = load(os.environ["_HANDLER"], os.environ["LAMBDA_TASK_ROOT"])
    except _Fault as fault:
        error: dict[str, Any] = {"errorMessage": str(fault), "errorType": fault.error_type}
        error |= {"requestId": "", "stackTrace": fault.trace}
        _fail_init(client, error, as_json=as_json)
    except Exception as other:  # noqa: BLE001 - a module may raise anything while it is imported
        _fail_init(client, describe(other, ""), as_json=as_json)
    while True:
        try:
            _, headers, body = client.request("GET", "/invocation/next")
        except (EOFError, OSError):
            sys.exit(0)
        request_ids.request_id = headers["lambda-runtime-aws-request-id"]
        os.environ["_X_AMZN_TRACE_ID"] = headers.get("lambda-runtime-trace-id", "")
        _answer(client, handler, headers, body, as_json=as_json)


def _answer(
    client: RuntimeClient,
    handler: Callable[[Any, Any], Any],
    headers: dict[str, str],
    body: bytes,
    *,
    as_json: bool,
) -> None:
    request_id = headers["lambda-runtime-aws-request-id"]
    try:
        result = handler(json.loads(body), LambdaContext(headers))
        if isinstance(result, Iterator):
            client.stream(f"/invocation/{request_id}/response", map(_as_bytes, result))
            return
        answer = _marshal(result)
    except Exception as error:  # noqa: BLE001 - whatever the handler raises is its error
        described = describe(error, request_id)
        if isinstance(error, _Fault):
            described["errorType"] = error.error_type
        log_error(described, as_json=as_json)
        kind = f"Lambda-Runtime-Function-Error-Type: {described['errorType']}\r\n"
        client.request("POST", f"/invocation/{request_id}/error", to_json(described), kind)
        return
    client.request("POST", f"/invocation/{request_id}/response", answer, "Content-Type: application/json\r\n")


def _marshal(result: Any) -> bytes:
    try:
        return to_json(result)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"Unable to marshal response: {error}"
        raise _Fault("Runtime.MarshalError", message) from None


def _as_bytes(chunk: Any) -> bytes:
    if isinstance(chunk, (bytes, bytearray)):
        return bytes(chunk)
    return chunk.encode() if isinstance(chunk, str) else to_json(chunk)


def _fail_init(client: RuntimeClient, error: dict[str, Any], *, as_json: bool) -> None:
    log_error(error, as_json=as_json)
    kind = f"Lambda-Runtime-Function-Error-Type: {error['errorType']}\r\n"
    client.request("POST", "/init/error", to_json(error), kind)
    sys.exit(1)
