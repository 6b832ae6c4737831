"""What ``direct`` sends is what botocore sends: the proof that its shortcuts are right. Never loosen it."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from fanout.invoke_request import build_template
from tests.example_counts import examples
from tests.transports.wire import REGION, Received, Script, complete, http, stream, transport_to, wire

KEY_ID, SECRET = "AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"
TOKEN = "IQoJb3JpZ2luX2VjE//+token/with+odd=characters=="

names = st.from_regex(r"\A[a-zA-Z0-9_.-]{1,64}\Z").filter(lambda name: name.strip("."))
qualifiers = st.one_of(
    st.just("$LATEST"), st.just("$LATEST.PUBLISHED"), st.from_regex(r"\A[a-zA-Z0-9_-]{1,64}\Z")
)
accounts = st.from_regex(r"\A[0-9]{12}\Z")
functions = st.one_of(
    names,
    st.builds("{}:{}".format, names, qualifiers),
    st.builds("{}:function:{}".format, accounts, names),
    st.builds("arn:aws:lambda:us-gov-west-1:{}:function:{}".format, accounts, names),
    st.builds("arn:aws-cn:lambda:cn-north-1:{}:function:{}:{}".format, accounts, names, qualifiers),
)
texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)
contexts = st.one_of(
    st.none(),
    st.dictionaries(texts, st.one_of(texts, st.integers(), st.lists(texts, max_size=3)), max_size=4),
)
tenants = st.one_of(
    st.none(), st.from_regex(r"\A[a-zA-Z0-9._:/=+@-]([a-zA-Z0-9._:/=+@ -]{0,60}[a-zA-Z0-9._:/=+@-])?\Z")
)
durables = st.one_of(st.none(), st.from_regex(r"\A[a-zA-Z0-9_-]{1,64}\Z"))
payloads = st.one_of(
    st.binary(max_size=2_000),
    st.recursive(st.one_of(st.none(), st.booleans(), st.floats(allow_nan=False), texts), st.lists).map(
        lambda value: json.dumps(value, ensure_ascii=False).encode()
    ),
    st.sampled_from([b"", b"{}", b"x" * 65_536, b"\x00" * 262_145]),
)


@st.composite
def calls(draw: st.DrawFn) -> dict[str, Any]:
    """Valid parameters of a call, by our names."""
    call: dict[str, Any] = {"function": draw(functions)}
    if ":" not in call["function"] and draw(st.booleans()):
        call["qualifier"] = draw(qualifiers)
    stream_it = draw(st.sampled_from([False, False, False, True]))
    kind = "RequestResponse" if stream_it else draw(st.sampled_from(["RequestResponse", "Event", "DryRun"]))
    call["invocation_type"] = kind
    call["tenant_id"] = draw(tenants)
    if stream_it:
        call["stream"] = True
    elif kind != "DryRun":
        call["durable_name"] = draw(durables)
    if kind != "Event":
        call["log_type"] = draw(st.sampled_from(["None", "Tail", "OnError"]))
        call["client_context"] = draw(contexts)
    return call


def botocore_call(call: dict[str, Any]) -> dict[str, Any]:
    """The same parameters as a boto3 user would write them."""
    params: dict[str, Any] = {"FunctionName": call["function"]}
    if call["invocation_type"] != "RequestResponse":
        params["InvocationType"] = call["invocation_type"]
    if call.get("log_type", "None") != "None":
        params["LogType"] = "Tail"
    if (context := call.get("client_context")) is not None:
        text = json.dumps(context, separators=(",", ":"))
        params["ClientContext"] = base64.b64encode(text.encode()).decode()
    for ours, theirs in (
        ("qualifier", "Qualifier"),
        ("tenant_id", "TenantId"),
        ("durable_name", "DurableExecutionName"),
    ):
        if call.get(ours) is not None:
            params[theirs] = call[ours]
    return params


def respond(request: Received) -> Script:
    """What either client takes for a good answer."""
    if request.path.startswith("/2021-11-15/") or "response-streaming" in request.path:
        return Script(stream(complete()))
    status = {"Event": 202, "DryRun": 204}.get(request.headers.get("x-amz-invocation-type", ""), 200)
    return Script(http(status, b"" if status != 200 else b"{}"))


class Bench:
    """An endpoint, botocore's client and ``direct``, all on one event loop."""

    def __init__(self, runner: asyncio.Runner, stack: contextlib.AsyncExitStack) -> None:
        self.runner, self.stack = runner, stack

    async def open(self, suffix: str = "") -> None:
        """Connect both to the same URL."""
        self.wire = await self.stack.enter_async_context(wire())
        self.wire.respond = respond
        self.url = f"{self.wire.url}{suffix}"
        self.direct = {
            token: await self.stack.enter_async_context(transport_to(self.url, "direct", token=token))
            for token in (None, TOKEN)
        }
        self.botocore = {
            token: boto3.session.Session().client(
                "lambda",
                region_name=REGION,
                endpoint_url=self.url,
                aws_access_key_id=KEY_ID,
                aws_secret_access_key=SECRET,
                aws_session_token=token,
                config=Config(retries={"total_max_attempts": 1}),
            )
            for token in (None, TOKEN)
        }

    def capture(self, call: dict[str, Any], body: bytes, token: str | None) -> tuple[Received, Received]:
        """What botocore sent, and what ``direct`` sent."""
        return self.runner.run(self._capture(call, body, token))

    async def _capture(
        self, call: dict[str, Any], body: bytes, token: str | None
    ) -> tuple[Received, Received]:
        self.wire.received.clear()
        client = self.botocore[token]
        invoke = client.invoke_with_response_stream if call.get("stream") else client.invoke
        reply = await asyncio.to_thread(invoke, **botocore_call(call), Payload=body)
        for member in ("Payload", "EventStream"):
            if member in reply:
                await asyncio.to_thread(reply[member].close)
        await self.direct[token].send(build_template(**call), body)
        theirs, ours = self.wire.received
        return theirs, ours


