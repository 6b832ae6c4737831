"""The Invoke API on the wire: parameters, refusals, limits and faults."""

from __future__ import annotations

import base64
import contextlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from urllib.parse import quote

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError, EndpointConnectionError, HTTPClientError

from fanout.emulator import EmulatorProcess
from tests.cli.running import wait_until
from tests.emulator.conftest import call, lambda_client, raw

PATH = "/2015-03-31/functions/{}/invocations"


@pytest.fixture(scope="module")
def simulated() -> Iterator[EmulatorProcess]:
    """Functions of every kind of trouble."""
    specs = [
        "name=echo,output=echo,versions=2,alias=live:2",
        'name=fixed,output={"ok":true},init=50ms',
        "name=failing,error_rate=1,error_type=KeyError,error_message=no key",
        "name=slow,latency=1h,timeout=100ms",
        "name=lost,lost_rate=1,latency=20ms,runs_on=1h",
        "name=lost-briefly,lost_rate=1,runs_on=50ms",
        "name=reset,reset_rate=1",
        "name=s503,status_503_rate=1",
        "name=s500,status_500_rate=1",
        "name=s429,status_429_rate=1",
        "name=stray,throttle_rate=1,concurrency=5",
        "name=huge,response_size=6291557",
        "name=two,latency=1h,concurrency=2",
    ]
    with EmulatorProcess(simulate=specs, extra=["--count-by", "id"]) as running:
        yield running


@pytest.fixture(scope="module")
def client(simulated: EmulatorProcess) -> Any:
    """A boto3 client of these functions."""
    return lambda_client(simulated.endpoint_url)


def post(
    emulator: EmulatorProcess, name: str, body: bytes, headers: str = "", query: str = ""
) -> tuple[int, str, bytes]:
    head = f"POST {PATH.format(name)}{query} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{headers}"
    answer = raw(emulator.endpoint_url, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
    top, _, rest = answer.partition(b"\r\n\r\n")
    return int(top.split()[1]), top.decode().lower(), rest


def connected(emulator: EmulatorProcess) -> socket.socket:
    host, _, port = emulator.endpoint_url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)))


def in_flight(emulator: EmulatorProcess, name: str) -> int:
    count: int = emulator.stats()["functions"][name]["in_flight"]
    return count


