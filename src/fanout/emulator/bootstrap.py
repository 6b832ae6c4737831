"""How our Python environment runs a handler: a client of Lambda's Runtime API, standard library only.

It runs inside an environment's process, never inside the emulator. Messages, error shapes and log
lines follow AWS's own Python runtime: code that works here meets the same words on Lambda.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import socket
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

_API = "/2018-06-01/runtime"
_LOG_FORMAT = "[%(levelname)s]\t%(asctime)s.%(msecs)03dZ\t%(aws_request_id)s\t%(message)s"


class _Fault(Exception):
    """The handler cannot be loaded."""

    def __init__(self, error_type: str, message: str, trace: list[str] | None = None) -> None:
        super().__init__(message)
        self.error_type = error_type
        self.trace = trace or []


class RuntimeClient:
    """One keep-alive connection to the Runtime API."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._address = address
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def request(
        self, method: str, path: str, body: bytes = b"", headers: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request and read its reply; EOFError when the emulator is gone."""
        head = f"{method} {_API}{path} HTTP/1.1\r\nHost: {self._address}\r\n{headers}"
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return self._read()

    def stream(self, path: str, chunks: Iterator[bytes]) -> None:
        """Post a response piece by piece; an exception midway goes into the trailers."""
        head = (
            f"POST {_API}{path} HTTP/1.1\r\nHost: {self._address}\r\nTransfer-Encoding: chunked\r\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Type: application/octet-stream\r\n"
            "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        trailers = b""
        try:
            for chunk in chunks:
                if chunk:
                    self._socket.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        except Exception as error:  # noqa: BLE001 - whatever the handler raises is its error
            import base64

            detail = base64.b64encode(_to_json(describe(error, "")))
            trailers = (
                b"Lambda-Runtime-Function-Error-Type: %b\r\nLambda-Runtime-Function-Error-Body: %b\r\n"
                % (type(error).__name__.encode(), detail)
            )
        self._socket.sendall(b"0\r\n" + trailers + b"\r\n")
        self._read()

    def _read(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        pieces, have = [rest], len(rest)
        while have < length:
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise EOFError
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        self._buffer = whole[length:]
        return int(status_line.split(" ", 2)[1]), headers, whole[:length]

    def _receive(self) -> None:
        piece = self._socket.recv(65_536)
        if not piece:
            raise EOFError
        self._buffer += piece


class _Bag:
    """An object made of a dict, as the context's identity and client are."""

    def __init__(self, **members: Any) -> None:
        self.__dict__.update(members)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.__dict__!r})"


class LambdaContext:
    """The second argument of a handler, with the members that AWS's runtime gives it."""

    def __init__(self, headers: dict[str, str]) -> None:
        environ = os.environ
        self.aws_request_id = headers["lambda-runtime-aws-request-id"]
        self.invoked_function_arn = headers.get("lambda-runtime-invoked-function-arn", "")
        self.tenant_id = headers.get("lambda-runtime-aws-tenant-id")
        self.function_name = environ.get("AWS_LAMBDA_FUNCTION_NAME")
        self.function_version = environ.get("AWS_LAMBDA_FUNCTION_VERSION")
        self.memory_limit_in_mb = environ.get("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")
        self.log_group_name = environ.get("AWS_LAMBDA_LOG_GROUP_NAME")
        self.log_stream_name = environ.get("AWS_LAMBDA_LOG_STREAM_NAME")
        self._deadline_ms = int(headers.get("lambda-runtime-deadline-ms", "0"))
        self.client_context = self._client(headers.get("lambda-runtime-client-context"))
        identity = json.loads(headers.get("lambda-runtime-cognito-identity") or "{}") or {}
        self.identity = _Bag(
            cognito_identity_id=identity.get("cognitoIdentityId"),
            cognito_identity_pool_id=identity.get("cognitoIdentityPoolId"),
        )

    def get_remaining_time_in_millis(self) -> int:
        """Say how long the handler may still run, in milliseconds; never below 0."""
        return max(0, self._deadline_ms - int(time.time() * 1000))

    def log(self, message: object) -> None:
        """Write to the log as it is."""
        sys.stdout.write(str(message))

    @staticmethod
    def _client(text: str | None) -> _Bag | None:
        if not text:
            return None
        given = json.loads(text)
        client = given.get("client") or {}
        names = ("installation_id", "app_title", "app_version_name", "app_version_code", "app_package_name")
        return _Bag(
            custom=given.get("custom"),
            env=given.get("env"),
            client=_Bag(**{name: client.get(name) for name in names}) if client else None,
        )


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


