"""The payload of a batch, in the shapes that functions read already.

``items`` is the event of Step Functions' Distributed Map (``{"BatchInput":…,"Items":[…]}``), ``sqs``
the event of a queue's trigger, ``array`` a bare JSON array. Every record is encoded once, as an
element; a payload's size is known before it is joined: ``empty_bytes``, the elements, and a comma
between each two.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from fanout.batching.plan import BatchPlan

_NO_ACCOUNT = "000000000000"
_encode = msgspec.json.Encoder().encode


class SqsAttributes(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of a queue that stand in each record of its events.

    For records that come from no queue, the queue's name is the run's; times are Unix milliseconds.
    """

    queue_arn: str
    region: str
    sender_id: str = "fanout"

    @classmethod
    def of_function(cls, name: str, *, region: str, account: str | None = None) -> SqsAttributes:
        """The attributes of records for a function, which has no such queue."""
        arn = f"arn:aws:sqs:{region}:{account or _NO_ACCOUNT}:fanout-{name}"
        return cls(queue_arn=arn, region=region)


class Shape:
    """One shape: how a record becomes an element, and elements become a payload."""

    def __init__(self, prefix: bytes, suffix: bytes, sqs: SqsAttributes | None = None) -> None:
        self._prefix = prefix
        self._suffix = suffix
        self._sqs = sqs
        self.empty_bytes = len(prefix) + len(suffix)

    def element(
        self, body: bytes, identifier: str = "", *, sent_ms: int = 0, message: dict[str, Any] | None = None
    ) -> bytes:
        """A record as an element: its JSON as it stands, or the SQS message that carries it.

        ``message`` holds members of a message that came from a queue (``receiptHandle``,
        ``attributes``, ``messageAttributes``, ``md5OfBody`` …): they are passed on as they came.
        """
        if self._sqs is None:
            return body
        text = body.decode("utf-8", "surrogateescape") if message is None else message["body"]
        made: dict[str, Any] = {
            "messageId": identifier,
            "receiptHandle": identifier,
            "body": text,
            "attributes": {
                "ApproximateReceiveCount": "1",
                "SentTimestamp": str(sent_ms),
                "SenderId": self._sqs.sender_id,
                "ApproximateFirstReceiveTimestamp": str(sent_ms),
            },
            "messageAttributes": {},
            "md5OfBody": hashlib.md5(body, usedforsecurity=False).hexdigest(),
            "eventSource": "aws:sqs",
            "eventSourceARN": self._sqs.queue_arn,
            "awsRegion": self._sqs.region,
        }
        if message is not None:
            made |= message
        return _encode(made)

    def payload(self, elements: Sequence[bytes]) -> bytes:
        """The payload of a call that carries these elements, in their order."""
        return self._prefix + b",".join(elements) + self._suffix


def shape_of(plan: BatchPlan, sqs: SqsAttributes | None = None) -> Shape:
    """The shape that a plan asks for. ``sqs`` is needed for shape ``sqs`` alone."""
    if plan.shape == "array":
        return Shape(b"[", b"]")
    if plan.shape == "sqs":
        return Shape(b'{"Records":[', b"]}", sqs or SqsAttributes(queue_arn="", region=""))
    if plan.input is None:
        return Shape(b'{"Items":[', b"]}")
    return Shape(b'{"BatchInput":' + plan.input.strip() + b',"Items":[', b"]}")
