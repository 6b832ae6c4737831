"""What a valid invocation is: every rule of the model, and how each is named when it is broken."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import ConfigError
from fanout.invoke_request import CLIENT_CONTEXT_BYTES, build_template, payload_fault, region_of


@pytest.mark.parametrize(
    ("function", "path"),
    [
        ("orders", "orders"),
        ("orders:live", "orders%3Alive"),
        ("orders:$LATEST", "orders%3A%24LATEST"),
        ("123456789012:function:orders", "123456789012%3Afunction%3Aorders"),
        (
            "arn:aws:lambda:eu-west-1:123456789012:function:o_1",
            "arn%3Aaws%3Alambda%3Aeu-west-1%3A123456789012%3Afunction%3Ao_1",
        ),
    ],
)
def test_a_function_is_a_name_an_alias_or_an_arn(function: str, path: str) -> None:
    """All four forms are taken, and encoded into one path segment."""
    assert build_template(function=function).path == f"/2015-03-31/functions/{path}/invocations"


@pytest.mark.parametrize(
    "function",
    [
        "",
        " ",
        "a b",
        "ü",
        "a/b",
        "a?b",
        "..",
        ".",
        "a:b:c:d",
        "f:",
        "x" * 257,
        "arn:aws:s3:::bucket",
        "f\n",
        7,
        None,
    ],
)
def test_what_names_no_function_is_refused(function: Any) -> None:
    """Nothing that the model's pattern does not hold is sent, nor what a URL would resolve away."""
    with pytest.raises(ConfigError, match=r"^function is"):
        build_template(function=function)


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        ({"qualifier": ""}, "^qualifier is ''"),
        ({"qualifier": "a b"}, "^qualifier is 'a b'"),
        ({"qualifier": "x" * 129}, "^qualifier is .* 1 to 128 characters"),
        ({"function": "f:live", "qualifier": "live"}, "^qualifier is given twice: 'live' in function"),
        ({"invocation_type": "event"}, "^invocation_type is 'event': give RequestResponse"),
        ({"log_type": "tail"}, r"^log_type is 'tail': give None \| Tail \| OnError"),
        ({"invocation_type": "Event", "log_type": "Tail"}, "^log_type 'Tail' needs a synchronous call"),
        ({"invocation_type": "Event", "log_type": "OnError"}, "^log_type 'OnError' needs a synchronous call"),
        ({"invocation_type": "Event", "client_context": {}}, "^client_context needs a synchronous call"),
        ({"invocation_type": "DryRun", "durable_name": "d"}, "^durable_name cannot go with .* DryRun"),
        ({"stream": True, "durable_name": "d"}, "^durable_name cannot go with stream"),
        ({"stream": True, "invocation_type": "Event"}, "^stream needs invocation_type RequestResponse"),
        ({"stream": True, "invocation_type": "DryRun"}, "^stream needs invocation_type RequestResponse"),
        ({"tenant_id": ""}, "^tenant_id is ''"),
        ({"tenant_id": "a\nb"}, "^tenant_id is 'a.*nb'"),
        ({"tenant_id": "t" * 257}, "^tenant_id is .* 1 to 256 characters"),
        ({"tenant_id": 7}, "^tenant_id is 7"),
        ({"durable_name": "a b"}, "^durable_name is 'a b'"),
        ({"durable_name": "d" * 65}, "^durable_name is .* 1 to 64 characters"),
        ({"client_context": "{"}, "^client_context is '{': give a JSON object"),
        ({"client_context": "[1]"}, "give a JSON object"),
        ({"client_context": "bm8="}, "give a JSON object"),
        ({"client_context": {"a": float("nan")}}, "^client_context has no JSON form"),
        ({"client_context": {"a": object()}}, "^client_context has no JSON form"),
        (
            {"client_context": {"a": "x" * 2_700}},
            "^client_context has 3,6.. bytes of base64; Lambda takes 3,583",
        ),
    ],
)
def test_a_broken_rule_is_named(options: dict[str, Any], rule: str) -> None:
    """Whatever Lambda would refuse is refused before sending, in one line that names the rule."""
    with pytest.raises(ConfigError, match=rule) as refusal:
        build_template(**{"function": "f", **options})
    assert "\n" not in str(refusal.value)


