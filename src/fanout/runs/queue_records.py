"""Messages of a queue as records, and what earlier sessions know of them."""

from __future__ import annotations

import hashlib
from collections.abc import Container, Iterable
from typing import Protocol

import msgspec

from fanout.dispatcher.record import InputRecord
from fanout.inputs import Item, Selector
from fanout.journal import SeqSet
from fanout.model import OK_STATUSES, ErrorDetail, Status, Verdict
from fanout.payload import json_fault
from fanout.queues.message import Message, sqs_record
from fanout.runs.item_records import MAY_HAVE_RUN, record_of_item

GONE = ErrorDetail(
    "MessageGone", "its message did not come back: another reader has it, or it is too old for the queue"
)


class Ended(Protocol):
    """The members of an outcome that say how its record ended."""

    @property
    def seq(self) -> int: ...

    @property
    def status(self) -> Status: ...


class Settled(msgspec.Struct):
    """The knowledge of earlier sessions about a run's records."""

    ok: SeqSet = msgspec.field(default_factory=SeqSet)
    failed: SeqSet = msgspec.field(default_factory=SeqSet)
    suspects: Container[int] = ()  # may have run, and are not sent again
    may_have_run: Container[int] = ()

    def add(self, outcomes: Iterable[Ended]) -> None:
        """Take later outcomes."""
        for outcome in outcomes:
            (self.ok if outcome.status in OK_STATUSES else self.failed).add(outcome.seq)


class Queue(Protocol):
    """The names of a queue, as an event of its trigger has them."""

    arn: str
    region: str


class QueueRecords:
    """Makes records of messages: checked, selected, and with ``as_event`` the element of a trigger's event.

    ``is_text``: a body is any text, and its payload a JSON string.
    """

    def __init__(
        self, queue: Queue, settled: Settled, *, selector: Selector | None, as_event: bool, is_text: bool
    ) -> None:
        self._queue = queue
        self._settled = settled
        self._selector = None if selector is None or selector.is_identity else selector
        self._as_event = as_event
        self._is_text = is_text

    def of(self, seq: int, message: Message) -> InputRecord:
        """The record of a message: one that may have run in an earlier session is a fault."""
        body = message.body.encode("utf-8", "surrogatepass")
        if self._is_text:
            body = msgspec.json.encode(message.body)
        fault = None
        if (not self._as_event or self._selector is not None) and (problem := json_fault(body)) is not None:
            fault = ErrorDetail("InvalidJson", problem)
        record = record_of_item(self._selector, seq, Item(body, error=fault))
        if self._as_event and record.fault is None:
            record.identifier = message.message_id
            record.element = self._element(message, record.body if self._selector is not None else None)
        if record.fault is None and seq in self._settled.suspects:
            record.fault, record.fault_verdict = MAY_HAVE_RUN, Verdict.AMBIGUOUS
        return record

    def gone(self, seq: int) -> InputRecord:
        """The record of a message that did not come back."""
        may_have_run = seq in self._settled.may_have_run or seq in self._settled.suspects
        verdict = Verdict.AMBIGUOUS if may_have_run else Verdict.TRANSIENT
        return InputRecord(seq, b"", fault=GONE, fault_verdict=verdict)

    def _element(self, message: Message, selected: bytes | None) -> bytes:
        if selected is not None:
            md5 = hashlib.md5(selected, usedforsecurity=False).hexdigest()
            message = msgspec.structs.replace(message, body=selected.decode(), md5_of_body=md5)
        return sqs_record(message, queue_arn=self._queue.arn, region=self._queue.region)
