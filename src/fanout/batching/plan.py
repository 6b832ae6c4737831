"""The plan of batches: how many records and bytes a call takes, its shape, how its reply is read."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

from fanout.errors import ConfigError
from fanout.payload import json_fault

BatchShape = Literal["items", "sqs", "array"]
BatchReply = Literal["whole", "array", "batchItemFailures"]

BATCH_SHAPES: tuple[BatchShape, ...] = get_args(BatchShape)
BATCH_REPLIES: tuple[BatchReply, ...] = get_args(BatchReply)
_REPLY_OF_SHAPE: dict[BatchShape, BatchReply] = {
    "items": "whole",
    "sqs": "batchItemFailures",
    "array": "array",
}
DEFAULT_WAIT_S = 0.2


class BatchPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Settings of batches. Raises ConfigError at construction, naming the field and what is allowed.

    ``size`` is the most records in one call (1: a call a record, in the shape asked for);
    ``max_bytes`` the most payload bytes, None for what Lambda takes; ``wait_s`` how long a batch of
    a slow input waits to fill; ``input`` the ``BatchInput`` of shape ``items``, as JSON bytes.
    """

    size: int = 1
    max_bytes: int | None = None
    wait_s: float = DEFAULT_WAIT_S
    shape: BatchShape = "items"
    input: bytes | None = None
    reply: BatchReply | None = None
    bisect: bool = False

    def __post_init__(self) -> None:
        if not _is_count(self.size):
            raise ConfigError(f"batch is {self.size!r}: give a whole number from 1")
        if self.max_bytes is not None and not _is_count(self.max_bytes):
            raise ConfigError(f"batch_bytes is {self.max_bytes!r}: give a whole number of bytes from 1")
        if not self.wait_s >= 0:
            raise ConfigError(f"batch_wait is {self.wait_s!r}: give seconds from 0")
        if self.shape not in BATCH_SHAPES:
            raise ConfigError(f"batch_shape is {self.shape!r}: give {' | '.join(BATCH_SHAPES)}")
        if self.reply is not None and self.reply not in BATCH_REPLIES:
            raise ConfigError(f"batch_reply is {self.reply!r}: give {' | '.join(BATCH_REPLIES)}")
        if self.reply == "batchItemFailures" and self.shape != "sqs":
            raise ConfigError(
                f"batch_reply is 'batchItemFailures' and batch_shape is {self.shape!r}: only the records of "
                "shape sqs have identifiers; give batch_shape sqs, or another batch_reply"
            )
        if self.input is not None:
            if self.shape != "items":
                raise ConfigError(f"batch_input goes with batch_shape items, not {self.shape}")
            if (fault := json_fault(self.input)) is not None:
                raise ConfigError(f"batch_input is not valid JSON: {fault}")

    @property
    def reads(self) -> BatchReply:
        """The way a reply is read: as asked, else as functions that take this shape answer."""
        return self.reply or _REPLY_OF_SHAPE[self.shape]


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1
