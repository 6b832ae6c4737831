"""Batch policy: shapes, sizes and replies, as the functions and triggers that exist read them."""

from __future__ import annotations

import hashlib
import json
import uuid
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.batching import BatchPlan, SqsAttributes, message_id, read_reply, run_namespace, shape_of
from fanout.batching.plan import BatchReply
from fanout.errors import ConfigError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.lists(inner, max_size=3)
)


@given(
    bodies=st.lists(JSON.map(lambda value: json.dumps(value).encode()), min_size=1, max_size=5),
    shape=st.sampled_from(["items", "sqs", "array"]),
    batch_input=st.none() | JSON.map(lambda value: json.dumps(value).encode()),
)
def test_a_payload_holds_its_records_in_order_and_its_size_is_known(
    bodies: list[bytes], shape: Any, batch_input: bytes | None
) -> None:
    """The payload is valid JSON in the shape asked for, as large as was computed before."""
    plan = BatchPlan(size=5, shape=shape, input=batch_input if shape == "items" else None)
    made = shape_of(plan, SqsAttributes(queue_arn="arn:aws:sqs:eu-west-1:1:q", region="eu-west-1"))
    elements = [made.element(body, str(index)) for index, body in enumerate(bodies)]
    payload = made.payload(elements)
    assert len(payload) == made.empty_bytes + len(b",".join(elements))
    event = json.loads(payload)
    wanted = [json.loads(body) for body in bodies]
    if shape == "array":
        assert event == wanted
    elif shape == "items":
        assert event["Items"] == wanted
        assert ("BatchInput" in event) == (batch_input is not None)
    else:
        assert [json.loads(record["body"]) for record in event["Records"]] == wanted
        assert [record["messageId"] for record in event["Records"]] == [str(n) for n in range(len(bodies))]
        assert event["Records"][0]["md5OfBody"] == hashlib.md5(bodies[0]).hexdigest()


def test_a_name_is_the_same_for_ever_and_another_in_another_run() -> None:
    """UUID5 of run and record."""
    first = run_namespace("AAAAAAAAAAAAAAAAAAAAAA")
    assert message_id(first, 7) == str(uuid.uuid5(uuid.UUID(int=0), "7"))
    assert message_id(first, 7) != message_id(first, 8)
    assert message_id(first, 7) != message_id(run_namespace("BAAAAAAAAAAAAAAAAAAAAA"), 7)
    assert len(run_namespace("not an id")) == 16


@pytest.mark.parametrize(
    ("reads", "body", "statuses"),
    [
        ("whole", b'{"n":2}', "++"),
        ("array", b"[1,2]", "++"),
        ("array", b"[1]", "!!"),
        ("array", b'{"a":1}', "!!"),
        ("array", b"", "!!"),
        ("batchItemFailures", b"", "++"),
        ("batchItemFailures", b"null", "++"),
        ("batchItemFailures", b'"ok"', "++"),
        ("batchItemFailures", b'{"statusCode":200}', "++"),
        ("batchItemFailures", b'{"batchItemFailures":null}', "++"),
        ("batchItemFailures", b'{"batchItemFailures":[]}', "++"),
        ("batchItemFailures", b'{"batchItemFailures":[{"itemIdentifier":"b"}]}', "+-"),
        ("batchItemFailures", b'{"batchItemFailures":[{"itemIdentifier":"b"},{"itemIdentifier":"a"}]}', "--"),
        ("batchItemFailures", b'{"batchItemFailures":[{"itemIdentifier":"c"}]}', "!!"),
        ("batchItemFailures", b'{"batchItemFailures":[{"itemIdentifier":""}]}', "!!"),
        ("batchItemFailures", b'{"batchItemFailures":[{"itemIdentifier":null}]}', "!!"),
        ("batchItemFailures", b'{"batchItemFailures":[{"id":"a"}]}', "!!"),
        ("batchItemFailures", b'{"batchItemFailures":["a"]}', "!!"),
        ("batchItemFailures", b'{"batchItemFailures":"a"}', "!!"),
        ("batchItemFailures", rb'{"x":"\ud83d","batchItemFailures":[{"itemIdentifier":"b"}]}', "+-"),
        ("batchItemFailures", b'{"x":"\xff","batchItemFailures":[{"itemIdentifier":"b"}]}', "+-"),
        ("array", rb'["\ud83d",2', "!!"),
    ],
)
def test_a_reply_is_read_as_its_trigger_reads_it(reads: BatchReply, body: bytes, statuses: str) -> None:
    """What does not fit fails every record of the call."""
    marks = {None: "+", "BatchItemFailure": "-", "BatchReplyInvalid": "!"}
    results = read_reply(reads, body, ["a", "b"], 2)
    assert "".join(marks[None if r.error is None else r.error.type] for r in results) == statuses


def test_outputs_of_an_array_go_to_their_records_and_a_whole_one_to_the_first() -> None:
    """Bytes as they came."""
    assert [r.output for r in read_reply("array", b'[1.0, {"a": 2}]', [], 2)] == [b"1.0", b'{"a": 2}']
    assert [r.output for r in read_reply("whole", b"3", [], 2)] == [b"3", None]
    halves = [rb'"a, ]\ud83d"', b"1.50", rb'{"a": [1, "\uDC00"]}', rb'"\\ud83d"']
    array = b" [" + b" ,\n".join(halves) + b" ] "
    assert [r.output for r in read_reply("array", array, [], 4)] == halves


@pytest.mark.parametrize(
    "wrong",
    [
        {"size": 0},
        {"size": True},
        {"size": 2, "max_bytes": 0},
        {"size": 2, "wait_s": -1},
        {"size": 2, "shape": "kinesis"},
        {"size": 2, "reply": "some"},
        {"size": 2, "input": b"{"},
        {"size": 2, "shape": "array", "input": b"{}"},
        {"size": 2, "shape": "array", "reply": "batchItemFailures"},
    ],
)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, Any]) -> None:
    """One line that names the option."""
    with pytest.raises(ConfigError, match="batch"):
        BatchPlan(**wrong)


def test_any_json_is_an_input_of_batches() -> None:
    """Half of a character too, which JSON's escapes can say."""
    assert BatchPlan(size=2, input=rb'{"a":"\ud83d"}').input == rb'{"a":"\ud83d"}'