@contextlib.contextmanager
def holding(emulator: EmulatorProcess, *names: str) -> Iterator[None]:
    """Calls of these functions, which are still out within the block if they take long enough."""
    before = emulator.stats()["in_flight"]
    with contextlib.ExitStack() as stack:
        for name in names:
            held = stack.enter_context(connected(emulator))
            held.sendall(f"POST {PATH.format(name)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        wait_until(lambda: emulator.stats()["in_flight"] == before + len(names))
        yield


def refusal(client: Any, **options: Any) -> tuple[int, str, dict[str, Any]]:
    with pytest.raises(ClientError) as caught:
        client.invoke(**options)
    reply = caught.value.response
    return reply["ResponseMetadata"]["HTTPStatusCode"], reply["Error"]["Code"], reply


def test_echo_and_fixed_output(client: Any) -> None:
    """A simulated function answers with its payload, or with what it was told."""
    assert call(client, "echo", {"a": 1})[1] == {"a": 1}
    assert call(client, "fixed", {"a": 1})[1] == {"ok": True}


def test_a_simulated_error_has_lambdas_shape(client: Any) -> None:
    """Header, type, message and request id."""
    reply, error = call(client, "failing", {})
    assert reply["FunctionError"] == "Unhandled"
    assert (error["errorType"], error["errorMessage"]) == ("KeyError", "no key")
    assert error["requestId"] == reply["ResponseMetadata"]["RequestId"]


def test_a_simulated_timeout(client: Any) -> None:
    """Latency beyond the function's timeout ends as Sandbox.Timedout, at the timeout."""
    _, error = call(client, "slow", {})
    assert error["errorType"] == "Sandbox.Timedout"
    assert error["errorMessage"].endswith("Task timed out after 0.10 seconds")


def test_a_simulated_report_line(client: Any) -> None:
    """Tail works without a process; the first call of an environment has Init Duration."""
    logs = [
        base64.b64decode(call(client, "fixed", {}, LogType="Tail")[0]["LogResult"]).decode() for _ in range(2)
    ]
    assert "REPORT RequestId" in logs[0]
    assert "Init Duration" not in logs[1]


@pytest.mark.parametrize(
    ("reference", "options", "version"),
    [
        ("echo", {}, "$LATEST"),
        ("echo:$LATEST", {}, "$LATEST"),
        ("echo:live", {}, "2"),
        ("echo:1", {}, "1"),
        ("echo", {"Qualifier": "live"}, "2"),
        ("echo:live", {"Qualifier": "live"}, "2"),
        ("123456789012:function:echo", {}, "$LATEST"),
        ("123456789012:function:echo:1", {}, "1"),
        ("arn:aws:lambda:us-east-1:123456789012:function:echo", {"Qualifier": "1"}, "1"),
        ("arn:aws:lambda:eu-west-1:210987654321:function:echo:live", {}, "2"),
    ],
)
def test_a_function_has_many_names(
    client: Any, reference: str, options: dict[str, str], version: str
) -> None:
    """Name, alias, version, partial and full ARN, qualifier in name or query."""
    reply, _ = call(client, reference, {}, **options)
    assert reply["ExecutedVersion"] == version


def test_percent_encoded_names(simulated: EmulatorProcess) -> None:
    """name%3Aalias is what most SDKs send."""
    status, head, _ = post(simulated, quote("echo:live", safe=""), b"{}")
    assert status == 200
    assert "x-amz-executed-version: 2" in head


@pytest.mark.parametrize(
    "reference", ["nope", "echo:nope", "echo:3", "arn:aws:lambda:us-east-1:123456789012:function:x"]
)
def test_unknown_functions_and_qualifiers(client: Any, reference: str) -> None:
    """404 ResourceNotFoundException with the ARN that was looked for."""
    status, code, reply = refusal(client, FunctionName=reference)
    assert (status, code) == (404, "ResourceNotFoundException")
    assert reply["Error"]["Message"].startswith("Function not found: arn:aws:lambda:")


def test_two_different_qualifiers(client: Any) -> None:
    """A qualifier in the name and another one in the query is refused."""
    assert refusal(client, FunctionName="echo:live", Qualifier="1")[0] == 400


def test_a_malformed_name(simulated: EmulatorProcess) -> None:
    """What breaks the name's pattern is a 400, not a 404."""
    status, head, _ = post(simulated, "ec%20ho", b"{}")
    assert status == 400
    assert "x-amzn-errortype: validationexception" in head


def test_event_and_dry_run(client: Any, simulated: EmulatorProcess) -> None:
    """202 with an empty body and no executed version; 204 and nothing runs."""
    reply = client.invoke(FunctionName="echo", InvocationType="Event", Payload=b'{"id":"event-1"}')
    assert (reply["StatusCode"], reply["Payload"].read()) == (202, b"")
    assert "ExecutedVersion" not in reply
    before = simulated.stats()["functions"]["echo"]["requests"]
    reply = client.invoke(FunctionName="echo", InvocationType="DryRun", Payload=b"{}")
    assert (reply["StatusCode"], reply["Payload"].read()) == (204, b"")
    assert simulated.stats()["functions"]["echo"]["requests"] == before


@pytest.mark.parametrize(
    "body", [b"{", b"nope", b'{"a":1}x', b"\xff", b'"\xff"', b"{'a':1}", b"NaN", b"[" * 9_000]
)
def test_a_payload_that_is_no_json(client: Any, body: bytes) -> None:
    """400 InvalidRequestContentException in the recorded words; nothing runs."""
    status, code, reply = refusal(client, FunctionName="echo", Payload=body)
    assert (status, code) == (400, "InvalidRequestContentException")
    assert reply["Error"]["Message"].startswith("Could not parse request body into json: ")
    assert reply["Type"] == "User"


@pytest.mark.parametrize("body", [b'"\\ud800"', b"1e999", b'{"a":1,"a":2}', b" null ", '"ü\u2028"'.encode()])
def test_a_payload_that_is_odd_but_json(client: Any, simulated: EmulatorProcess, body: bytes) -> None:
    """It is accepted, passed on byte by byte, and does not trouble the counting."""
    assert client.invoke(FunctionName="echo", Payload=body)["Payload"].read() == body
    assert client.invoke(FunctionName="echo", InvocationType="Event", Payload=body)["StatusCode"] == 202
    assert simulated.stats()["executions"] > 0


def test_payload_limits(client: Any) -> None:
    """6,291,456 bytes for synchronous calls, 1,048,576 for events; one more is 413."""
    for kind, limit in (("RequestResponse", 6_291_456), ("Event", 1_048_576)):
        payload = b'"' + b"x" * (limit - 2) + b'"'
        assert client.invoke(FunctionName="fixed", InvocationType=kind, Payload=payload)["StatusCode"] in (
            200,
            202,
        )
        status, code, reply = refusal(
            client, FunctionName="fixed", InvocationType=kind, Payload=payload + b" "
        )
        assert (status, code) == (413, "RequestTooLargeException")
        assert (
            f"{limit + 1} byte payload is too large for the {kind} invocation type"
            in reply["Error"]["Message"]
        )


def test_a_simulated_response_over_the_limit(client: Any) -> None:
    """The response limit holds for simulated functions as well."""
    assert call(client, "huge", {})[1]["errorType"] == "Function.ResponseSizeTooLarge"


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ("X-Amz-Invocation-Type: Later\r\n", "invalidparametervalueexception"),
        ("X-Amz-Log-Type: Head\r\n", "invalidparametervalueexception"),
        ("X-Amz-Invocation-Type: Event\r\nX-Amz-Log-Type: Tail\r\n", "invalidparametervalueexception"),
        ("X-Amz-Invocation-Type: Event\r\nX-Amz-Client-Context: e30=\r\n", "invalidparametervalueexception"),
        (f"X-Amz-Client-Context: {'x' * 3_584}\r\n", "invalidparametervalueexception"),
        ("X-Amz-Client-Context: !!!\r\n", "invalidrequestcontentexception"),
        (f"X-Amz-Client-Context: {base64.b64encode(b'[1]').decode()}\r\n", "invalidrequestcontentexception"),
        (f"X-Amz-Tenant-Id: {'t' * 257}\r\n", "invalidparametervalueexception"),
        ("X-Amz-Durable-Execution-Name: a b\r\n", "invalidparametervalueexception"),
    ],
)
def test_parameters_that_break_a_rule(simulated: EmulatorProcess, headers: str, code: str) -> None:
    """400, with the error type in the header and a request id."""
    status, head, body = post(simulated, "echo", b"{}", headers)
    assert status == 400
    assert f"x-amzn-errortype: {code}" in head
    assert "x-amzn-requestid: " in head
    assert json.loads(body)["Type"] == "User"


