"""Real handlers in real processes, seen by boto3."""

from __future__ import annotations

import base64
import json
import re
import signal
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess
from fanout.errors import EmulatorError
from tests.cli.running import wait_until
from tests.emulator.conftest import APP, HANDLERS, call, lambda_client


def log_of(reply: Any) -> str:
    return base64.b64decode(reply["LogResult"]).decode()


def test_a_call_is_answered(client: Any) -> None:
    """The handler's answer comes back as JSON, with version and request id."""
    reply, answer = call(client, "app", {"n": [1, "ü", None]})
    assert answer["event"] == {"n": [1, "ü", None]}
    assert reply["StatusCode"] == 200
    assert reply["ExecutedVersion"] == "$LATEST"
    assert "FunctionError" not in reply
    assert re.fullmatch(r"[0-9a-f-]{36}", reply["ResponseMetadata"]["RequestId"])


def test_no_payload_is_an_empty_event(client: Any) -> None:
    """An invocation without a body hands the function ``{}``."""
    reply = client.invoke(FunctionName="app")
    assert json.loads(reply["Payload"].read())["event"] == {}


def test_half_of_a_character_is_answered_as_its_escape(client: Any) -> None:
    """The bytes are UTF-8, whatever a string holds."""
    reply = client.invoke(FunctionName="app", Payload=rb'"\ud83d"')
    assert json.loads(reply["Payload"].read().decode())["event"] == "\ud83d"


def test_an_environment_is_used_again(client: Any) -> None:
    """Two calls one after the other meet the same process, and its globals."""
    first, second = call(client, "app", 1)[1], call(client, "app", 2)[1]
    assert first["pid"] == second["pid"]
    assert second["calls"] == first["calls"] + 1


MEETING = """
import os, pathlib, time

HERE = pathlib.Path(__file__).parent / "met"


def h(event, context):
    (HERE / str(os.getpid())).touch()
    while len(list(HERE.iterdir())) < event:
        time.sleep(0.01)
    return os.getpid()
"""


def test_environments_serve_one_call_at_a_time(tmp_path: Path) -> None:
    """Calls at the same time meet processes of their own: each waits here for the others."""
    (tmp_path / "met").mkdir()
    (tmp_path / "m.py").write_text(MEETING)
    with (
        EmulatorProcess(handler=f"{tmp_path}/m.py:h", timeout_s=100) as emulator,
        ThreadPoolExecutor(5) as pool,
    ):
        client = lambda_client(emulator.endpoint_url)
        assert len({answer for _, answer in pool.map(lambda _: call(client, "m", 5), range(5))}) == 5
        assert emulator.stats()["functions"]["m"]["max_in_flight"] == 5


def test_an_exception_has_lambdas_python_shape(client: Any) -> None:
    """Message, type, request id and a stack trace that begins in the handler's file."""
    reply, error = call(client, "app", {"do": "raise"})
    assert reply["StatusCode"] == 200
    assert reply["FunctionError"] == "Unhandled"
    assert error["errorMessage"] == "bad total"
    assert error["errorType"] == "ValueError"
    assert error["requestId"] == reply["ResponseMetadata"]["RequestId"]
    assert error["stackTrace"][0].startswith(f'  File "{HANDLERS / "app.py"}", line ')


def test_an_answer_that_is_no_json_is_a_marshal_error(client: Any) -> None:
    """A set cannot be an answer."""
    reply, error = call(client, "app", {"do": "set"})
    assert reply["FunctionError"] == "Unhandled"
    assert error["errorType"] == "Runtime.MarshalError"
    assert error["errorMessage"].startswith("Unable to marshal response: Object of type set")


