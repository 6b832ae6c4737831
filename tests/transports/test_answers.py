"""Every answer of the Invoke API, on the wire, through both transports: one table."""

from __future__ import annotations

import base64
import json
from typing import Any, cast

import pytest
from botocore import exceptions as boto

from fanout.classify import classify
from fanout.errors import FatalRefusal, ReplyLost, RequestNotSent
from fanout.invoke_request import build_template
from fanout.model import Reply, ThrottleKind, Verdict
from tests.transports.wire import chunk, complete, frame, http, stream, transport_to, wire

both = pytest.mark.parametrize("kind", ["direct", "sdk"])

V = Verdict
# status, code, verdict; by the service model and the recorded replies
REFUSALS = [
    (400, "InvalidRequestContentException", V.REJECTED),
    (400, "InvalidParameterValueException", V.FATAL),
    (400, "RecursiveInvocationException", V.FATAL),
    (400, "SnapStartException", V.FATAL),
    (400, "NoPublishedVersionException", V.FATAL),
    (400, "ModeNotSupportedException", V.FATAL),
    (400, "ExpiredTokenException", V.FATAL),
    (400, "SomethingNewException", V.REJECTED),
    (402, "ServiceQuotaExceededException", V.REJECTED),
    (403, "AccessDeniedException", V.FATAL),
    (403, "EFSMountFailureException", V.FATAL),
    (403, "S3FilesMountFailureException", V.FATAL),
    (403, "UnrecognizedClientException", V.FATAL),
    (403, "InvalidSignatureException", V.FATAL),
    (403, "ExpiredTokenException", V.FATAL),
    (403, "SomethingNewException", V.FATAL),
    (404, "ResourceNotFoundException", V.FATAL),
    (408, "EFSMountTimeoutException", V.TRANSIENT),
    (408, "EFSMountConnectivityException", V.TRANSIENT),
    (408, "S3FilesMountTimeoutException", V.TRANSIENT),
    (408, "S3FilesMountConnectivityException", V.TRANSIENT),
    (408, "SnapStartTimeoutException", V.TRANSIENT),
    (409, "ResourceConflictException", V.TRANSIENT),
    (409, "SnapStartNotReadyException", V.TRANSIENT),
    (409, "SnapStartRegenerationFailureException", V.TRANSIENT),
    (409, "CodeArtifactUserPendingException", V.TRANSIENT),
    (409, "CodeArtifactUserDeletedException", V.FATAL),
    (409, "CodeArtifactUserFailedException", V.FATAL),
    (409, "RuntimeAliasDeletedException", V.FATAL),
    (409, "RuntimeVersionDeletedException", V.FATAL),
    (409, "DurableExecutionAlreadyStartedException", V.REJECTED),
    (410, "EFSIOException", V.AMBIGUOUS),
    (413, "RequestTooLargeException", V.REJECTED),
    (413, "RequestEntityTooLargeException", V.REJECTED),
    (413, "SerializedRequestEntityTooLargeException", V.REJECTED),
    (413, "SomethingTooLargeException", V.REJECTED),
    (415, "UnsupportedMediaTypeException", V.REJECTED),
    (429, "TooManyRequestsException", V.THROTTLED),
    (429, "SomethingNewException", V.THROTTLED),
    (500, "ServiceException", V.TRANSIENT),
    (500, "SomethingNewException", V.TRANSIENT),
    (502, "EC2ThrottledException", V.TRANSIENT),
    (502, "EC2UnexpectedException", V.TRANSIENT),
    (502, "ENILimitReachedException", V.TRANSIENT),
    (502, "ENINotReadyException", V.TRANSIENT),
    (502, "ResourceNotReadyException", V.TRANSIENT),
    (502, "SubnetIPAddressLimitReachedException", V.TRANSIENT),
    (502, "InvalidZipFileException", V.FATAL),
    (502, "InvalidRuntimeException", V.FATAL),
    (502, "InvalidSubnetIDException", V.FATAL),
    (502, "InvalidSecurityGroupIDException", V.FATAL),
    (502, "EC2AccessDeniedException", V.FATAL),
    (502, "KMSAccessDeniedException", V.FATAL),
    (502, "KMSDisabledException", V.FATAL),
    (502, "KMSInvalidStateException", V.FATAL),
    (502, "KMSNotFoundException", V.FATAL),
    (418, "TeapotException", V.AMBIGUOUS),
]

