"""What an answer means: the runtimes' error shapes, refusals, throttles, and hostile bytes."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.classify import classify, classify_failure, status_of
from fanout.errors import ConnectFailed, ReplyLost, RequestNotSent, TransportError
from fanout.invoke_request import build_template
from fanout.model import ErrorDetail, Reply, ThrottleKind, Verdict

SYNC = build_template(function="f")
EVENT = build_template(function="f", invocation_type="Event")
DRY_RUN = build_template(function="f", invocation_type="DryRun")


def test_a_plain_success_is_one_shared_value() -> None:
    """The fast path makes no object."""
    first = classify(Reply(200, b"{}"), SYNC)
    assert first.verdict is Verdict.SUCCESS
    assert classify(Reply(202), EVENT) is first
    assert classify(Reply(204), DRY_RUN) is first
    assert [status_of(status) for status in (200, 202, 204)] == ["succeeded", "accepted", "valid"]


@pytest.mark.parametrize("status", [200, 201, 202, 203, 204, 206, 299])
@pytest.mark.parametrize("template", [SYNC, EVENT, DRY_RUN], ids=["sync", "event", "dry-run"])
def test_a_2xx_that_does_not_fit_is_no_success(status: int, template: Any) -> None:
    """A 200 to an Event call, a 202 to a synchronous one: the function may have run, nothing is guessed."""
    expected = {"RequestResponse": 200, "Event": 202, "DryRun": 204}[template.invocation_type]
    verdict = classify(Reply(status, b"{}"), template).verdict
    assert verdict is (Verdict.SUCCESS if status == expected else Verdict.AMBIGUOUS)


@pytest.mark.parametrize(
    "status", [0, 100, 101, 301, 302, 307, 410, 411, 418, 422, 451, 501, 505, 599, 600, 999]
)
def test_a_status_nobody_knows_is_ambiguous(status: int) -> None:
    """What Lambda is not known to answer may have run."""
    result = classify(Reply(status, b"<html>"), SYNC)
    assert result.verdict is Verdict.AMBIGUOUS
    assert result.error is not None
    assert f"HTTP status {status}" in result.error.message


PYTHON: dict[str, Any] = {
    "errorMessage": "bad total",
    "errorType": "ValueError",
    "requestId": "r",
    "stackTrace": ['  File "/var/task/app.py", line 3, in handler\n    raise ValueError("bad total")\n'],
}
NODE: dict[str, Any] = {
    "errorType": "TypeError",
    "errorMessage": "x is not a function",
    "trace": ["TypeError: x is not a function", "    at handler (/var/task/index.js:2:3)"],
}
JAVA: dict[str, Any] = {
    "errorMessage": "no total",
    "errorType": "java.lang.RuntimeException",
    "stackTrace": ["example.Handler.handle(Handler.java:7)"],
    "cause": {"errorMessage": "inner", "errorType": "java.io.IOException", "stackTrace": []},
}
DOTNET: dict[str, Any] = {
    "errorType": "AggregateException",
    "errorMessage": "One or more errors occurred.",
    "stackTrace": ["at Function.Handler(Object o) in /src/Function.cs:line 7"],
    "causes": [{"errorType": "NullReferenceException", "errorMessage": "Object reference not set."}],
}
RUBY: dict[str, Any] = {
    "errorMessage": "undefined method",
    "errorType": "Function<NoMethodError>",
    "stackTrace": ["/var/task/app.rb:3:in `handler'"],
}
GO: dict[str, Any] = {
    "errorMessage": "boom",
    "errorType": "errorString",
    "stackTrace": [{"path": "main.go", "line": 7, "label": "handler"}],
}


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        (PYTHON, ErrorDetail("ValueError", "bad total", PYTHON["stackTrace"], "Unhandled")),
        (NODE, ErrorDetail("TypeError", "x is not a function", NODE["trace"], "Unhandled")),
        (
            JAVA,
            ErrorDetail(
                "java.lang.RuntimeException", "no total", JAVA["stackTrace"], "Unhandled", None, JAVA["cause"]
            ),
        ),
        (
            DOTNET,
            ErrorDetail(
                "AggregateException",
                DOTNET["errorMessage"],
                DOTNET["stackTrace"],
                "Unhandled",
                None,
                DOTNET["causes"],
            ),
        ),
        (RUBY, ErrorDetail("Function<NoMethodError>", "undefined method", RUBY["stackTrace"], "Unhandled")),
        (
            GO,
            ErrorDetail(
                "errorString", "boom", ['{"path":"main.go","line":7,"label":"handler"}'], "Unhandled"
            ),
        ),
        (
            {"errorMessage": "RequestId: r Error: Task timed out after 1.00 seconds"},
            ErrorDetail(
                "Sandbox.Timedout", "RequestId: r Error: Task timed out after 1.00 seconds", None, "Unhandled"
            ),
        ),
    ],
    ids=["python", "node", "java", "dotnet", "ruby", "go", "timeout-before-2025"],
)
def test_every_runtimes_error_is_read(body: dict[str, Any], detail: ErrorDetail) -> None:
    """Type, message, stack trace and cause, whatever the runtime calls them."""
    result = classify(Reply(200, json.dumps(body).encode(), function_error="Unhandled"), SYNC)
    assert (result.verdict, result.error) == (Verdict.FUNCTION_ERROR, detail)


def test_a_trace_may_be_text_and_a_message_any_value() -> None:
    """Of runtimes of one's own: its lines are lines, and the message is shown as its JSON."""
    body = b'{"errorType":"E","errorMessage":{"a":["x"]},"stackTrace":"at f\\nat g"}'
    error = classify(Reply(200, body, function_error="Unhandled"), SYNC).error
    assert error is not None
    assert error.stack_trace == ["at f", "at g"]
    assert error.message == '{"a":["x"]}'


