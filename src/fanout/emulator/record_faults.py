"""Faults of single records within a batch, for functions that are simulated. Pure.

A poisonous record is known by its content: it fails in every call, in every shape of batch, and
alone. Other items fail by chance, and only where the reply can name them.
"""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass
from typing import Any

import msgspec

from fanout.emulator.payloads import decode

_HASH_RANGE = float(1 << 64)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The function raises, or answers ``reply``, or neither: then it answers as without faults."""

    raises: bool = False
    reply: bytes | None = None


_FINE = Verdict()
_RAISES = Verdict(raises=True)


class RecordFaults:
    """Decide which records of a payload fail."""

    def __init__(self, seed: int, name: str, *, poison_rate: float, item_error_rate: float) -> None:
        self._salt = f"{seed}:{name}:".encode()
        self._poison_rate = poison_rate
        self._item_error_rate = item_error_rate
        self._random = random.Random(f"{seed}:{name}:items").random  # noqa: S311 - a simulation, no secret

    def judge(self, payload: bytes) -> Verdict:
        """Judge one call: an SQS event, a batch of items, an array, or one record."""
        try:
            event = decode(payload)
        except (ValueError, RecursionError):
            return _FINE
        if isinstance(event, dict) and _is_sqs(event.get("Records")):
            failed = [{"itemIdentifier": item["messageId"]} for item in event["Records"] if self._fails(item)]
            return Verdict(reply=msgspec.json.encode({"batchItemFailures": failed}))
        if isinstance(event, dict) and isinstance(event.get("Items"), list):
            return _RAISES if any(map(self.is_poison, event["Items"])) else _FINE
        records = event if isinstance(event, list) else [event]
        return _RAISES if any(map(self.is_poison, records)) else _FINE

    def is_poison(self, record: Any) -> bool:
        """Say whether this record always fails."""
        if not self._poison_rate:
            return False
        content = self._salt + msgspec.json.encode(record, order="deterministic")
        return int.from_bytes(hashlib.sha256(content).digest()[:8]) / _HASH_RANGE < self._poison_rate

    def _fails(self, message: dict[str, Any]) -> bool:
        body = message.get("body", "")
        try:
            record = decode(body.encode())
        except (ValueError, AttributeError, RecursionError):
            record = str(body)
        return self.is_poison(record) or self._random() < self._item_error_rate


def _is_sqs(records: Any) -> bool:
    return isinstance(records, list) and all(
        isinstance(record, dict) and isinstance(record.get("messageId"), str) for record in records
    )