BARE = [
    (400, V.REJECTED),
    (403, V.FATAL),
    (404, V.FATAL),
    (408, V.TRANSIENT),
    (409, V.TRANSIENT),
    (413, V.REJECTED),
    (429, V.THROTTLED),
    (500, V.TRANSIENT),
    (502, V.TRANSIENT),
    (503, V.TRANSIENT),
    (504, V.TRANSIENT),
    (509, V.TRANSIENT),
    (300, V.AMBIGUOUS),
    (304, V.AMBIGUOUS),
    (499, V.AMBIGUOUS),
]

FUNCTION_ERRORS = [
    (
        {"errorMessage": "m", "errorType": "ValueError", "requestId": "r", "stackTrace": ["  File"]},
        "ValueError",
    ),
    ({"errorType": "TypeError", "errorMessage": "m", "trace": ["at x"]}, "TypeError"),
    (
        {"errorMessage": "m", "errorType": "java.lang.RuntimeException", "stackTrace": []},
        "java.lang.RuntimeException",
    ),
    (
        {
            "errorType": "Sandbox.Timedout",
            "errorMessage": "RequestId: r Error: Task timed out after 1.00 seconds",
        },
        "Sandbox.Timedout",
    ),
    ({"errorMessage": "2024-01-01T00:00:00Z r Task timed out after 1.00 seconds"}, "Sandbox.Timedout"),
    (
        {"errorType": "Runtime.ExitError", "errorMessage": "RequestId: r Error: Runtime exited"},
        "Runtime.ExitError",
    ),
    ({"errorType": "Runtime.OutOfMemory", "errorMessage": "m"}, "Runtime.OutOfMemory"),
    ({"errorType": "Runtime.ImportModuleError", "errorMessage": "m"}, "Runtime.ImportModuleError"),
    ({"errorType": "Function.ResponseSizeTooLarge", "errorMessage": "m"}, "Function.ResponseSizeTooLarge"),
]


async def ask(kind: str, data: bytes, **options: Any) -> Reply:
    """One call to an endpoint that answers ``data``."""
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        endpoint.answer(data)
        return await transport.send(build_template(function="f", **options), b"{}")


@both
async def test_every_refusal_gets_its_verdict(kind: str) -> None:
    """Each row of the table, with its code in the header as Lambda sends it, and in the body alone."""
    template = build_template(function="f")
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        for status, code, verdict in REFUSALS:
            for headers, members in (
                (
                    {"x-amzn-ErrorType": f"{code}:http://internal.amazon.com/coral/"},
                    {"Type": "User", "Message": "why"},
                ),
                ({}, {"Type": "User", "message": "why", "code": code}),
                ({}, {"__type": f"com.amazonaws.lambda#{code}", "message": "why"}),
            ):
                body = json.dumps(members).encode()
                endpoint.answer(http(status, body, {**headers, "x-amzn-RequestId": "r-1"}))
                reply = await transport.send(template, b"{}")
                result = classify(reply, template)
                assert (status, code, result.verdict) == (status, code, verdict)
                assert reply.status == status
                assert reply.body == body
                assert reply.request_id == "r-1"
                assert result.error is not None
                assert result.error.type == code
                assert verdict is V.AMBIGUOUS or result.error.message == "why"


@both
async def test_every_bare_status_gets_its_verdict(kind: str) -> None:
    """No body, a page of a proxy, broken JSON: the status alone decides."""
    template = build_template(function="f")
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        for status, verdict in BARE:
            for body in (b"", b"<html>no</html>", b'{"message":', b"\xff"):
                endpoint.answer(http(status, b"" if status == 304 else body))
                result = classify(await transport.send(template, b"{}"), template)
                assert (status, result.verdict) == (status, verdict)


@both
async def test_every_throttle_keeps_its_reason(kind: str) -> None:
    """Reason and Retry-After reach the gate and the pacer."""
    template = build_template(function="f")
    rows = {
        "ReservedFunctionConcurrentInvocationLimitExceeded": ThrottleKind.CONCURRENCY,
        "ConcurrentInvocationLimitExceeded": ThrottleKind.CONCURRENCY,
        "ReservedFunctionInvocationRateLimitExceeded": ThrottleKind.RATE,
        "FunctionInvocationRateLimitExceeded": ThrottleKind.RATE,
        "CallerRateLimitExceeded": ThrottleKind.RATE,
        "ConcurrentSnapshotCreateLimitExceeded": ThrottleKind.WAIT,
    }
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        for reason, throttle in rows.items():
            body = json.dumps({"Reason": reason, "Type": "User", "message": "Rate Exceeded."}).encode()
            headers = {"x-amzn-ErrorType": "TooManyRequestsException", "Retry-After": "2"}
            endpoint.answer(http(429, body, headers))
            result = classify(await transport.send(template, b"{}"), template)
            assert (result.verdict, result.throttle) == (V.THROTTLED, throttle)
            assert result.retry_after_s == 2.0
            assert result.error is not None
            assert result.error.reason == reason