def test_tenants_are_counted(client: Any, simulated: EmulatorProcess) -> None:
    """A tenant id is accepted and counted; a name makes no function durable."""
    for _ in range(2):
        reply, _ = call(client, "echo", {}, TenantId="blue", DurableExecutionName="order-1")
        assert "DurableExecutionArn" not in reply
    assert simulated.stats()["tenants"]["blue"] >= 2


def test_reserved_concurrency_throttles_in_the_recorded_shape(simulated: EmulatorProcess) -> None:
    """The third of three calls at once is refused at once, never queued."""
    with holding(simulated, "two", "two"):
        status, head, body = post(simulated, "two", b"{}")
    assert status == 429
    assert "x-amzn-errortype: toomanyrequestsexception" in head
    assert json.loads(body) == {
        "Reason": "ReservedFunctionConcurrentInvocationLimitExceeded",
        "Type": "User",
        "message": "Rate Exceeded.",
    }
    stats = simulated.stats()["functions"]["two"]
    assert stats["max_in_flight"] == 2
    assert stats["throttles"] == {"ReservedFunctionConcurrentInvocationLimitExceeded": 1}


def test_a_lost_reply_leaves_the_function_running(client: Any, simulated: EmulatorProcess) -> None:
    """The connection ends without an answer, and the call stays in flight for as long as it runs on."""
    for name in ("lost", "lost-briefly"):
        with pytest.raises((ConnectionClosedError, EndpointConnectionError, HTTPClientError)):
            call(client, name, {"id": name})
    assert in_flight(simulated, "lost") == 1
    assert simulated.stats()["executions_by_key"]["lost"] == 1
    wait_until(lambda: in_flight(simulated, "lost-briefly") == 0)


def test_streams_that_are_no_calls_or_break_off(simulated: EmulatorProcess) -> None:
    """An Event cannot be streamed, a DryRun runs nothing, and a lost reply ends in the middle."""

    def stream(name: str, kind: str) -> bytes:
        path = f"/2021-11-15/functions/{name}/response-streaming-invocations"
        head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Amz-Invocation-Type: {kind}\r\n"
        return raw(
            simulated.endpoint_url, f"{head}Connection: close\r\nContent-Length: 2\r\n\r\n{{}}".encode()
        )

    refused = stream("echo", "Event")
    assert refused.startswith(b"HTTP/1.1 400")
    assert b"must be RequestResponse or DryRun" in refused
    assert stream("echo", "DryRun").startswith(b"HTTP/1.1 204")
    assert b"InvokeComplete" in stream("echo", "RequestResponse")
    broken = stream("lost-briefly", "RequestResponse")
    assert broken.startswith(b"HTTP/1.1 200")
    assert b"InvokeComplete" not in broken