@pytest.mark.parametrize("handled", ["Handled", "Unhandled"])
def test_handled_and_unhandled_are_kept(handled: str) -> None:
    """As Lambda said it."""
    result = classify(Reply(200, b'{"errorMessage":"x"}', function_error=handled), SYNC)
    assert result.error is not None
    assert result.error.handled == handled
    assert result.error.type == handled


@pytest.mark.parametrize(
    "body", [b"", b"null", b"{", b'"text"', b"[1]", b"\xff\xfe", b'{"a":"\\ud800"}', b"[" * 9_999]
)
def test_a_broken_error_body_is_still_a_function_error(body: bytes) -> None:
    """The header says so, also when it is empty; the body is only what is said about it."""
    for header in ("Unhandled", ""):
        result = classify(Reply(200, body, function_error=header), SYNC)
        assert result.verdict is Verdict.FUNCTION_ERROR
        assert result.error is not None
        assert result.error.type == "Unhandled"


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        ("ReservedFunctionConcurrentInvocationLimitExceeded", ThrottleKind.CONCURRENCY),
        ("ConcurrentInvocationLimitExceeded", ThrottleKind.CONCURRENCY),
        ("ReservedFunctionInvocationRateLimitExceeded", ThrottleKind.RATE),
        ("FunctionInvocationRateLimitExceeded", ThrottleKind.RATE),
        ("CallerRateLimitExceeded", ThrottleKind.RATE),
        ("ConcurrentSnapshotCreateLimitExceeded", ThrottleKind.WAIT),
        ("SomethingNew", ThrottleKind.UNKNOWN),
        (None, ThrottleKind.UNKNOWN),
        (7, ThrottleKind.UNKNOWN),
    ],
)
def test_a_throttle_says_which_budget_it_spoke_of(reason: object, kind: ThrottleKind) -> None:
    """By its Reason; a new one is a throttle all the same."""
    body = json.dumps({"Reason": reason, "Type": "User", "message": "Rate Exceeded."}).encode()
    result = classify(Reply(429, body, error_type="TooManyRequestsException"), SYNC)
    assert (result.verdict, result.throttle) == (Verdict.THROTTLED, kind)
    assert result.error is not None
    assert result.error.message == "Rate Exceeded."


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("", None),
        ("3", 3.0),
        ("0.5", 0.5),
        ("0", 0.0),
        ("-1", None),
        ("soon", None),
        ("nan", None),
        ("inf", None),
        ("Sat, 21 Nov 2026 08:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_nothing(header: str | None, seconds: float | None) -> None:
    """Garbage is ignored."""
    assert classify(Reply(429, b"", retry_after=header), SYNC).retry_after_s == seconds
    assert classify(Reply(503, b"", retry_after=header), SYNC).retry_after_s == seconds


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        (
            Reply(400, b"{}", error_type="InvalidRequestContentException:http://x/"),
            "InvalidRequestContentException",
        ),
        (
            Reply(400, b"{}", error_type="com.amazon#InvalidRequestContentException"),
            "InvalidRequestContentException",
        ),
        (Reply(400, b'{"code":"InvalidRequestContentException"}'), "InvalidRequestContentException"),
        (Reply(400, b'{"__type":"ns#InvalidRequestContentException"}'), "InvalidRequestContentException"),
        (Reply(400, b'{"code":7}'), "Http400"),
        (Reply(413, b""), "Http413"),
    ],
)
def test_the_code_comes_from_the_header_or_the_body(reply: Reply, code: str) -> None:
    """Without namespace and without the address after it."""
    result = classify(reply, SYNC)
    assert result.verdict is Verdict.REJECTED
    assert result.error is not None
    assert result.error.type == code