@both
async def test_every_function_error_is_read(kind: str) -> None:
    """Presence of X-Amz-Function-Error decides, whatever it says."""
    template = build_template(function="f")
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        for members, error_type in FUNCTION_ERRORS:
            for header in ("Unhandled", "Handled", ""):
                endpoint.answer(http(200, json.dumps(members).encode(), {"X-Amz-Function-Error": header}))
                result = classify(await transport.send(template, b"{}"), template)
                assert result.verdict is V.FUNCTION_ERROR
                assert result.error is not None
                assert (result.error.type, result.error.handled) == (error_type, header or None)


@both
async def test_every_output_member_arrives(kind: str) -> None:
    """Status, payload, version, log tail, request id, trace id, durable ARN."""
    tail = base64.b64encode(b"REPORT RequestId: r-1\t").decode()
    arn = "arn:aws:lambda:eu-west-1:123456789012:function:f:1/durable-execution/a/b"
    headers = {
        "x-amzn-RequestId": "r-1",
        "X-Amz-Executed-Version": "$LATEST",
        "X-Amz-Log-Result": tail,
        "X-Amzn-Trace-Id": "Root=1-a-b;Sampled=0",
        "X-Amz-Durable-Execution-Arn": arn,
    }
    reply = await ask(kind, http(200, b'{"ok": true}\n', headers), log_type="Tail")
    assert reply == Reply(
        200, b'{"ok": true}\n', None, tail, "$LATEST", "r-1", None, None, "Root=1-a-b;Sampled=0", arn
    )


@both
async def test_event_and_dry_run_have_no_body(kind: str) -> None:
    """202 and 204, with the request id that destinations name."""
    accepted = await ask(kind, http(202, b"", {"x-amzn-RequestId": "r-2"}), invocation_type="Event")
    assert (accepted.status, accepted.body, accepted.request_id) == (202, b"", "r-2")
    valid = await ask(kind, http(204, b"", {"x-amzn-RequestId": "r-3"}), invocation_type="DryRun")
    assert (valid.status, valid.body, valid.request_id) == (204, b"", "r-3")


@both
async def test_bytes_come_back_as_they_were_sent(kind: str) -> None:
    """Any body, of 6 MB too, in chunks or not; nothing is decoded or decompressed."""
    for body in (b"null", b"", b"\xff\x00\r\n\r\n", b"\x1f\x8b not gzip", b"x" * 6_291_556):
        assert (await ask(kind, http(200, body))).body == body
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n1\r\nf\r\n0\r\n\r\n"
    assert (await ask(kind, chunked)).body == b"abcdef"


@both
async def test_an_encoding_that_was_not_asked_for_is_a_lost_reply(kind: str) -> None:
    """Its bytes are not the function's; a refusal is one by its status all the same."""
    for encoding in ("gzip", "br", "x-own"):
        with pytest.raises(ReplyLost, match=f"encoded \\({encoding}\\)"):
            await ask(kind, http(200, b"\x1f\x8b", {"Content-Encoding": encoding}))
    assert (await ask(kind, http(200, b"{}", {"Content-Encoding": "identity"}))).body == b"{}"
    assert (await ask(kind, http(503, b"\x1f\x8b", {"Content-Encoding": "gzip"}))).status == 503


@both
@pytest.mark.parametrize("stream", [False, True])
async def test_a_redirect_carries_nothing_to_another_host(kind: str, stream: bool) -> None:
    """Payload and session token would go along: the other host hears nothing at all."""
    template = build_template(function="f", stream=stream)
    async with wire() as elsewhere, wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        for status in (301, 302, 303, 307, 308):
            endpoint.answer(http(status, b"", {"Location": f"{elsewhere.url}/x"}))
            reply = await transport.send(template, b"{}")
            assert (reply.status, classify(reply, template).verdict) == (status, V.AMBIGUOUS)
        assert (elsewhere.connections, len(endpoint.received)) == (0, 5)