def test_a_reset_connection(simulated: EmulatorProcess) -> None:
    """The client sees ECONNRESET."""
    with pytest.raises(ConnectionResetError):
        post(simulated, "reset", b"{}")


def test_a_stray_refusal_names_the_concurrency(client: Any, simulated: EmulatorProcess) -> None:
    """Whatever is running; it is counted as any other, and an Event has no such limit."""
    status, code, answer = refusal(client, FunctionName="stray", Payload=b"{}")
    assert (status, code) == (429, "TooManyRequestsException")
    assert answer["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"
    assert sum(simulated.stats()["functions"]["stray"]["throttles"].values()) == 1
    event = client.invoke(FunctionName="stray", InvocationType="Event", Payload=b"{}")
    assert (event["StatusCode"], event["Payload"].read()) == (202, b"")  # which gives the connection back


@pytest.mark.parametrize(
    ("name", "status", "code"),
    [("s503", 503, ""), ("s500", 500, "serviceexception"), ("s429", 429, "toomanyrequestsexception")],
)
def test_simulated_statuses_do_not_run_the_function(
    simulated: EmulatorProcess, name: str, status: int, code: str
) -> None:
    """The status comes with its error code, 503 comes bare, and nothing is executed."""
    answered, head, _ = post(simulated, name, b"{}")
    assert answered == status
    assert (f"x-amzn-errortype: {code}" in head) if code else ("x-amzn-errortype" not in head)
    assert simulated.stats()["functions"][name]["executions"] == 0


def test_executions_are_counted_by_key(client: Any, simulated: EmulatorProcess) -> None:
    """--count-by tells how often each record's function ran."""
    for key in ("k1", "k2", "k2", "ü", "\ud800"):
        call(client, "echo", {"id": key})
    by_key = simulated.stats()["executions_by_key"]
    assert (by_key["k1"], by_key["k2"], by_key["ü"], by_key['"\\ud800"']) == (1, 2, 1, 1)


def test_a_number_beyond_python_is_counted_without_a_key(client: Any, simulated: EmulatorProcess) -> None:
    """JSON that Python cannot hold is a payload like any other: it runs, and is counted as having no key."""
    status, _, _ = post(simulated, "echo", b'{"id": ' + b"9" * 5000 + b"}")
    assert status == 200
    assert simulated.stats()["executions_by_key"]["null"] >= 1


def test_a_request_cut_short_runs_nothing(simulated: EmulatorProcess) -> None:
    """A client that dies in the middle of its payload has not invoked anything."""
    before = simulated.stats()["functions"]["echo"]["requests"]
    head = f"POST {PATH.format('echo')} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 100\r\n\r\n{{"
    with connected(simulated) as connection:
        connection.sendall(head.encode())
    time.sleep(0.1)
    assert simulated.stats()["functions"]["echo"]["requests"] == before


def test_names_that_are_not_loopback_are_refused(simulated: EmulatorProcess) -> None:
    """A page on another host's name cannot reach the handlers."""
    request = b"GET /2015-03-31/functions HTTP/1.1\r\nHost: evil.example:80\r\nConnection: close\r\n\r\n"
    assert b" 403 " in raw(simulated.endpoint_url, request).split(b"\r\n")[0]


FOREIGN = [
    "Origin: https://evil.example",
    "Origin: null",
    "Origin: http://localhost:3000",
    "Origin: https://localhost:9001",
    "Sec-Fetch-Site: cross-site",
    "Sec-Fetch-Site: same-site",
]
OWN = [
    "Accept: */*",
    "Origin: http://LOCALHOST:9001",
    "Origin: http://localhost:9001\r\nSec-Fetch-Site: same-origin",
    "Sec-Fetch-Site: none",
]


@pytest.mark.parametrize("header", FOREIGN)
def test_pages_of_another_origin_are_refused(simulated: EmulatorProcess, header: str) -> None:
    """A page on the web, or on another port, can neither invoke nor change limits nor read."""
    before = simulated.stats()["requests"]
    for line in (f"POST {PATH.format('echo')}", "POST /_fanout/limits", "GET /2015-03-31/functions"):
        request = (
            f"{line} HTTP/1.1\r\nHost: localhost:9001\r\n{header}\r\n"
            "Content-Type: text/plain\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
        )
        assert b" 403 " in raw(simulated.endpoint_url, request.encode()).split(b"\r\n")[0]
    assert simulated.stats()["requests"] == before


@pytest.mark.parametrize("header", OWN)
def test_what_is_no_foreign_page_is_answered(simulated: EmulatorProcess, header: str) -> None:
    """Clients that are no browser, and a browser's own address bar."""
    request = f"GET /_fanout/stats HTTP/1.1\r\nHost: localhost:9001\r\n{header}\r\nConnection: close\r\n\r\n"
    assert b" 200 " in raw(simulated.endpoint_url, request.encode()).split(b"\r\n")[0]


REFERENCES = [
    "arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:echo",
    "arn:aws-eusc:lambda:eusc-de-east-1:123456789012:function:echo:live",
    "arn:aws-iso:lambda:us-iso-east-1:123456789012:function:echo",
    "arn:aws-iso-e:lambda:eu-isoe-west-1:123456789012:function:echo",
    "123456789012:function:echo:$LATEST",
    "echo:$LATEST.PUBLISHED",
]


@pytest.mark.parametrize("reference", REFERENCES)
def test_names_of_every_partition(client: Any, reference: str) -> None:
    """The API's own pattern, in invoking and in reading."""
    assert call(client, reference, {"a": 1})[1] == {"a": 1}
    assert client.get_function(FunctionName=reference)["Configuration"]["FunctionName"] == "echo"


def test_a_qualifier_that_breaks_the_pattern(simulated: EmulatorProcess) -> None:
    """400, not 404."""
    for query in ("?Qualifier=a%20b", f"?Qualifier={'q' * 129}"):
        status, head, _ = post(simulated, "echo", b"{}", query=query)
        assert (status, "x-amzn-errortype: validationexception" in head) == (400, True)


def test_the_request_rate_is_ten_times_the_concurrency() -> None:
    """With concurrency 1 the eleventh call of an instant is refused, for its rate; sent on one connection."""
    with EmulatorProcess(simulate=["name=f"], concurrency=1) as emulator:
        one = f"POST {PATH.format('f')} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n"
        requests = f"{one}\r\n" * 79 + f"{one}Connection: close\r\n\r\n"
        answer = raw(emulator.endpoint_url, requests.encode())
        assert answer.count(b"HTTP/1.1 200 ") >= 10
        throttles = emulator.stats()["throttles"]
        assert set(throttles) == {"ReservedFunctionInvocationRateLimitExceeded"}


def test_account_concurrency() -> None:
    """Functions without a reservation share the account's concurrency."""
    specs = ["name=a,latency=1h", "name=b,latency=1h"]
    extra = ["--account-concurrency", "3"]
    with EmulatorProcess(simulate=specs, extra=extra) as emulator, holding(emulator, "a", "b", "a"):
        assert [post(emulator, name, b"{}")[0] for name in "bab"] == [429] * 3
        assert emulator.stats()["throttles"] == {"ConcurrentInvocationLimitExceeded": 3}
        assert emulator.stats()["max_in_flight"] == 3


def test_linger_keeps_an_environment_busy_after_its_reply() -> None:
    """With --linger-ms a call right after the reply is still throttled, and a later one is not."""
    with EmulatorProcess(simulate=["name=f"], concurrency=1, extra=["--linger-ms", "600000"]) as emulator:
        assert [post(emulator, "f", b"{}")[0] for _ in range(2)] == [200, 429]
    with EmulatorProcess(simulate=["name=f"], concurrency=1, extra=["--linger-ms", "20"]) as emulator:
        assert post(emulator, "f", b"{}")[0] == 200
        wait_until(lambda: post(emulator, "f", b"{}")[0] == 200)


def test_no_limits_throttles_nothing() -> None:
    """--no-limits is for measuring clients: everything is admitted, and counted."""
    with EmulatorProcess(simulate=["name=f"], concurrency=1, extra=["--no-limits"]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        with ThreadPoolExecutor(10) as pool:
            list(pool.map(lambda n: call(client, "f", n), range(60)))
        assert emulator.stats()["requests"] == emulator.stats()["executions"] == 60
