"""The forming of batches: which records of a feed share a call, and when a batch goes out unfilled."""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence

import msgspec

from fanout.batching import BatchPlan, SqsAttributes, message_id, run_namespace, shape_of
from fanout.config import Options
from fanout.dispatcher.call import Batch, Call, Feed
from fanout.dispatcher.call_maker import CallMaker
from fanout.dispatcher.record import InputRecord
from fanout.errors import ConfigError
from fanout.function_name import parse_function_name
from fanout.invoke_request import EVENT_PAYLOAD_BYTES, SYNC_PAYLOAD_BYTES
from fanout.model import ErrorDetail, InvokeTemplate
from fanout.payload import encode

_NO_REGION = "us-east-1"  # in events of shape sqs, where the transport is the caller's own
_BATCH_OPTIONS = ("batch_bytes", "batch_input", "batch_reply", "batch_shape", "bisect")


def plan_of(options: Options) -> BatchPlan | None:
    """The batches that options ask for; None for a call a record. Raises ConfigError for what cannot hold."""
    size = 1 if options.batch is None else options.batch
    if size == 1 and options.batch_shape is None:
        given = [name for name in _BATCH_OPTIONS if getattr(options, name) not in (None, False)]
        if given:
            raise ConfigError(f"{given[0]} goes with batch: give batch, the records in one call")
        return None
    for name in ("stream", "durable_name"):
        if getattr(options, name):
            raise ConfigError(f"{name} and batch exclude each other: give one of them")
    if options.bisect and not options.idempotent:
        raise ConfigError("bisect sends records again that have run: give idempotent too, if they may")
    return BatchPlan(
        size=size,
        max_bytes=options.batch_bytes,
        wait_s=options.batch_wait,
        shape="items" if options.batch_shape is None else options.batch_shape,
        input=None if options.batch_input is None else _json(options.batch_input),
        reply=options.batch_reply,
        bisect=options.bisect,
    )


def _json(value: object) -> bytes:
    try:
        return encode(value)
    except Exception as error:
        raise ConfigError(f"batch_input has no JSON form: {error}") from error


class _Forming(msgspec.Struct):
    """A batch that is not full yet. All its records go with one template."""

    template: InvokeTemplate
    due_s: float
    records: list[InputRecord] = []
    elements: list[bytes] = []
    identifiers: list[str] = []
    elements_bytes: int = 0