@both
async def test_more_bytes_than_the_length_says_are_a_lost_reply(kind: str) -> None:
    """A number that is cut short is another number."""
    for surplus in (b"0", b"surplus"):
        with pytest.raises(ReplyLost):
            await ask(kind, http(200, b"1") + surplus)


@both
async def test_a_stream_is_joined_or_handed_on(kind: str) -> None:
    """Chunks come in order as they come, and without a taker become the body."""
    frames = stream(chunk(b'{"a":'), chunk(b""), chunk(b"1}"), complete(b'{"LogResult":"bG9n"}'))
    template = build_template(function="f", stream=True)
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        endpoint.answer(frames)
        reply = await transport.send(template, b"{}")
        assert (reply.status, reply.body, reply.request_id) == (200, b'{"a":1}', "r-1")
        assert (reply.log_result, reply.executed_version, reply.function_error) == ("bG9n", "7", None)
        chunks: list[bytes] = []

        async def take(part: bytes) -> None:
            chunks.append(part)

        assert (await transport.send(template, b"{}", take)).body == b""
        assert chunks == [b'{"a":', b"1}"]


@both
async def test_an_error_in_mid_stream_is_a_function_error(kind: str) -> None:
    """InvokeComplete's ErrorCode and ErrorDetails become the error object."""
    template = build_template(function="f", stream=True)
    end = json.dumps({"ErrorCode": "Sandbox.Timedout", "ErrorDetails": "Task timed out after 1.00 seconds"})
    detailed = json.dumps({"ErrorCode": "Unhandled", "ErrorDetails": '{"errorType":"E","errorMessage":"m"}'})
    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        endpoint.answer(stream(chunk(b"part"), complete(end.encode())))
        reply = await transport.send(template, b"{}")
        result = classify(reply, template)
        assert reply.function_error == "Unhandled"
        assert json.loads(reply.body) == {
            "errorType": "Sandbox.Timedout",
            "errorMessage": "Task timed out after 1.00 seconds",
        }
        assert result.verdict is V.FUNCTION_ERROR
        endpoint.answer(stream(complete(detailed.encode())))
        error = classify(await transport.send(template, b"{}"), template).error
        assert error is not None
        assert (error.type, error.message) == ("E", "m")


@both
async def test_a_stream_that_is_refused_is_classified_as_any_other_call(kind: str) -> None:
    """A refusal is a plain reply, no stream."""
    reply = await ask(
        kind,
        http(429, b'{"Reason":"CallerRateLimitExceeded"}', {"x-amzn-ErrorType": "TooManyRequestsException"}),
        stream=True,
    )
    assert classify(reply, build_template(function="f", stream=True)).throttle is ThrottleKind.RATE


@both
async def test_what_the_taker_raises_is_the_takers(kind: str) -> None:
    """An error of the consumer passes through as it is, and the next call works."""
    template = build_template(function="f", stream=True)

    async def refuse(part: bytes) -> None:
        raise ZeroDivisionError(part)

    async with wire() as endpoint, transport_to(endpoint.url, kind) as transport:
        endpoint.answer(stream(chunk(b"x"), complete()))
        with pytest.raises(ZeroDivisionError):
            await transport.send(template, b"{}", refuse)
        assert (await transport.send(template, b"{}")).body == b"x"


@both
async def test_frames_of_other_kinds_are_passed_over(kind: str) -> None:
    """An event nobody knows yet ends nothing."""
    unknown = frame({":message-type": "event", ":event-type": "Heartbeat"}, b"{}")
    reply = await ask(kind, stream(unknown, chunk(b"x"), unknown, complete()), stream=True)
    assert reply.body == b"x"


OF_BOTOCORE: list[tuple[Exception, type[Exception], str]] = [
    (boto.NoCredentialsError(), FatalRefusal, "no AWS credentials"),
    (boto.PartialCredentialsError(provider="env", cred_var="x"), FatalRefusal, "are incomplete"),
    (boto.TokenRetrievalError(provider="sso", error_msg="expired"), FatalRefusal, "no longer valid"),
    (boto.EndpointProviderError(msg="no such Region"), RequestNotSent, "cannot be made: no such Region"),
    (boto.ReadTimeoutError(endpoint_url="x"), ReplyLost, "the read timed out"),
]


async def test_an_error_of_botocore_says_whether_anything_was_sent() -> None:
    """Only what surely was not may be sent again."""
    async with transport_to("http://127.0.0.1:9", "sdk") as transport:
        for error, kind, said in OF_BOTOCORE:
            fault = cast(Any, transport)._fault(error)
            assert type(fault) is kind
            assert said in str(fault)