def test_the_message_is_either_spelling_or_the_body() -> None:
    """A page of a proxy is quoted, on one line."""
    for body, message in (
        (b'{"message":"m"}', "m"),
        (b'{"Message":"M"}', "M"),
        (b"<html>\n <b>Bad\tGateway</b>", "HTTP status 502: <html> <b>Bad Gateway</b>"),
        (b"", "HTTP status 502"),
    ):
        result = classify(Reply(502, body), SYNC)
        assert (result.verdict, result.error and result.error.message) == (Verdict.TRANSIENT, message)


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (ConnectFailed("x"), Verdict.TRANSIENT),
        (RequestNotSent("x"), Verdict.TRANSIENT),
        (ReplyLost("x"), Verdict.AMBIGUOUS),
        (TransportError("x"), Verdict.AMBIGUOUS),
    ],
)
def test_only_what_surely_was_not_sent_is_transient(error: TransportError, verdict: Verdict) -> None:
    """Whatever else ended a call: the function may have run."""
    result = classify_failure(error)
    assert result.verdict is verdict
    assert result.error == ErrorDetail(type(error).__name__, "x")


json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(
                ["errorType", "errorMessage", "stackTrace", "trace", "cause", "Reason", "message", "code"]
            ),
            inner,
            max_size=4,
        ),
    ),
    max_leaves=8,
)


@given(
    status=st.one_of(st.integers(0, 999), st.sampled_from([200, 202, 204, 400, 403, 429, 500, 502])),
    body=st.one_of(st.binary(max_size=60), json_values.map(lambda value: json.dumps(value).encode())),
    function_error=st.one_of(st.none(), st.text(max_size=5)),
    error_type=st.one_of(st.none(), st.text(max_size=12)),
    retry_after=st.one_of(st.none(), st.text(max_size=5)),
    template=st.sampled_from([SYNC, EVENT, DRY_RUN]),
)
def test_hostile_replies_never_raise(
    status: int,
    body: bytes,
    function_error: str | None,
    error_type: str | None,
    retry_after: str | None,
    template: Any,
) -> None:
    """Any bytes get a verdict that can be written to the journal; success only where it is deserved."""
    reply = Reply(status, body, function_error, error_type=error_type, retry_after=retry_after)
    result = classify(reply, template)
    expected = {"RequestResponse": 200, "Event": 202, "DryRun": 204}[template.invocation_type]
    assert (result.verdict is Verdict.SUCCESS) is (status == expected and function_error is None)
    assert (result.error is None) is (result.verdict is Verdict.SUCCESS)
    assert (result.throttle is None) is (result.verdict is not Verdict.THROTTLED)
    if result.error is not None:
        assert result.error.type
        msgspec.json.encode(result.error)


def test_half_a_character_in_a_function_error_leaves_the_rest_of_it() -> None:
    """JSON's escapes can say half of a surrogate pair, as a cut string does: nothing else is lost by it."""
    body = rb'{"errorType":"KeyError","errorMessage":"\ud83d","stackTrace":["a\udc00b","\ud83d\ude00"]}'
    error = classify(Reply(200, body, function_error="Unhandled"), SYNC).error
    assert error is not None
    assert (error.type, error.message) == ("KeyError", "\ufffd")
    assert error.stack_trace == ["a\ufffdb", "\U0001f600"]


def test_bytes_that_are_no_text_in_a_function_error_leave_the_rest_of_it() -> None:
    """Nothing else is lost by them."""
    body = b'{"errorType":"KeyError","errorMessage":"\xff"}'
    error = classify(Reply(200, body, function_error="Unhandled"), SYNC).error
    assert error is not None
    assert (error.type, error.message) == ("KeyError", "\ufffd")