@pytest.fixture(scope="module", params=["", "/base", "/odd//base/~x/%20y/"])
def bench(request: pytest.FixtureRequest) -> Iterator[Bench]:
    """Both clients at an endpoint with a path before Lambda's, and at one without."""
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = contextlib.AsyncExitStack()
        bench = Bench(runner, stack)
        runner.run(bench.open(request.param))
        yield bench
        runner.run(stack.aclose())


def assert_same(theirs: Received, ours: Received) -> None:
    """Same method, path, query, headers that matter, and body."""
    assert (ours.method, ours.path, ours.query) == (theirs.method, theirs.path, theirs.query)
    assert ours.amz_headers == theirs.amz_headers
    assert ours.headers["host"] == theirs.headers["host"]
    assert ours.headers["content-length"] == theirs.headers["content-length"]
    assert ours.headers.get("content-type") == theirs.headers.get("content-type")
    assert ours.headers["accept-encoding"] == theirs.headers["accept-encoding"]
    assert ours.headers.get("x-amzn-trace-id") == theirs.headers.get("x-amzn-trace-id")
    assert ours.body == theirs.body


def assert_signed(request: Received, token: str | None = None) -> None:
    """botocore, given what arrived, comes to the same Authorization header."""
    authorization = request.headers["authorization"]
    signed = authorization.split("SignedHeaders=")[1].split(",")[0].split(";")
    assert {"host", "x-amz-date", *request.amz_headers} == set(signed)
    url = f"http://{request.headers['host']}{request.path}" + (f"?{request.query}" if request.query else "")
    replica = AWSRequest(
        method=request.method,
        url=url,
        data=request.body,
        headers={name: request.headers[name] for name in signed if name != "host"},
    )
    replica.context["timestamp"] = request.headers["x-amz-date"]
    auth = SigV4Auth(Credentials(KEY_ID, SECRET, token), "lambda", REGION)
    signature = auth.signature(auth.string_to_sign(replica, auth.canonical_request(replica)), replica)
    assert authorization == (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(replica)}, SignedHeaders={';'.join(signed)}, "
        f"Signature={signature}"
    )