def test_a_function_that_returns_nothing_answers_null(client: Any) -> None:
    """None is ``null``."""
    assert client.invoke(FunctionName="app", Payload=b'{"do":"nothing"}')["Payload"].read() == b"null"


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ({"do": "exit", "status": 1}, "Runtime exited with error: exit status 1"),
        ({"do": "exit", "status": 0}, "Runtime exited without providing a reason"),
        ({"do": "kill", "signal": signal.SIGKILL}, "Runtime exited with error: signal: killed"),
        ({"do": "kill", "signal": signal.SIGSEGV}, "Runtime exited with error: signal: segmentation fault"),
    ],
)
def test_a_process_that_ends_is_noticed(client: Any, event: dict[str, Any], words: str) -> None:
    """The call ends with Runtime.ExitError in the recorded words, and the next one starts cold."""
    reply, error = call(client, "app", event, LogType="Tail")
    request_id = reply["ResponseMetadata"]["RequestId"]
    assert reply["FunctionError"] == "Unhandled"
    assert error == {
        "errorType": "Runtime.ExitError",
        "errorMessage": f"RequestId: {request_id} Error: {words}",
    }
    assert "Status: error\tError Type: Runtime.ExitError" in log_of(reply)


def test_a_timeout_kills_the_process_and_its_children() -> None:
    """The call ends at the timeout in the recorded words; the next one is a cold start that works."""
    with EmulatorProcess(handler=APP, timeout_s=1, concurrency=1) as emulator:
        client = lambda_client(emulator.endpoint_url)
        before = call(client, "app", {})[1]
        reply, error = call(client, "app", {"do": "spin"}, LogType="Tail")  # which would never end
        request_id = reply["ResponseMetadata"]["RequestId"]
        assert error == {
            "errorType": "Sandbox.Timedout",
            "errorMessage": f"RequestId: {request_id} Error: Task timed out after 1.00 seconds",
        }
        assert "Duration: 1000.00 ms\tBilled Duration: 1000 ms" in log_of(reply)
        assert "Status: timeout" in log_of(reply)
        after_reply, after = call(client, "app", {}, LogType="Tail")
        assert after["pid"] != before["pid"]
        assert "Init Duration" in log_of(after_reply)
        wait_until(lambda: not Path(f"/proc/{before['pid']}").exists())
        wait_until(lambda: children_of_group(before["pid"]) == [])


