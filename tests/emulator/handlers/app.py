"""A handler that does what its event asks for."""

import logging
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

COLD = {"calls": 0}


def handler(event: Any, context: Any) -> Any:
    COLD["calls"] += 1
    action = event.get("do") if isinstance(event, dict) else None
    if action == "raise":
        raise ValueError("bad total")
    if action == "exit":
        sys.exit(event["status"])
    if action == "kill":
        os.kill(os.getpid(), event["signal"])
    if action == "sleep":
        time.sleep(event["s"])
    if action == "spin":
        subprocess.Popen(["sleep", "300"])
        while True:
            pass
    if action == "print":
        print(event["text"])
        print("to stderr", file=sys.stderr)
        logging.getLogger("orders").warning("a warning")
    if action == "big":
        return "x" * event["bytes"]
    if action == "set":
        return {1, 2}
    if action == "nothing":
        return None
    if action == "stream":
        return iter(event["chunks"])
    if action == "fail midway":
        return _fail_midway()
    if action in ("context", "meddle"):
        return _describe(context) if action == "context" else list(map(_ask_runtime_api, event["requests"]))
    return {"event": event, "calls": COLD["calls"], "pid": os.getpid()}


def _fail_midway() -> Iterator[str]:
    yield "first"
    raise RuntimeError("lost the thread")


def _ask_runtime_api(request: str) -> str:
    host, _, port = os.environ["AWS_LAMBDA_RUNTIME_API"].partition(":")
    with socket.create_connection((host, int(port)), timeout=5) as connection:
        connection.sendall(request.encode())
        return connection.recv(4_096).decode()


def _describe(context: Any) -> dict[str, Any]:
    client = context.client_context
    return {
        "request_id": context.aws_request_id,
        "function_name": context.function_name,
        "function_version": context.function_version,
        "arn": context.invoked_function_arn,
        "memory": context.memory_limit_in_mb,
        "log_group": context.log_group_name,
        "remaining_ms": context.get_remaining_time_in_millis(),
        "tenant": getattr(context, "tenant_id", None),
        "custom": client.custom if client else None,
        "app_title": client.client.app_title if client and client.client else None,
        "task_root": os.environ["LAMBDA_TASK_ROOT"],
        "cwd": os.path.realpath("."),
        "region": os.environ["AWS_REGION"],
        "handler": os.environ["_HANDLER"],
        "trace": os.environ.get("_X_AMZN_TRACE_ID", ""),
        "version": os.environ["AWS_LAMBDA_FUNCTION_VERSION"],
    }