@settings(max_examples=examples(120), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(call=calls(), body=payloads, token=st.sampled_from([None, TOKEN]))
@example(call={"function": "f", "invocation_type": "RequestResponse"}, body=b"", token=None)
@example(call={"function": "f", "invocation_type": "Event"}, body=b"", token=TOKEN)
@example(
    call={"function": "f", "invocation_type": "RequestResponse", "tenant_id": "two  spaces   in one"},
    body=b"{}",
    token=None,
)
def test_direct_sends_what_botocore_sends(
    bench: Bench, call: dict[str, Any], body: bytes, token: str | None
) -> None:
    """For any valid input the same request arrives, and its signature verifies with botocore's code."""
    theirs, ours = bench.capture(call, body, token)
    assert_same(theirs, ours)
    assert_signed(ours, token)


@pytest.mark.slow
@settings(max_examples=1_500, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(call=calls(), body=payloads, token=st.sampled_from([None, TOKEN]))
def test_direct_sends_what_botocore_sends_at_length(
    bench: Bench, call: dict[str, Any], body: bytes, token: str | None
) -> None:
    """The same with many more inputs."""
    theirs, ours = bench.capture(call, body, token)
    assert_same(theirs, ours)
    assert_signed(ours, token)


@pytest.mark.parametrize("size", [0, 1, 65_535, 1_048_576, 6_291_456])
def test_payloads_of_every_size_arrive_whole(bench: Bench, size: int) -> None:
    """From nothing to the largest that Lambda takes, byte by byte."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    theirs, ours = bench.capture({"function": "f", "invocation_type": "RequestResponse"}, body, None)
    assert_same(theirs, ours)
    assert_signed(ours)


def test_the_trace_id_goes_along_inside_a_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a Lambda environment, recursion detection works: the header is botocore's, read at each call."""
    monkeypatch.setenv("AWS_LAMBDA_FUNCTION_NAME", "caller")
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        stack = contextlib.AsyncExitStack()
        bench = Bench(runner, stack)
        runner.run(bench.open())
        for trace_id in ("Root=1-5e3d83c1-e6a0db584029fc7e;Parent=x y;Sampled=1", "Root=1-ü\u20ac", ""):
            monkeypatch.setenv("_X_AMZN_TRACE_ID", trace_id)
            theirs, ours = bench.capture({"function": "f", "invocation_type": "RequestResponse"}, b"{}", None)
            assert_same(theirs, ours)
            assert_signed(ours)
            assert ("x-amzn-trace-id" in ours.headers) is bool(trace_id)
        runner.run(stack.aclose())


async def test_a_signature_is_right_before_and_after_midnight(monkeypatch: pytest.MonkeyPatch) -> None:
    """The day's key changes with the UTC date, in the midst of a run."""
    clock = {"now": 1_795_219_199.0}  # 2026-11-20T23:59:59Z
    monkeypatch.setattr("fanout.transports.direct.time.time", lambda: clock["now"])

    async with wire() as endpoint, transport_to(endpoint.url, "direct") as direct:
        template = build_template(function="f")
        for step_s in (0.0, 0.9, 0.2, -1.0, 86_400.0):
            clock["now"] += step_s
            await direct.send(template, b"{}")
    requests = endpoint.received
    dates = [request.headers["x-amz-date"] for request in requests]
    assert dates == [
        "20261120T235959Z",
        "20261120T235959Z",
        "20261121T000000Z",
        "20261120T235959Z",
        "20261121T235959Z",
    ]
    for request in requests:
        assert_signed(request)
