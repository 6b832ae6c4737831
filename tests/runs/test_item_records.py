"""Records after a selection: what they name themselves stays; whatever is raised is the record's fault."""

from __future__ import annotations

import pytest

from fanout.batching.message_id import run_namespace
from fanout.batching.replies import read_reply
from fanout.dispatcher.record import InputRecord
from fanout.errors import is_short_of_memory
from fanout.inputs import Selector
from fanout.inputs.source import Item
from fanout.model import Record, Verdict
from fanout.queues.message import Message
from fanout.runs.item_records import as_suspect, record_of_item, selected


def test_what_a_record_names_itself_comes_before_an_expression() -> None:
    """Its own durable name is kept, a missing one is taken from the expression, with its other parameters."""
    selector = Selector(durable_name="id", key="id")
    named = InputRecord(0, b'{"id":"x"}', own=Record(None, durable_name="mine", qualifier="7"))
    assert selected(selector, named).own == Record(None, durable_name="mine", qualifier="7")
    unnamed = InputRecord(1, b'{"id":"x"}', key="k", own=Record(None, qualifier="7"))
    chosen = selected(selector, unnamed)
    assert (chosen.own, chosen.key) == (Record(None, durable_name="x", qualifier="7"), "k")
    plain = selected(Selector(key="id"), InputRecord(2, b'{"id":"x"}', own=Record(None, qualifier="7")))
    assert (plain.own, plain.key) == (Record(None, qualifier="7"), "x")


def test_whatever_a_selection_raises_is_the_records_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error of the expression's library that nobody foresaw, too."""

    def fail(*_: object) -> None:
        raise ZeroDivisionError("oops")

    monkeypatch.setattr(Selector, "apply", fail)
    record = record_of_item(Selector(select="a"), 3, Item(b"{}", 4))
    assert record.fault is not None
    assert (record.fault.type, record.fault.message) == ("SelectionFailed", "ZeroDivisionError: oops")
    assert as_suspect(record).fault_verdict is not Verdict.AMBIGUOUS
    assert as_suspect(InputRecord(0, b"1")).fault_verdict is Verdict.AMBIGUOUS


def test_identifiers_and_counts_that_are_odd() -> None:
    """Ids of another kind are hashed; a count that is no number is one; a reply of no JSON names none."""
    assert len({run_namespace(each) for each in ("é", "abcde", "A" * 22)}) == 3
    assert Message("m", "r", attributes={"ApproximateReceiveCount": "many"}).receive_count == 1
    results = read_reply("batchItemFailures", b"{", ["a", "b"], 2)
    assert [each.error for each in results] == [None, None]


def test_a_shortage_of_memory_is_known_by_its_causes() -> None:
    """In a group, behind another error, or by the loader's words; nothing else is one."""
    behind = RuntimeError("no")
    behind.__cause__ = MemoryError()
    for error in (MemoryError(), behind, ExceptionGroup("g", [ValueError(), behind])):
        assert is_short_of_memory(error)
    assert is_short_of_memory(RuntimeError("can't start new thread"))
    assert not is_short_of_memory(ExceptionGroup("g", [ValueError("no")]))
    assert not is_short_of_memory(None)