def children_of_group(group: int) -> list[int]:
    """List living processes of a process group."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, pgrp = stat.read_text().rpartition(")")[2].split()[:3]
        except OSError:
            continue
        if int(pgrp) == group and state != "Z":
            found.append(int(stat.parent.name))
    return found


def test_a_response_over_six_megabytes_is_a_function_error(client: Any) -> None:
    """One byte over the limit is refused, the limit itself is not."""
    reply, error = call(client, "app", {"do": "big", "bytes": 6_291_556 - 1})
    assert reply["FunctionError"] == "Unhandled"
    assert error == {
        "errorType": "Function.ResponseSizeTooLarge",
        "errorMessage": "Response payload size exceeded maximum allowed payload size (6291556 bytes).",
    }
    reply, answer = call(client, "app", {"do": "big", "bytes": 6_291_556 - 2})
    assert "FunctionError" not in reply
    assert len(answer) == 6_291_554


def test_the_context_is_that_of_lambda(client: Any) -> None:
    """Names, sizes, time left, client context and variables are there."""
    context = base64.b64encode(
        json.dumps({"custom": {"a": "ü"}, "client": {"app_title": "t"}}).encode()
    ).decode()
    reply, seen = call(client, "app", {"do": "context"}, ClientContext=context, TenantId="blue")
    assert seen["request_id"] == reply["ResponseMetadata"]["RequestId"]
    assert (seen["function_name"], seen["function_version"], seen["version"]) == ("app", "$LATEST", "$LATEST")
    assert seen["arn"] == "arn:aws:lambda:us-east-1:123456789012:function:app"
    assert 4_000 < seen["remaining_ms"] <= 5_000
    assert seen["memory"] == "128"
    assert seen["log_group"] == "/aws/lambda/app"
    assert seen["tenant"] == "blue"
    assert (seen["custom"], seen["app_title"]) == ({"a": "ü"}, "t")
    assert seen["task_root"] == seen["cwd"] == str(HANDLERS)
    assert (seen["region"], seen["handler"]) == ("us-east-1", "app.handler")
    assert seen["trace"].startswith("Root=1-")


def test_the_log_tail_holds_what_the_function_wrote(client: Any) -> None:
    """START, stdout, stderr, logging with the request id, END, REPORT."""
    reply, _ = call(client, "app", {"do": "print", "text": "hello log"}, LogType="Tail")
    request_id = reply["ResponseMetadata"]["RequestId"]
    lines = log_of(reply).splitlines()
    assert lines[0] == f"START RequestId: {request_id} Version: $LATEST"
    assert lines[1:3] == ["hello log", "to stderr"]
    assert re.fullmatch(rf"\[WARNING\]\t\d{{4}}-\d\d-\d\dT[\d:.]+Z\t{request_id}\ta warning", lines[3])
    assert lines[4] == f"END RequestId: {request_id}"
    report = (
        rf"REPORT RequestId: {request_id}\tDuration: [\d.]+ ms\tBilled Duration: \d+ ms\t"
        r"Memory Size: 128 MB\tMax Memory Used: \d+ MB\t"
    )
    assert re.match(report, lines[5])


def test_the_log_tail_is_the_last_four_kilobytes(client: Any) -> None:
    """A chatty function pushes START out of the tail; REPORT stays."""
    reply, _ = call(client, "app", {"do": "print", "text": "x" * 20_000}, LogType="Tail")
    log = log_of(reply)
    assert len(log) == 4_096
    assert "START" not in log
    assert "REPORT RequestId" in log


def test_init_duration_is_told_on_the_first_call_only() -> None:
    """An environment's first REPORT has Init Duration, and bills it; its second has not."""
    with EmulatorProcess(handler=APP, extra=["--no-init-check"]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        first, second = (log_of(call(client, "app", {}, LogType="Tail")[0]) for _ in range(2))
        figures = {name: float(value) for name, value in re.findall(r"([A-Z][A-Za-z ]+): ([\d.]+) ms", first)}
        billed = figures["Duration"] + figures["Init Duration"]
        assert billed <= figures["Billed Duration"] <= billed + 1.1
        assert "Init Duration" not in second


def test_json_logs() -> None:
    """With JSON logs START and REPORT are objects, and so are logging's lines."""
    with EmulatorProcess(handler=APP, extra=["--log-format", "JSON", "--memory", "256"]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        reply, _ = call(client, "app", {"do": "print", "text": "plain"}, LogType="Tail")
        request_id = reply["ResponseMetadata"]["RequestId"]
        start, *middle, report = log_of(reply).splitlines()
        assert json.loads(start)["type"] == "platform.start"
        warning = json.loads(middle[2])
        assert (warning["level"], warning["message"], warning["requestId"]) == (
            "WARNING",
            "a warning",
            request_id,
        )
        record = json.loads(report)["record"]
        assert record["requestId"] == request_id
        assert record["metrics"]["memorySizeMB"] == 256
        assert set(record["metrics"]) >= {
            "durationMs",
            "billedDurationMs",
            "maxMemoryUsedMB",
            "initDurationMs",
        }
        assert client.get_function_configuration(FunctionName="app")["LoggingConfig"]["LogFormat"] == "JSON"


def test_a_handler_named_like_a_standard_module_is_found(tmp_path: Path) -> None:
    """json.py of the user is not the standard library's."""
    (tmp_path / "json.py").write_text("def handler(event, context):\n    return 'not the standard library'\n")
    with EmulatorProcess(handler=f"{tmp_path / 'json.py'}:handler", name="j") as emulator:
        assert call(lambda_client(emulator.endpoint_url), "j", {})[1] == "not the standard library"


@pytest.mark.parametrize(
    ("source", "attribute", "words"),
    [
        ("import nosuchmodule", "h", "No module named 'nosuchmodule'; install"),
        ("def h(: pass", "h", "Syntax error"),
        ("x = 1", "h", "it has no function 'h'"),
        ("raise RuntimeError('db down')", "h", "RuntimeError: db down"),
        ("import sys; print('bye'); sys.exit(3)", "h", "exit status 3 (bye)"),
    ],
)
def test_a_handler_that_does_not_import_is_told_at_the_start(
    tmp_path: Path, source: str, attribute: str, words: str
) -> None:
    """One line with the file, the reason and what to do; no emulator is left behind."""
    file = tmp_path / "broken.py"
    file.write_text(source)
    emulator = EmulatorProcess(handler=f"{file}:{attribute}")
    with pytest.raises(EmulatorError) as caught:
        emulator.start()
    message = str(caught.value)
    assert message.startswith(f"cannot import {file}: ")
    assert words in message
    assert "\n" not in message
    assert "Traceback" not in message


@pytest.mark.parametrize(
    ("source", "error_type", "words"),
    [
        (
            "import nosuchmodule",
            "Runtime.ImportModuleError",
            "Unable to import module 'm': No module named 'nosuchmodule'",
        ),
        ("def h(: pass", "Runtime.UserCodeSyntaxError", "Syntax error in module 'm'"),
        ("x = 1", "Runtime.HandlerNotFound", "Handler 'h' missing on module 'm'"),
        ("raise RuntimeError('db down')", "RuntimeError", "db down"),
    ],
)
def test_without_the_check_an_import_failure_is_the_calls(
    tmp_path: Path, source: str, error_type: str, words: str
) -> None:
    """With --no-init-check every call ends with Lambda's error for it."""
    (tmp_path / "m.py").write_text(source)
    with EmulatorProcess(handler=f"{tmp_path / 'm.py'}:h", extra=["--no-init-check"]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        for _ in range(2):
            reply, error = call(client, "m", {})
            assert reply["FunctionError"] == "Unhandled"
            assert error["errorType"] == error_type
            assert words in error["errorMessage"]


@pytest.mark.parametrize("handler", ["nofile.py:handler", "app.py", "/tmp:handler", "app.py:"])
def test_a_handler_path_that_names_nothing_is_told(handler: str) -> None:
    """A missing file, a directory or a missing function name is one line."""
    with pytest.raises(EmulatorError, match=r"FILE\.py:HANDLER"):
        EmulatorProcess(handler=handler).start()


def test_initialisation_does_not_count_against_the_timeout(tmp_path: Path) -> None:
    """A module that takes longer to import than a call may last is served all the same, as on Lambda."""
    (tmp_path / "m.py").write_text("import time\ntime.sleep(1)\n\n\ndef h(event, context):\n    return 1\n")
    with EmulatorProcess(
        handler=f"{tmp_path / 'm.py'}:h", timeout_s=0.5, extra=["--no-init-check"]
    ) as emulator:
        reply, answer = call(lambda_client(emulator.endpoint_url), "m", {}, LogType="Tail")
        assert (answer, "FunctionError" in reply) == (1, False)
        (init_ms,) = re.findall(r"Init Duration: ([\d.]+) ms", log_of(reply))
        assert float(init_ms) >= 1_000


@pytest.mark.slow
def test_an_initialisation_without_end_is_a_timeout(tmp_path: Path) -> None:
    """After Lambda's 10 seconds it counts; then the call ends as any that takes too long."""
    (tmp_path / "m.py").write_text("import time\ntime.sleep(60)\n")
    with EmulatorProcess(
        handler=f"{tmp_path / 'm.py'}:h", timeout_s=0.5, extra=["--no-init-check"]
    ) as emulator:
        reply, error = call(lambda_client(emulator.endpoint_url), "m", {}, LogType="Tail")
        assert (reply["FunctionError"], error["errorType"]) == ("Unhandled", "Sandbox.Timedout")
        assert "Status: timeout" in log_of(reply)


def test_a_handler_that_meddles_with_the_runtime_api_is_refused(client: Any) -> None:
    """What is no HTTP, no operation, or of another call changes nothing; its own answer counts."""
    start = "POST /2018-06-01/runtime/invocation/another"
    end = " HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}"
    streamed = " HTTP/1.1\r\nLambda-Runtime-Function-Response-Mode: streaming\r\nContent-Length: 2\r\n\r\n{}"
    requests = [
        "no http\r\n\r\n",
        "GET /elsewhere HTTP/1.1\r\n\r\n",
        f"{start}/response{end}",
        f"{start}/error{end}",
        f"{start}/response{streamed}",
    ]
    answers = call(client, "app", {"do": "meddle", "requests": requests})[1]
    assert [answer[9:12] for answer in answers] == ["", "404", "400", "400", "400"]
