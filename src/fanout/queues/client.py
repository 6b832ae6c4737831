"""A client of one SQS queue: what it is, its messages received, extended and deleted.

What it cannot do is one line: SourceError once the queue was there, ConfigError or FatalRefusal before.
"""

from __future__ import annotations

import asyncio
from typing import Any, Self
from urllib.parse import urlsplit

import msgspec

from fanout.aws import AwsSession
from fanout.errors import ConfigError, FatalRefusal, SourceError
from fanout.queues.hold import Receipt
from fanout.queues.location import QueueLocation
from fanout.queues.message import Message
from fanout.queues.requests import SqsRefusal, SqsRequests
from fanout.transports.endpoint import Endpoint
from fanout.transports.signed_http import SignedHttp

_NO_SUCH = frozenset({"QueueDoesNotExist", "NonExistentQueue", "QueueDeletedRecently"})
_NO_ACCESS = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId",
     "InvalidSignatureException", "SignatureDoesNotMatch", "ExpiredTokenException", "ExpiredToken",
     "KmsAccessDenied", "MissingAuthenticationToken", "InvalidSecurity", "OptInRequired"}
)  # fmt: skip
_CANNOT_EXIST = "this-receipt-cannot-exist"


class _Received(msgspec.Struct, rename="pascal"):
    messages: list[Message] = []


class _Failed(msgspec.Struct, rename="pascal"):
    id: str
    code: str = ""
    sender_fault: bool = False


class _BatchReply(msgspec.Struct, rename="pascal"):
    failed: list[_Failed] = []


class _QueueUrl(msgspec.Struct, rename="pascal"):
    queue_url: str


class _Attributes(msgspec.Struct, rename="pascal"):
    attributes: dict[str, str] = {}


_received = msgspec.json.Decoder(_Received)
_batch_reply = msgspec.json.Decoder(_BatchReply)


