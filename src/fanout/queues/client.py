"""A client of one SQS queue: the JSON protocol, signed and sent as the calls of ``direct`` are.

It repeats what may pass. What it cannot do is one line: SourceError once the queue was there, ConfigError
or FatalRefusal before.
Source: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/
"""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any, Self, TypeVar
from urllib.parse import quote, urlsplit

import msgspec

from fanout.aws import AwsSession
from fanout.errors import (
    ConfigError,
    ConnectFailed,
    FatalRefusal,
    RequestNotSent,
    SourceError,
    TransportError,
)
from fanout.queues.hold import Receipt
from fanout.queues.location import QueueLocation
from fanout.queues.message import Message
from fanout.transports.endpoint import Endpoint
from fanout.transports.signed_http import SignedHttp, host_header
from fanout.transports.sigv4 import RequestSigner

T = TypeVar("T")

_READ_TIMEOUT_S = 10.0
_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0
PATIENCE_S = 120.0
FIRST_PATIENCE_S = 15.0  # before the queue has ever answered: most likely it is another address
_NO_SUCH = frozenset({"QueueDoesNotExist", "NonExistentQueue", "QueueDeletedRecently"})
_THROTTLES = frozenset(
    {"RequestThrottled", "ThrottlingException", "Throttling", "KmsThrottled", "TooManyRequestsException"}
)
_NO_ACCESS = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnrecognizedClientException", "InvalidClientTokenId",
     "InvalidSignatureException", "SignatureDoesNotMatch", "ExpiredTokenException", "ExpiredToken",
     "KmsAccessDenied", "MissingAuthenticationToken", "InvalidSecurity", "OptInRequired"}
)  # fmt: skip
_CANNOT_EXIST = "this-receipt-cannot-exist"


class SqsRefusal(SourceError):
    """SQS answered, but refused: ``code`` without its namespace."""

    def __init__(self, code: str, message: str, http_status: int) -> None:
        super().__init__(f"{code}: {message}" if message else code)
        self.code = code
        self.http_status = http_status

    @property
    def may_pass(self) -> bool:
        """True if the same request may work later."""
        return self.http_status >= 500 or self.http_status == 429 or self.code in _THROTTLES


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
_error = msgspec.json.Decoder(dict[str, Any])


class SqsClient:
    """One queue. Made by ``open``; ``arn`` and ``region`` are the queue's, ``redrives`` whether a redrive
    policy counts its receives (None where that may not be read).

    ``lost_receive_s`` is when a message whose handing out got lost on the way can be seen again, of
    the loop's clock.
    """

    def __init__(self, http: SignedHttp, location: QueueLocation, region: str) -> None:
        self._http = http
        self._location = location
        self._base = urlsplit(http.endpoint.base_url)
        self._signers: dict[str, tuple[RequestSigner, str]] = {}
        self._random = random.Random()  # noqa: S311 - jitter
        self.region = region
        self.url = location.url or ""
        self.arn = f"arn:aws:sqs:{region}:{location.account or '000000000000'}:{location.name}"
        self.redrives: bool | None = None
        self._has_answered = False
        self.lost_receive_s = 0.0

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
        return self._decode(_received, body).messages

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

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _find(self) -> None:
        location = self._location
        try:
            if not self.url:
                asked = {"QueueName": location.name}
                if location.account is not None:
                    asked["QueueOwnerAWSAccountId"] = location.account
                body = await self._call("GetQueueUrl", asked)
                self.url = self._decode(msgspec.json.Decoder(_QueueUrl), body).queue_url
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
        attributes = self._decode(msgspec.json.Decoder(_Attributes), body).attributes
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
        failed = self._decode(_batch_reply, reply).failed
        for each in failed:
            if each.id not in asked:
                raise SourceError(f"{self} did not answer as SQS does: it names an entry {each.id!r}")
        return failed

    async def _call(
        self, action: str, members: dict[str, Any], *, wait_s: int = 0, hides_s: int = 0
    ) -> bytes:
        """One action, repeated while it may pass. Raises SqsRefusal, SourceError or FatalRefusal."""
        if action != "GetQueueUrl":
            members = {"QueueUrl": self.url, **members}
        body = msgspec.json.encode(members)
        begun_s = time.monotonic()
        pause_s = _FIRST_PAUSE_S
        while True:
            try:
                return await self._send(action, body, wait_s)
            except SqsRefusal as refusal:
                if not refusal.may_pass or time.monotonic() >= begun_s + self._patience_s:
                    raise
            except (ConnectionError, TimeoutError, TransportError) as error:
                if hides_s and not isinstance(
                    error, (ConnectFailed, RequestNotSent)
                ):  # the reply may have held messages, which nobody has now
                    self.lost_receive_s = asyncio.get_running_loop().time() + hides_s
                if time.monotonic() >= begun_s + self._patience_s:
                    raise SourceError(f"{self} cannot be reached: {error}") from error
            await asyncio.sleep(self._random.uniform(0, pause_s))
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    @property
    def _patience_s(self) -> float:
        return PATIENCE_S if self._has_answered else FIRST_PATIENCE_S

    async def _send(self, action: str, body: bytes, wait_s: int) -> bytes:
        http = self._http
        now_s = time.time()
        credentials = http.kept_credentials(now_s) or await http.credentials(now_s)
        signer, begin = self._signers.get(action) or self._prepare(action)
        headers, authorization = signer.sign(body, now_s, credentials)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{begin}{lines}content-length: {len(body)}\r\nauthorization: {authorization}\r\n\r\n"
        pool = http.pool
        connection = pool.take() or await pool.open()
        timeout_s = wait_s + _READ_TIMEOUT_S
        status, answered, reply = await connection.ask(head.encode("latin-1"), body, timeout_s)
        self._has_answered = True
        if status == 200:
            return reply
        raise _refusal(status, answered, reply)

    def _prepare(self, action: str) -> tuple[RequestSigner, str]:
        http, base = self._http, self._base
        host = host_header(http.endpoint.base_url)
        path = quote(base.path, safe="/%:@!$&'()*+,;=~") or "/"
        signed = (
            ("content-type", "application/x-amz-json-1.0"),
            ("x-amz-target", f"AmazonSQS.{action}"),
        )
        signer = RequestSigner(http.keys, host=host, path=path, query="", headers=signed)
        begin = (
            f"POST {http.pool.forwarded_target}{path} HTTP/1.1\r\nhost: {host}\r\n"
            f"accept-encoding: identity\r\n{http.pool.forwarded_headers}"
        )
        self._signers[action] = (signer, begin)
        return signer, begin

    def _decode(self, decoder: msgspec.json.Decoder[T], body: bytes) -> T:
        try:
            return decoder.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise SourceError(f"{self} did not answer as SQS does: {error}") from error

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


def _refusal(status: int, headers: dict[str, str], body: bytes) -> SqsRefusal:
    """The refusal in a reply: in its body, or in a header for clients of the older protocol."""
    try:
        members = _error.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        members = {}
    code = str(members.get("__type") or headers.get("x-amzn-errortype") or f"HTTP {status}")
    code = code.rpartition("#")[2].partition(":")[0].rpartition(".")[2]
    message = members.get("message") or members.get("Message") or ""
    return SqsRefusal(code, " ".join(str(message).split())[:500], status)
