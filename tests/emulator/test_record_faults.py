"""Faults of single records: the same record fares the same in every shape."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from fanout.emulator.record_faults import RecordFaults, Verdict

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


def sqs(records: list[Any]) -> bytes:
    messages = [{"messageId": str(at), "body": json.dumps(record)} for at, record in enumerate(records)]
    return json.dumps({"Records": messages}).encode()


def failed(verdict: Verdict) -> list[int]:
    assert verdict.reply is not None
    return [int(item["itemIdentifier"]) for item in json.loads(verdict.reply)["batchItemFailures"]]


@given(st.lists(st.dictionaries(st.text(), JSON, max_size=3), min_size=1, max_size=5))
def test_a_poisonous_record_is_one_in_every_shape(records: list[Any]) -> None:
    """Named in the reply to an SQS event; in every other batch, and alone, it makes the function raise."""
    faults = RecordFaults(0, "f", poison_rate=0.3, item_error_rate=0)
    bad = [at for at, record in enumerate(records) if faults.is_poison(record)]
    assert failed(faults.judge(sqs(records))) == bad
    for batch in ({"BatchInput": 1, "Items": records}, records):
        assert faults.judge(json.dumps(batch).encode()).raises == bool(bad)
    alone = {"k": 1} | records[0] if not {"Records", "Items"} & records[0].keys() else {"k": 1}
    assert faults.judge(json.dumps(alone).encode()).raises == faults.is_poison(alone)


def test_the_rate_of_poison_is_what_was_asked() -> None:
    """Over many records; another seed picks others."""
    one, other = (RecordFaults(seed, "f", poison_rate=0.1, item_error_rate=0) for seed in (1, 2))
    chosen = [{at for at in range(4_000) if faults.is_poison({"id": at})} for faults in (one, other)]
    assert all(300 < len(found) < 500 for found in chosen)
    assert chosen[0] != chosen[1]


def test_items_fail_by_chance_and_by_name_alone() -> None:
    """At a rate of 1 each message fails; a batch whose reply cannot name them does not."""
    faults = RecordFaults(0, "f", poison_rate=0, item_error_rate=1)
    assert failed(faults.judge(sqs([1, "two", None]))) == [0, 1, 2]
    assert failed(faults.judge(sqs([]))) == []
    for other in (b'{"Items":[1]}', b"[1,2]", b"1", b'{"Records":[{}]}', b'"\\ud800"', b"[" * 3_000):
        assert faults.judge(other) == Verdict()


def test_a_body_that_is_no_json_is_a_text() -> None:
    """And so is one that is no text at all."""
    faults = RecordFaults(1, "f", poison_rate=1.0, item_error_rate=0.0)
    messages = [{"messageId": "0", "body": "{"}, {"messageId": "1", "body": 7}]
    assert failed(faults.judge(json.dumps({"Records": messages}).encode())) == [0, 1]
