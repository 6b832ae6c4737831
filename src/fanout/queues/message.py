"""Messages as SQS hands them out, and the event in which a trigger would pass one on."""

from __future__ import annotations

from typing import Any

import msgspec


class Message(msgspec.Struct, rename="pascal"):
    """One received message. ``attributes`` are there only where they were asked for."""

    message_id: str
    receipt_handle: str
    body: str = ""
    attributes: dict[str, str] = {}
    message_attributes: dict[str, Any] = {}
    md5_of_body: str = msgspec.field(name="MD5OfBody", default="")

    @property
    def receive_count(self) -> int:
        """The number of times that SQS has handed it out, this one included; 1 where it is not known."""
        try:
            return int(self.attributes.get("ApproximateReceiveCount", "1"))
        except ValueError:
            return 1


def sqs_record(message: Message, *, queue_arn: str, region: str) -> bytes:
    """One element of ``Records`` in the event that the queue's own trigger would send.

    Source: https://docs.aws.amazon.com/lambda/latest/dg/with-sqs.html
    """
    return msgspec.json.encode(
        {
            "messageId": message.message_id,
            "receiptHandle": message.receipt_handle,
            "body": message.body,
            "attributes": message.attributes,
            "messageAttributes": {
                name: _attribute(value) for name, value in message.message_attributes.items()
            },
            "md5OfBody": message.md5_of_body,
            "eventSource": "aws:sqs",
            "eventSourceARN": queue_arn,
            "awsRegion": region,
        }
    )


def _attribute(value: Any) -> dict[str, Any]:
    """A message attribute, with its members' names as events have them."""
    members = value if isinstance(value, dict) else {}
    lists: dict[str, Any] = {"stringListValues": [], "binaryListValues": []}
    for name in ("StringValue", "BinaryValue"):
        if name in members:
            lists[name[0].lower() + name[1:]] = members[name]
    return {**lists, "dataType": members.get("DataType", "String")}