class SqsClient:
    """One queue. Made by ``open``; ``arn`` and ``region`` are the queue's, ``redrives`` whether a redrive
    policy counts its receives (None where that may not be read).
    """

    def __init__(self, http: SignedHttp, location: QueueLocation, region: str) -> None:
        self._requests = SqsRequests(http, location.text)
        self._location = location
        self.region = region
        self.url = location.url or ""
        self.arn = f"arn:aws:sqs:{region}:{location.account or '000000000000'}:{location.name}"
        self.redrives: bool | None = None

    @classmethod
    async def open(cls, session: AwsSession, location: QueueLocation) -> Self:
        """Find the queue, and read what it says of itself. Raises ConfigError or FatalRefusal."""
        region = location.region or session.region
        base_url = await session.endpoint_of("sqs", region)
        client = cls(SignedHttp(session, Endpoint(base_url, region, "sqs")), location, region)
        try:
            await client._find()
        except BaseException:
            await client.aclose()
            raise
        return client

    def __str__(self) -> str:
        return self._location.text

    async def check_access(self, *, deletes: bool = True) -> None:
        """See that messages may be deleted and extended, with a receipt that cannot exist.

        Raises FatalRefusal naming the permission that is missing.
        """
        asked: list[tuple[str, dict[str, Any]]] = [("ChangeMessageVisibility", {"VisibilityTimeout": 0})]
        if deletes:
            asked.append(("DeleteMessage", {}))
        for action, members in asked:
            try:
                await self._call(action, {"ReceiptHandle": _CANNOT_EXIST, **members})
            except SqsRefusal as refusal:
                if refusal.code in _NO_ACCESS:
                    raise self._no_access(action, refusal) from refusal

    async def receive(
        self, most: int, *, visibility_s: int, wait_s: int, with_attributes: bool = False
    ) -> list[Message]:
        """Up to ten messages, after waiting for the first for so long. Raises SourceError.

        Of more in flight than SQS allows (120,000) comes nothing, after a second.
        """
        members: dict[str, Any] = {
            "MaxNumberOfMessages": min(10, most),
            "VisibilityTimeout": visibility_s,
            "WaitTimeSeconds": wait_s,
        }
        if with_attributes:
            members |= {"AttributeNames": ["All"], "MessageAttributeNames": ["All"]}
        try:
            body = await self._call("ReceiveMessage", members, wait_s=wait_s, hides_s=visibility_s)
        except SqsRefusal as refusal:
            if refusal.code.endswith("OverLimit"):
                await asyncio.sleep(1.0)
                return []
            raise self._fault("ReceiveMessage", refusal) from refusal
        return self._requests.decode(_received, body).messages

    async def delete(self, entries: list[Receipt]) -> list[Receipt]:
        """Delete up to ten messages; returns those whose receipt is no longer good. Raises SourceError."""
        return await self._batch(
            "DeleteMessageBatch", entries, lambda entry: {"ReceiptHandle": entry.receipt}
        )

    async def extend(self, entries: list[Receipt]) -> list[Receipt]:
        """Set the visibility of up to ten messages, from now; returns those that are not in flight."""
        return await self._batch(
            "ChangeMessageVisibilityBatch",
            entries,
            lambda entry: {"ReceiptHandle": entry.receipt, "VisibilityTimeout": entry.visibility_s},
        )

    @property
    def lost_receive_s(self) -> float:
        """When a message whose handing out got lost on the way can be seen again, of the loop's clock."""
        return self._requests.lost_receive_s

    async def aclose(self) -> None:
        """Close the connections."""
        await self._requests.aclose()

    async def _find(self) -> None:
        location = self._location
        try:
            if not self.url:
                asked = {"QueueName": location.name}
                if location.account is not None:
                    asked["QueueOwnerAWSAccountId"] = location.account
                body = await self._requests.call("GetQueueUrl", asked)
                self.url = self._requests.decode(msgspec.json.Decoder(_QueueUrl), body).queue_url
                account = urlsplit(self.url).path.strip("/").split("/")[0]
                self.arn = f"arn:aws:sqs:{self.region}:{account}:{location.name}"
        except SqsRefusal as refusal:
            raise self._first_fault("GetQueueUrl", refusal) from refusal
        try:
            body = await self._call("GetQueueAttributes", {"AttributeNames": ["All"]})
        except SqsRefusal as refusal:
            if refusal.code in _NO_SUCH:
                raise self._first_fault("GetQueueAttributes", refusal) from refusal
            return  # it may be denied: nothing that must be known stands there
        attributes = self._requests.decode(msgspec.json.Decoder(_Attributes), body).attributes
        self.arn = attributes.get("QueueArn", self.arn)
        self.redrives = "RedrivePolicy" in attributes
        if attributes.get("FifoQueue") == "true":
            raise ConfigError(f"{self} is a FIFO queue: only standard queues can be an input for now")

    async def _batch(self, action: str, entries: list[Receipt], members: Any) -> list[Receipt]:
        asked = {str(at): {"Id": str(at), **members(entry)} for at, entry in enumerate(entries)}
        failed = await self._failed(action, asked)
        refused = [each.id for each in failed if each.sender_fault]
        again = {each.id: asked[each.id] for each in failed if not each.sender_fault}
        if again:  # SQS's own fault: once more
            refused += [each.id for each in await self._failed(action, again)]
        return [entries[int(at)] for at in refused]

    async def _failed(self, action: str, asked: dict[str, Any]) -> list[_Failed]:
        try:
            reply = await self._call(action, {"Entries": list(asked.values())})
        except SqsRefusal as refusal:
            raise self._fault(action, refusal) from refusal
        failed = self._requests.decode(_batch_reply, reply).failed
        for each in failed:
            if each.id not in asked:
                raise SourceError(f"{self} did not answer as SQS does: it names an entry {each.id!r}")
        return failed

    async def _call(self, action: str, members: dict[str, Any], **more: int) -> bytes:
        return await self._requests.call(action, {"QueueUrl": self.url, **members}, **more)

    def _first_fault(self, action: str, refusal: SqsRefusal) -> Exception:
        if refusal.code in _NO_SUCH:
            return ConfigError(
                f"there is no queue {self} in {self.region}: check its name, --region and account"
            )
        if refusal.code in _NO_ACCESS:
            return self._no_access(action, refusal)
        return ConfigError(f"{self} cannot be used: {refusal}")

    def _fault(self, action: str, refusal: SqsRefusal) -> Exception:
        if refusal.code in _NO_SUCH:
            return SourceError(f"{self} is gone: the queue was deleted")
        if refusal.code in _NO_ACCESS:
            return SourceError(f"{self}: sqs:{action.removesuffix('Batch')} is denied: {refusal}")
        return SourceError(f"{self}: {action} failed: {refusal}")

    def _no_access(self, action: str, refusal: SqsRefusal) -> FatalRefusal:
        return FatalRefusal(
            f"{self}: sqs:{action} is denied ({refusal}): allow it to these credentials",
            code=refusal.code,
            http_status=refusal.http_status,
        )
