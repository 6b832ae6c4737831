"""The outcomes that the result of an Event call makes of its records: of one, or of a batch's."""

from __future__ import annotations

import time
from typing import Any

import msgspec

from fanout.batching import BatchPlan, read_reply
from fanout.batching.plan import BatchShape
from fanout.config import Options
from fanout.errors import ConfigError
from fanout.model import ErrorDetail, Outcome, Status
from fanout.payload import elements_of, embed, mask_surrogates
from fanout.quantities import iso
from fanout.queues.results import CallResult


class _Message(msgspec.Struct, rename="camel"):
    message_id: str = ""
    body: str = ""


class _Items(msgspec.Struct):
    items: msgspec.Raw = msgspec.field(name="Items")


class _Records(msgspec.Struct):
    records: list[_Message] = msgspec.field(name="Records")


class OutcomeCompleter:
    """Completes accepted outcomes; ``options`` say how a batch's reply is read."""

    def __init__(self, options: Options) -> None:
        self._shape: BatchShape = options.batch_shape or "items"
        try:
            self._reads = BatchPlan(shape=self._shape, reply=options.batch_reply).reads
        except ConfigError:
            self._reads = "whole"

    def __call__(self, accepted: list[Outcome], result: CallResult) -> list[Outcome]:
        """The outcomes of one call's records. Those of a batch are told apart by their place in it."""
        if accepted[0].batch is None and self._shape != "sqs":
            return [
                _completed(each, result, result.status, result.output, result.error, result.input)
                for each in accepted
            ]
        size = max((each.batch.size if each.batch is not None else 1) for each in accepted)
        payloads, identifiers = self._parts(result.input, size)
        replies = None
        if result.status == "succeeded":
            replies = read_reply(self._reads, result.output or b"null", identifiers, size)
        completed = []
        for each in accepted:
            index = 0 if each.batch is None else each.batch.index
            payload = payloads[index] if index < len(payloads) else None
            if replies is None:
                completed.append(_completed(each, result, result.status, None, result.error, payload))
                continue
            reply = replies[index]
            status: Status = "succeeded" if reply.error is None else "function_error"
            completed.append(_completed(each, result, status, reply.output, reply.error, payload))
        return completed

    def _parts(self, payload: bytes | None, size: int) -> tuple[list[bytes], list[str]]:
        """The records' payloads and names, from the event that carried them; none where it does not fit."""
        try:
            if self._shape == "array":
                return elements_of(payload or b""), [""] * size
            if self._shape == "items":
                event = payload or b""
                masked = mask_surrogates(event)
                items = bytes(msgspec.json.decode(masked, type=_Items).items)
                at = masked.rindex(items)  # the last member, as fanout writes it
                return elements_of(event[at : at + len(items)]), [""] * size
            records = msgspec.json.decode(payload or b"", type=_Records).records
            return [each.body.encode() for each in records], [each.message_id for each in records]
        except (msgspec.DecodeError, RecursionError):
            return [], [""] * size


def _completed(
    accepted: Outcome,
    result: CallResult,
    status: Status,
    output: bytes | None,
    error: ErrorDetail | None,
    payload: bytes | None,
) -> Outcome:
    changes: dict[str, Any] = {
        "status": status,
        "error": error,
        "executed_version": result.executed_version or accepted.executed_version,
        "collected_at": iso(time.time()),
    }
    if output is not None:
        changes["output_raw"], changes["output_encoding"] = embed(output)
    if status != "succeeded" and payload is not None:
        changes["input_raw"], changes["input_encoding"] = embed(payload)
    return msgspec.structs.replace(accepted, **changes)
