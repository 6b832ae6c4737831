"""What a run makes of an item of its input: a record, after the selection, or one that is not sent again."""

from __future__ import annotations

import msgspec

from fanout.dispatcher.record import InputRecord
from fanout.inputs import Item, SelectionFailed, Selector
from fanout.model import ErrorDetail, Record, Verdict

MAY_HAVE_RUN = ErrorDetail(
    "MayHaveRun",
    "it may have been sent before the run was cut off, and was not sent again (--may-have-run skip)",
)


def as_suspect(record: InputRecord) -> InputRecord:
    """A record that may have run, and is not to be sent again."""
    if record.fault is None:
        record.fault, record.fault_verdict = MAY_HAVE_RUN, Verdict.AMBIGUOUS
    return record


def selected(selector: Selector, record: InputRecord) -> InputRecord:
    """A record of a program, after the selection. What it names itself by comes before an expression."""
    if record.fault is not None:
        return record
    without_key = selector.without_key
    chosen = record_of_item(selector, record.seq, Item(record.body))
    if chosen.own is not None and record.own is not None and record.own.durable_name is None:
        chosen.own = msgspec.structs.replace(record.own, durable_name=chosen.own.durable_name)
    elif record.own is not None:
        chosen.own = record.own
    if record.key is not None:
        chosen.key, selector.without_key = record.key, without_key
    return chosen


def record_of_item(selector: Selector | None, seq: int, item: Item) -> InputRecord:
    """The record of an item of the input, after the selection. Never raises."""
    if item.error is not None or selector is None:
        return InputRecord(seq, item.payload, None, item.line, item.source, None, item.error)
    try:
        body, key, durable_name = selector.apply(item.payload)
    except SelectionFailed as error:
        fault = ErrorDetail("SelectionFailed", str(error))
        return InputRecord(seq, item.payload, line=item.line, source=item.source, fault=fault)
    except Exception as error:  # noqa: BLE001 - whatever is raised is this record's outcome
        fault = ErrorDetail("SelectionFailed", f"{type(error).__name__}: {error}")
        return InputRecord(seq, item.payload, line=item.line, source=item.source, fault=fault)
    own = None if durable_name is None else Record(None, durable_name=durable_name)
    return InputRecord(seq, body, key, item.line, item.source, own)