def describe(error: BaseException, request_id: str) -> dict[str, Any]:
    """Make the error object of a handler's exception, without the frames of this file."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename != __file__]
    frames = [frame for frame in frames if not frame.filename.startswith("<frozen importlib")]
    return {
        "errorMessage": str(error),
        "errorType": type(error).__name__,
        "requestId": request_id,
        "stackTrace": traceback.format_list(frames),
    }


def _to_json(value: Any) -> bytes:
    from decimal import Decimal

    def default(other: Any) -> float:
        if isinstance(other, Decimal):
            return float(other)
        raise TypeError(f"Object of type {type(other).__name__} is not JSON serializable")

    return json.dumps(value, ensure_ascii=False, default=default).encode("utf-8", "surrogatepass")


def _log_error(error: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = json.dumps({"timestamp": stamp, "level": "ERROR", **error})
    else:
        title = f"[ERROR] {error['errorType']}: {error['errorMessage']}"
        line = "\n".join([title, "Traceback (most recent call last):", *error["stackTrace"]])
    sys.stdout.write(line.rstrip("\n") + "\n")


class _RequestId(logging.Filter):
    request_id = ""

    def filter(self, record: logging.LogRecord) -> bool:
        record.aws_request_id = self.request_id
        return True


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "timestamp": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(record.created)),
            "level": record.levelname,
            "message": record.getMessage(),
            "logger": record.name,
            "requestId": getattr(record, "aws_request_id", ""),
        }
        if record.exc_info:
            entry["stackTrace"] = self.formatException(record.exc_info)
        return json.dumps(entry)


def _set_up_logging(*, as_json: bool) -> _RequestId:
    handler = logging.StreamHandler(sys.stdout)
    formatter = _JsonFormatter() if as_json else logging.Formatter(_LOG_FORMAT, "%Y-%m-%dT%H:%M:%S")
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    request_ids = _RequestId()
    handler.addFilter(request_ids)
    logging.getLogger().addHandler(handler)
    level = os.environ.get("AWS_LAMBDA_LOG_LEVEL", "")
    if level in logging.getLevelNamesMapping():
        logging.getLogger().setLevel(level)
    return request_ids


def serve() -> None:
    """Load the handler, then serve calls for ever; leaves by SystemExit."""
    as_json = os.environ.get("AWS_LAMBDA_LOG_FORMAT") == "JSON"
    client = RuntimeClient(os.environ["AWS_LAMBDA_RUNTIME_API"])
    request_ids = _set_up_logging(as_json=as_json)
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
        answer = _to_json_result(result)
    except Exception as error:  # noqa: BLE001 - whatever the handler raises is its error
        described = describe(error, request_id)
        if isinstance(error, _Fault):
            described["errorType"] = error.error_type
        _log_error(described, as_json=as_json)
        kind = f"Lambda-Runtime-Function-Error-Type: {described['errorType']}\r\n"
        client.request("POST", f"/invocation/{request_id}/error", _to_json(described), kind)
        return
    client.request("POST", f"/invocation/{request_id}/response", answer, "Content-Type: application/json\r\n")


def _to_json_result(result: Any) -> bytes:
    try:
        return _to_json(result)
    except (TypeError, ValueError, RecursionError) as error:
        message = f"Unable to marshal response: {error}"
        raise _Fault("Runtime.MarshalError", message) from None


def _as_bytes(chunk: Any) -> bytes:
    if isinstance(chunk, (bytes, bytearray)):
        return bytes(chunk)
    return chunk.encode() if isinstance(chunk, str) else _to_json(chunk)


def _fail_init(client: RuntimeClient, error: dict[str, Any], *, as_json: bool) -> None:
    _log_error(error, as_json=as_json)
    kind = f"Lambda-Runtime-Function-Error-Type: {error['errorType']}\r\n"
    client.request("POST", "/init/error", _to_json(error), kind)
    sys.exit(1)
