"""Replies of batches: the result of each record, read from the reply of its call.

Read as the triggers that send such events read it (AWS Lambda developer guide, partial batch
responses): a reply that is not an object, or without ``batchItemFailures``, or with a null or empty
list, means that all succeeded. What does not fit (a wrong length, an unknown or empty identifier) fails
every record of the call: nothing is guessed.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from fanout.batching.plan import BatchReply
from fanout.model import ErrorDetail
from fanout.payload import decode_reply, elements_of

ITEM_FAILURE = "BatchItemFailure"
INVALID_REPLY = "BatchReplyInvalid"


class RecordResult(msgspec.Struct, frozen=True):
    """The result of one record of a call: an output (or none), or an error."""

    output: bytes | None = None
    error: ErrorDetail | None = None


_SUCCEEDED = RecordResult()
_FAILED = RecordResult(error=ErrorDetail(ITEM_FAILURE, "the function named the record in batchItemFailures"))


def read_reply(reads: BatchReply, body: bytes, identifiers: Sequence[str], count: int) -> list[RecordResult]:
    """One result for each of ``count`` records, in their order.

    ``identifiers`` are the records' names, for ``batchItemFailures`` alone.
    """
    if reads == "whole":
        return [RecordResult(output=body), *[_SUCCEEDED] * (count - 1)]
    if reads == "array":
        return _read_array(body, count)
    return _read_item_failures(body, identifiers)


def _read_array(body: bytes, count: int) -> list[RecordResult]:
    try:
        elements = elements_of(body)
    except (msgspec.DecodeError, RecursionError):
        return _invalid(count, "the reply is not a JSON array")
    if len(elements) != count:
        return _invalid(count, f"the reply has {len(elements):,} elements for {count:,} records")
    return [RecordResult(output=element) for element in elements]


def _read_item_failures(body: bytes, identifiers: Sequence[str]) -> list[RecordResult]:
    count = len(identifiers)
    try:
        reply: Any = decode_reply(body) if body else None
    except (ValueError, RecursionError):
        reply = None  # its trigger does not read it either
    failures = reply.get("batchItemFailures") if isinstance(reply, dict) else None
    if not failures:
        return [_SUCCEEDED] * count
    if not isinstance(failures, list):
        return _invalid(count, "batchItemFailures is not a list")
    known = set(identifiers)
    failed = set()
    for entry in failures:
        identifier = entry.get("itemIdentifier") if isinstance(entry, dict) else None
        if not isinstance(identifier, str) or not identifier:
            return _invalid(count, "an entry of batchItemFailures has no itemIdentifier")
        if identifier not in known:
            return _invalid(count, f"batchItemFailures names {identifier[:100]!r}, not in the batch")
        failed.add(identifier)
    return [_FAILED if identifier in failed else _SUCCEEDED for identifier in identifiers]


def _invalid(count: int, message: str) -> list[RecordResult]:
    return [RecordResult(error=ErrorDetail(INVALID_REPLY, message))] * count