class Batcher:
    """Batches of one feed. Records with parameters of their own share calls with their like alone."""

    def __init__(
        self, plan: BatchPlan, calls: CallMaker, run_id: str, sqs: SqsAttributes | None = None
    ) -> None:
        self.plan = plan
        self._calls = calls
        self._shape = shape_of(plan, sqs)
        self._namespace = run_namespace(run_id)
        most = EVENT_PAYLOAD_BYTES if calls.template.invocation_type == "Event" else SYNC_PAYLOAD_BYTES
        self._lambda_bytes = most
        self._max_bytes = most if plan.max_bytes is None else min(most, plan.max_bytes)
        self._has_names = plan.shape == "sqs"
        self._empty_bytes = self._shape.empty_bytes
        self._size = plan.size
        # By the identity of the template, which it keeps; the oldest first, as they all wait equally long.
        self._forming: dict[int, _Forming] = {}

    @property
    def count(self) -> int:
        """The number of records in batches that are not full."""
        return sum(len(forming.records) for forming in self._forming.values())

    @property
    def is_empty(self) -> bool:
        """True if no record waits."""
        return not self._forming

    @property
    def due_s(self) -> float | None:
        """The moment at which the next unfilled batch goes out, of the engine's clock; None without one."""
        oldest = self._oldest()
        return None if oldest is None else oldest.due_s

    def _oldest(self) -> _Forming | None:
        return next(iter(self._forming.values()), None)

    def add(self, feed: Feed, record: InputRecord, now_s: float) -> Call | None:
        """Put a record into a batch. Returns a call that is complete: a full batch, or a fault by itself."""
        template = self._calls.template if record.own is None else self._calls.template_of(record)
        identifier = record.identifier or ""
        element = b""
        if record.fault is None:
            if not self._has_names:  # the element is the record as it stands
                element = record.element or record.body
            else:
                if not identifier:
                    identifier = message_id(self._namespace, record.seq)
                sent_ms = int(time.time() * 1000)
                element = record.element or self._shape.element(record.body, identifier, sent_ms=sent_ms)
            if not element:  # Lambda takes no payload at all, but an array has no element without a text
                record.fault = ErrorDetail(
                    "InvalidPayload", "a batch holds no empty payload: send null instead"
                )
            n_bytes = self._empty_bytes + len(element)
            if n_bytes > self._lambda_bytes:
                record.fault = ErrorDetail(
                    "PayloadTooLarge",
                    f"the payload has {n_bytes:,} bytes by itself; a call may have {self._lambda_bytes:,}",
                )
        if record.fault is not None:
            return Call(feed, (record,), record.body, template, now_s)
        forming = self._forming.get(id(template))
        full: Call | None = None
        if forming is not None:
            count = len(forming.records)  # and as many commas
            if self._empty_bytes + forming.elements_bytes + len(element) + count > self._max_bytes:
                full = self._complete(feed, forming, now_s)
                forming = None
        if forming is None:
            forming = self._forming[id(template)] = _Forming(template, now_s + self.plan.wait_s)
        forming.records.append(record)
        forming.elements.append(element)
        forming.identifiers.append(identifier)
        forming.elements_bytes += len(element)
        if full is None and len(forming.records) >= self._size:
            full = self._complete(feed, forming, now_s)
        return full

    def remove(self, seq: int) -> InputRecord | None:
        """Take a record out of its batch, if that is not complete."""
        for key, forming in self._forming.items():
            for index, record in enumerate(forming.records):
                if record.seq == seq:
                    forming.elements_bytes -= len(forming.elements[index])
                    del forming.records[index], forming.elements[index], forming.identifiers[index]
                    if not forming.records:
                        del self._forming[key]
                    return record
        return None

    def due(self, feed: Feed, now_s: float, *, is_last: bool) -> Call | None:
        """A batch that has waited long enough, or with ``is_last`` any."""
        oldest = self._oldest()
        if oldest is None or not (is_last or oldest.due_s <= now_s):
            return None
        return self._complete(feed, oldest, now_s)

    def part(self, call: Call, indexes: Sequence[int]) -> Call:
        """A call of some records of another, with what that one went through; its batch is a new one."""
        batch = call.batch
        assert batch is not None
        part = self._call(
            call.feed,
            [call.records[index] for index in indexes],
            [batch.elements[index] for index in indexes],
            [batch.identifiers[index] for index in indexes],
            call.template,
            call.pulled_s,
        )
        for name in (
            *("attempts", "throttles", "function_error_retries", "first_sent_s", "last", "last_end"),
            *("last_http_status", "may_have_run", "ran", "spared"),
        ):
            setattr(part, name, getattr(call, name))
        part.history = None if call.history is None else list(call.history)
        return part

    def _complete(self, feed: Feed, forming: _Forming, now_s: float) -> Call:
        del self._forming[id(forming.template)]
        return self._call(
            feed, forming.records, forming.elements, forming.identifiers, forming.template, now_s
        )

    def _call(
        self,
        feed: Feed,
        records: Sequence[InputRecord],
        elements: Sequence[bytes],
        identifiers: Sequence[str],
        template: InvokeTemplate,
        pulled_s: float,
    ) -> Call:
        batch = Batch(secrets.token_urlsafe(9), tuple(elements), tuple(identifiers))
        return Call(feed, tuple(records), self._shape.payload(elements), template, pulled_s, batch=batch)


def batcher_of(
    plan: BatchPlan | None, calls: CallMaker, run_id: str, function: str, region: str | None
) -> Batcher | None:
    """A batcher for calls of a function, named in any way that Lambda takes. None without a plan.

    ``region``: where the name does not say.
    """
    if plan is None:
        return None
    parsed = parse_function_name(function)
    sqs = SqsAttributes.of_function(
        function if parsed is None else parsed["name"],
        region=(parsed and parsed["region"]) or region or _NO_REGION,
        account=parsed and parsed["account"],
    )
    return Batcher(plan, calls, run_id, sqs)
