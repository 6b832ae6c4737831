"""Clients and runtimes that other people wrote: the AWS CLI, AWS's runtime client for Python, Node."""

from __future__ import annotations

import base64
import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess
from tests.emulator.conftest import APP, HANDLERS, call, lambda_client

AWS = shutil.which("aws")
NODE = shutil.which("node")


def aws(emulator: EmulatorProcess, *arguments: str) -> subprocess.CompletedProcess[str]:
    environ = {**os.environ, "AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_PAGER": ""}
    environ |= {"AWS_DEFAULT_REGION": "us-east-1", "AWS_MAX_ATTEMPTS": "1"}
    command = [AWS or "", "lambda", *arguments, "--endpoint-url", emulator.endpoint_url, "--output", "json"]
    return subprocess.run(command, capture_output=True, text=True, env=environ, check=False, timeout=60)


@pytest.mark.slow
@pytest.mark.skipif(AWS is None, reason="the AWS CLI is not installed")
def test_the_aws_cli(emulator: EmulatorProcess, tmp_path: Path) -> None:
    """`aws lambda invoke`, get-function and an error, unchanged but for --endpoint-url."""
    out = tmp_path / "out.json"
    event = tmp_path / "event.json"
    event.write_text('{"n":1}')
    run = aws(
        emulator,
        "invoke",
        "--function-name",
        "app",
        "--payload",
        f"fileb://{event}",
        "--log-type",
        "Tail",
        str(out),
    )
    assert run.returncode == 0, run.stderr
    reply = json.loads(run.stdout)
    assert (reply["StatusCode"], reply["ExecutedVersion"]) == (200, "$LATEST")
    assert b"REPORT RequestId" in base64.b64decode(reply["LogResult"])
    assert json.loads(out.read_text())["event"] == {"n": 1}
    listed = aws(emulator, "list-functions", "--query", "Functions[].FunctionName")
    assert json.loads(listed.stdout) == ["app"]
    missing = aws(emulator, "invoke", "--function-name", "nope", str(out))
    assert missing.returncode != 0
    assert "ResourceNotFoundException" in missing.stderr


def test_awslambdaric() -> None:
    """AWS's own runtime client for Python runs in an environment: answers, errors, exits, context."""
    pytest.importorskip("awslambdaric")
    bootstrap = f"{shlex.quote(sys.executable)} -m awslambdaric app.handler"
    with EmulatorProcess(handler=APP, timeout_s=5, extra=["--bootstrap", bootstrap]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        assert call(client, "app", {"n": "ü"})[1]["event"] == {"n": "ü"}
        reply, error = call(client, "app", {"do": "raise"}, LogType="Tail")
        assert reply["FunctionError"] == "Unhandled"
        assert (error["errorType"], error["errorMessage"]) == ("ValueError", "bad total")
        assert "bad total" in base64.b64decode(reply["LogResult"]).decode()
        assert call(client, "app", {"do": "exit", "status": 1})[1]["errorType"] == "Runtime.ExitError"
        context = base64.b64encode(b'{"custom":{"a":1}}').decode()
        seen = call(client, "app", {"do": "context"}, ClientContext=context)[1]
        assert seen["custom"] == {"a": 1}
        assert seen["function_name"] == "app"
        assert (
            call(client, "app", {"do": "big", "bytes": 7_000_000})[1]["errorType"]
            == "Function.ResponseSizeTooLarge"
        )
        assert call(client, "app", {"n": 2})[1]["event"] == {"n": 2}


def test_awslambdaric_and_our_bootstrap_agree() -> None:
    """The error objects and log lines of the built-in runtime client are those of AWS's."""
    pytest.importorskip("awslambdaric")
    answers: list[dict[str, Any]] = []
    for extra in ([], ["--bootstrap", f"{shlex.quote(sys.executable)} -m awslambdaric $_HANDLER"]):
        with EmulatorProcess(handler=APP, extra=extra) as emulator:
            client = lambda_client(emulator.endpoint_url)
            seen: dict[str, Any] = {}
            for event in ({"do": "raise"}, {"do": "set"}, {"do": "nothing"}, {"n": 1.5}):
                error = call(client, "app", event)[1]
                if isinstance(error, dict):
                    error = {**error, "requestId": "", "pid": 0, "calls": 0}
                seen[json.dumps(event)] = error
            answers.append(seen)
    assert answers[0]['{"do": "raise"}'] == answers[1]['{"do": "raise"}']
    assert answers[0]['{"n": 1.5}'] == answers[1]['{"n": 1.5}']
    assert answers[0]['{"do": "nothing"}'] is answers[1]['{"do": "nothing"}'] is None
    ours, theirs = (answer['{"do": "set"}'] for answer in answers)
    assert ours["errorType"] == theirs["errorType"]
    assert ours["errorMessage"] == theirs["errorMessage"]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_a_custom_runtime_in_node() -> None:
    """A runtime of forty lines of JavaScript answers, fails and streams."""
    extra = ["--bootstrap", f"{NODE} bootstrap.js"]
    with EmulatorProcess(handler=f"{HANDLERS / 'bootstrap.js'}:handler", name="js", extra=extra) as emulator:
        client = lambda_client(emulator.endpoint_url)
        reply, answer = call(client, "js", {"n": 3}, LogType="Tail")
        assert answer == {"node": "bootstrap.handler", "n": 3}
        assert "node sees 3" in base64.b64decode(reply["LogResult"]).decode()
        reply, error = call(client, "js", {"fail": "no"})
        assert reply["FunctionError"] == "Unhandled"
        assert error["trace"] == ["Error: no"]
        streamed = client.invoke_with_response_stream(FunctionName="js", Payload=b'{"stream":["a","b","c"]}')
        events = list(streamed["EventStream"])
        assert [event["PayloadChunk"]["Payload"] for event in events[:-1]] == [b"a", b"b", b"c"]
        assert "InvokeComplete" in events[-1]