def test_every_parameter_goes_where_the_model_has_it() -> None:
    """Headers in lower case and sorted, the qualifier in the query, all of them as botocore names them."""
    template = build_template(
        function="f",
        qualifier="$LATEST",
        log_type="OnError",
        client_context={"custom": {"a": "ü"}},
        tenant_id="tenant/1 @x",
        durable_name="order-17",
    )
    encoded = base64.b64encode(b'{"custom":{"a":"\\u00fc"}}').decode()
    assert template.query == "Qualifier=%24LATEST"
    assert template.headers == (
        ("x-amz-client-context", encoded),
        ("x-amz-durable-execution-name", "order-17"),
        ("x-amz-log-type", "Tail"),
        ("x-amz-tenant-id", "tenant/1 @x"),
    )
    assert template.sdk_params == {
        "FunctionName": "f",
        "Qualifier": "$LATEST",
        "LogType": "Tail",
        "ClientContext": encoded,
        "TenantId": "tenant/1 @x",
        "DurableExecutionName": "order-17",
    }


def test_defaults_are_not_sent() -> None:
    """A plain call has no X-Amz header, as botocore's has none."""
    template = build_template(function="f")
    assert (template.query, template.headers, template.sdk_params) == ("", (), {"FunctionName": "f"})


def test_a_streaming_call_has_its_own_path() -> None:
    """stream asks InvokeWithResponseStream."""
    template = build_template(function="f", stream=True)
    assert template.path == "/2021-11-15/functions/f/response-streaming-invocations"
    assert template.streaming


@pytest.mark.parametrize("context", ['{"a": 1}', {"a": 1}, base64.b64encode(b'{"a": 1}').decode()])
def test_client_context_is_json_text_an_object_or_its_base64(context: Any) -> None:
    """However it is given, Lambda gets base64 of the same object."""
    (_, sent) = build_template(function="f", client_context=context).headers[0]
    assert json.loads(base64.b64decode(sent)) == {"a": 1}


def test_client_context_may_fill_its_limit() -> None:
    """3,583 bytes of base64 cannot be reached exactly; the last multiple of four below it is taken."""
    fits = '{"a":"' + "x" * 2_677 + '"}'
    assert len(build_template(function="f", client_context=fits).headers[0][1]) <= CLIENT_CONTEXT_BYTES
    with pytest.raises(ConfigError, match="bytes of base64"):
        build_template(function="f", client_context='{"a":"' + "x" * 2_680 + '"}')


@pytest.mark.parametrize(
    ("invocation_type", "limit"),
    [("RequestResponse", 6_291_456), ("DryRun", 6_291_456), ("Event", 1_048_576)],
)
def test_a_payload_over_the_limit_is_told(invocation_type: str, limit: int) -> None:
    """The largest payload passes; one byte more is refused with both numbers."""
    template = build_template(function="f", invocation_type=invocation_type)
    assert payload_fault(template, b"") is None
    assert payload_fault(template, bytes(limit)) is None
    fault = payload_fault(template, bytes(limit + 1))
    assert fault is not None
    assert fault.type == "PayloadTooLarge"
    assert f"{limit + 1:,} bytes" in fault.message
    assert f"{limit:,}" in fault.message


@pytest.mark.parametrize(
    ("function", "region"),
    [
        ("f", None),
        ("us-east-1:f", None),
        ("123456789012:function:f", None),
        ("arn:aws:lambda:eu-west-1:123456789012:function:f:live", "eu-west-1"),
        ("arn:aws-us-gov:lambda:us-gov-west-1:123456789012:function:f", "us-gov-west-1"),
        ("arn:aws-eusc:lambda:eusc-de-east-1:123456789012:function:f", "eusc-de-east-1"),
        ("arn:aws-iso-b:lambda:us-isob-east-1:123456789012:function:f", "us-isob-east-1"),
    ],
)
def test_a_full_arn_names_its_region(function: str, region: str | None) -> None:
    """Nothing but a full ARN does."""
    assert region_of(function) == region


@given(st.text(max_size=40), st.text(max_size=10), st.text(max_size=10))
def test_hostile_parameters_are_refused_or_safe(function: str, qualifier: str, tenant_id: str) -> None:
    """Whatever is accepted stays within its path segment, its query value and its header."""
    try:
        template = build_template(function=function, qualifier=qualifier, tenant_id=tenant_id)
    except ConfigError:
        return
    assert template.path.count("/") == 4
    assert not set(template.path + template.query) & set(" ?#\r\n&")
    assert all(value.isprintable() and value.isascii() for _, value in template.headers)
