"""Uploads to S3: one object in parts as its bytes come, checked by SHA-256, retried, aborted on failure."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import io
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any, Self

import anyio
import msgspec

from fanout.aws import session
from fanout.aws.clients import Clients
from fanout.aws.faults import credentials_fault
from fanout.aws.s3_faults import fault_of
from fanout.aws.s3_tries import tried
from fanout.errors import FatalRefusal, JournalError

_TOLD = {"create_multipart_upload": "UploadId", "head_object": "ContentLength"}  # else the ETag
PART_BYTES = 8 << 20  # of the first parts; S3 takes 10,000 of them, so later ones are larger
_PARTS_OF_ONE_SIZE = 1000
_ANSWER_S = 1.0  # more than the client itself waits, whose words are the better ones
_ABORT_TAKES_S = 5.0


class Uploaded(msgspec.Struct, frozen=True):
    """An object that is there. ``sha256`` is of all its bytes, in hexadecimal."""

    key: str
    size: int
    sha256: str


class S3Upload:
    """One object that is written. It appears whole in ``finish``, or not at all.

    Leaving the ``async with`` without ``finish`` aborts: S3 keeps none of the parts. Raises JournalError,
    in one line, when S3 refuses or half a minute of tries fails. ``on_wait`` gets the reason for each try
    that follows another, and the seconds until then.
    """

    def __init__(
        self,
        clients: Clients,
        bucket: str,
        key: str,
        *,
        content_type: str,
        on_wait: Callable[[str, float], None] | None = None,
    ) -> None:
        self._on_wait = on_wait
        self.size = 0
        self._clients = clients
        self._bucket, self._key = bucket, key
        self._content_type = content_type
        self._sha256 = hashlib.sha256()
        self._buffer = bytearray()
        self._upload_id: str | None = None
        self._parts: list[dict[str, Any]] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._upload_id is not None:
            with anyio.move_on_after(_ABORT_TAKES_S, shield=True), suppress(Exception):
                client = await self._clients.client("s3")
                await client.abort_multipart_upload(
                    Bucket=self._bucket, Key=self._key, UploadId=self._upload_id
                )

    async def write(self, data: bytes) -> None:
        """Add bytes; those that fill a part are sent."""
        self._sha256.update(data)
        self.size += len(data)
        self._buffer += data
        while len(self._buffer) > (part_bytes := self._part_bytes()):
            await self._send_part(bytes(self._buffer[:part_bytes]))
            del self._buffer[:part_bytes]

    async def finish(self) -> Uploaded:
        """Make the object appear."""
        rest = bytes(self._buffer)
        if self._upload_id is None:
            checksum = await _checksum(rest)
            await self._ask("put_object", rest, ContentType=self._content_type, ChecksumSHA256=checksum)
        else:
            await self._send_part(rest)
            await self._complete()
        return Uploaded(self._key, self.size, self._sha256.hexdigest())

    def _part_bytes(self) -> int:
        return PART_BYTES << (len(self._parts) // _PARTS_OF_ONE_SIZE)

    async def _send_part(self, body: bytes) -> None:
        if self._upload_id is None:
            begun = await self._ask(
                "create_multipart_upload", ContentType=self._content_type, ChecksumAlgorithm="SHA256"
            )
            self._upload_id = begun["UploadId"]
        number = len(self._parts) + 1
        checksum = await _checksum(body)
        sent = await self._ask(
            "upload_part", body, UploadId=self._upload_id, PartNumber=number, ChecksumSHA256=checksum
        )
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumSHA256": checksum})

    async def _complete(self) -> None:
        try:
            await self._ask(
                "complete_multipart_upload",
                UploadId=self._upload_id,
                MultipartUpload={"Parts": self._parts},
            )
        except JournalError as error:
            # A reply that was lost may have completed it: then the upload is gone, and the object there.
            if "NoSuchUpload" not in str(error):
                raise
            found = await self._ask("head_object")
            if found["ContentLength"] != self.size:
                raise
        self._upload_id = None

    async def _ask(self, operation: str, body: bytes | None = None, **members: Any) -> Any:
        permission = "s3:PutObject" if operation != "head_object" else "s3:GetObject"
        location = f"s3://{self._bucket}/{self._key}"

        async def ask() -> Any:
            client = await self._clients.client("s3")
            silence_s = session.SERVICE_READ_TIMEOUT_S
            try:
                async with asyncio.timeout(silence_s + _ANSWER_S) as limit:
                    sent = {} if body is None else {"Body": _Body(body, limit, silence_s)}
                    return await getattr(client, operation)(
                        Bucket=self._bucket, Key=self._key, **sent, **members
                    )
            except TimeoutError as error:
                raise TimeoutError(str(error) or f"not a byte was taken for {silence_s:g} s") from error

        reply = await tried(
            ask,
            explain=lambda error: _fault_of(error, permission),
            failure=lambda reason: JournalError(f"{location} cannot be written: {reason}"),
            on_wait=self._on_wait,
            is_reached=True,  # a run stands behind it, and each try is said
        )
        told = _TOLD.get(operation, "ETag")
        if told not in reply:  # as of a proxy that takes everything for itself
            raise JournalError(f"{location} cannot be written: not answered as by S3, {told} is missing")
        return reply


class _Body(io.BytesIO):
    """Bytes to send, whose reading puts off the end of patience: a silent server takes none.

    The client itself ends a silence after the last byte only, and waits for ever for leave to send.
    """

    def __init__(self, data: bytes, limit: asyncio.Timeout, silence_s: float) -> None:
        super().__init__(data)
        self._limit = limit
        self._silence_s = silence_s

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self._limit.reschedule(asyncio.get_running_loop().time() + self._silence_s + _ANSWER_S)
        return data


def _fault_of(error: Exception, permission: str) -> tuple[str, bool]:
    from botocore.exceptions import BotoCoreError, ParamValidationError

    if isinstance(error, (ParamValidationError, ValueError)):  # ConfigError is one
        return " ".join(str(error).split()), False
    if isinstance(error, (BotoCoreError, FatalRefusal)):
        fault = credentials_fault(error)
        if isinstance(fault, FatalRefusal):
            return str(fault), False
    return fault_of(error, permission)


async def _checksum(data: bytes) -> str:
    digest = await asyncio.to_thread(lambda: hashlib.sha256(data).digest())
    return base64.b64encode(digest).decode()
