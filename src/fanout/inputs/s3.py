"""S3: objects streamed by one GET each and taken up again where it broke, and listings of keys."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError
from concurrent.futures import Future as ThreadFuture
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar

from fanout.aws.clients import Clients
from fanout.aws.s3_faults import CHANGED, fault_of, split_location
from fanout.aws.s3_tries import tried
from fanout.errors import FanoutError, SourceError
from fanout.inputs.delays import SILENT_S, Delays
from fanout.inputs.listing import Entry

CHUNK_BYTES = 1 << 18
T = TypeVar("T")


class _CutShort(Exception):
    """A reply that ended before its end."""


class S3:
    """Objects and listings, by one client of the run."""

    def __init__(
        self,
        clients: Clients,
        *,
        request_payer: bool = False,
        on_notice: Callable[[str], None] | None = None,
    ) -> None:
        self._clients = clients
        self._on_notice = on_notice
        self._request: dict[str, Any] = {"RequestPayer": "requester"} if request_payer else {}

    async def stream(self, location: str, *, etag: str | None = None) -> ObjectStream:
        """Open an object; with ``etag`` only if it is still that one. Raises SourceError."""
        bucket, key = split_location(location)
        client = await self._client(location)
        request = {"Bucket": bucket, "Key": key, **self._request}
        stream = ObjectStream(client, request, etag, delays=self._delays(location))
        try:
            await stream.open()
        except SourceError as error:
            raise SourceError(f"{location}: {error}") from error
        return stream

    async def pages(
        self, location: str, prefix: str, after: str | None
    ) -> AsyncIterator[tuple[list[Entry], bool]]:
        """The keys that begin with ``prefix``, by the thousand, in order; and whether they are the last.

        Raises SourceError.
        """
        bucket, _ = split_location(location)
        client = await self._client(location)
        request: dict[str, Any] = {"Bucket": bucket, "Prefix": prefix, **self._request}
        if after is not None:
            request["StartAfter"] = after
        before = {after}  # the keys of the page before
        delays = self._delays(location)
        while True:
            page = await _asked(
                partial(client.list_objects_v2, **request),
                delays,
                explain=lambda error: fault_of(error, "s3:ListBucket"),
                failure=lambda reason: SourceError(f"{location}: {reason}"),
            )
            is_last = not page.get("IsTruncated")
            token = page.get("NextContinuationToken")
            try:
                found = {each["Key"]: _entry_of(bucket, each) for each in page.get("Contents", ())}
            except KeyError as error:
                raise SourceError(f"{location} is not listed as by S3: {error.args[0]} is missing") from error
            stands_still = token in (None, request.get("ContinuationToken")) and not is_last
            if stands_still or not before.isdisjoint(found):
                raise SourceError(
                    f"{location} is not listed as by S3: a page does not go on from the one before"
                )
            yield [each for key, each in found.items() if each.size or not key.endswith("/")], is_last
            if is_last:
                return
            before = {*found} or before
            request["ContinuationToken"] = token
            request.pop("StartAfter", None)

    def _delays(self, location: str) -> Delays:
        on_notice = self._on_notice

        def say(text: str) -> None:
            if on_notice is not None:
                on_notice(f"{location}: {text}")

        return Delays(say)

    async def _client(self, location: str) -> Any:
        try:
            return await self._clients.client("s3")
        except FanoutError as error:
            raise SourceError(f"{location} cannot be read: {error}") from error


class ObjectStream:
    """The bytes of one object, from any offset. ``size`` and ``etag`` are known once it is open.

    So is ``md5``, in hexadecimal, where the ETag is that of the bytes: not of an object that was uploaded
    in parts, or is encrypted with a key of KMS or of the customer.

    A reply that breaks off is followed by another, from there on and only while the object is the same.
    """

    def __init__(self, client: Any, request: dict[str, Any], etag: str | None, *, delays: Delays) -> None:
        self._delays = delays
        self.etag = etag
        self.size = 0
        self.modified: str | None = None
        self.md5: str | None = None
        self.offset = 0  # of the byte that comes next
        self._end: int | None = None  # of the range that is read, where it is not all of it
        self._client = client
        self._request = request
        self._chunks: AsyncIterator[bytes] | None = None
        self._body: Any = None

    async def open(self) -> None:
        """Ask for the object. Raises SourceError."""
        reply = await _asked(self._get, self._delays, explain=_fault_of, failure=SourceError)
        for name in ("ETag", "ContentLength", "LastModified"):
            if name not in reply:
                raise SourceError(f"is not answered as by S3: there is no {name}")
        self.etag = reply["ETag"]
        self.modified = _iso(reply["LastModified"])
        is_plain = reply.get("ServerSideEncryption", "AES256") == "AES256" and not reply.get(
            "SSECustomerAlgorithm"
        )
        if is_plain and "-" not in reply["ETag"]:
            self.md5 = reply["ETag"].strip('"')
        self.size = self.offset + int(reply["ContentLength"])
        self._take(reply)

    async def next(self) -> bytes:
        """The next bytes; none at the end. Raises SourceError when half a minute of tries brings none."""
        if self.offset >= (self.size if self._end is None else self._end):
            return b""
        return await _asked(
            self._chunk, self._delays, explain=_break_of, failure=SourceError, is_reached=True
        )

    async def _chunk(self) -> bytes:
        """The next bytes, at least one. Hangs up when they do not come: the next try asks again."""
        try:
            if self._chunks is None:
                self._take(await self._get())
            assert self._chunks is not None
            chunk = bytes(await anext(self._chunks, b""))
        except BaseException:
            self.drop()
            raise
        if not chunk:
            self.drop()
            raise _CutShort(f"{self.offset:,} of {self.size:,} bytes came")
        self.offset += len(chunk)
        return chunk

    async def range(self, start: int, length: int) -> bytes:
        """So many bytes from ``start`` on, fewer at the end. Raises SourceError."""
        self.seek(start)
        self._end = min(self.size, start + length)
        parts: list[bytes] = []
        try:
            while chunk := await self.next():
                parts.append(chunk)
        finally:
            self.drop()
            self._end = None
        return b"".join(parts)

    def seek(self, offset: int) -> None:
        """Go on from another offset."""
        self.drop()
        self.offset = offset

    def drop(self) -> None:
        """Hang up."""
        body, self._body, self._chunks = self._body, None, None
        if body is not None:
            with suppress(Exception):
                body.close()

    async def _get(self) -> Any:
        request = dict(self._request)
        if self.etag is not None:
            request["IfMatch"] = self.etag
        if self.offset or self._end is not None:
            last = "" if self._end is None else self._end - 1
            request["Range"] = f"bytes={self.offset}-{last}"
        reply = await self._client.get_object(**request)
        try:
            self._check(reply, is_range="Range" in request)
        except SourceError:
            reply["Body"].close()
            raise
        return reply

    def _check(self, reply: Any, *, is_range: bool) -> None:
        """Raise SourceError for other bytes than those asked for: not every server heeds such a request."""
        if self.etag is not None and reply.get("ETag", "").strip('"') != self.etag.strip('"'):
            raise SourceError(CHANGED)
        came = reply.get("ContentRange", "")
        found = re.match(r"bytes (\d+)-(\d+)/", came)
        end = self.size if self._end is None else self._end
        is_part = found is not None and int(found[1]) == self.offset and int(found[2]) < end
        if not is_part if is_range else came:
            raise SourceError(
                f"is answered with other bytes ({came or 'all of them'}) than those asked for, "
                f"from {self.offset:,} on: copy it to a file, and read that"
            )

    def _take(self, reply: Any) -> None:
        self._body = reply["Body"]
        self._chunks = aiter(self._body.iter_chunks(CHUNK_BYTES))


class ObjectReader:
    """An object's bytes for the thread that splits them; its network is the event loop's."""

    def __init__(self, stream: ObjectStream) -> None:
        self.notices: list[str] = []
        self.bytes_read = 0
        self.stream = stream
        self._loop = asyncio.get_running_loop()
        self._waiting: ThreadFuture[bytes] | None = None
        self._interrupted = threading.Event()

    @property
    def bytes_total(self) -> int | None:
        return self.stream.size

    def read(self) -> bytes:
        chunk = self._ask(self.stream.next())
        self.bytes_read = self.stream.offset
        return chunk

    def read_range(self, start: int, length: int) -> bytes:
        """So many bytes from ``start`` on."""
        return self._ask(self.stream.range(start, length))

    def seek(self, offset: int) -> bool:
        self._loop.call_soon_threadsafe(self.stream.seek, offset)
        self.bytes_read = offset
        return True

    def direct(self) -> ObjectStream:
        """The object itself: it is read in the event loop anyway."""
        return self.stream

    def interrupt(self) -> None:
        self._interrupted.set()
        waiting = self._waiting
        if waiting is not None:
            waiting.cancel()

    def close(self) -> None:
        with suppress(RuntimeError):  # the loop is gone
            self._loop.call_soon_threadsafe(self.stream.drop)

    def _ask(self, coroutine: Any) -> bytes:
        if self._interrupted.is_set():
            coroutine.close()
            return b""
        try:
            waiting: ThreadFuture[bytes] = asyncio.run_coroutine_threadsafe(coroutine, self._loop)
        except RuntimeError:
            coroutine.close()
            return b""
        self._waiting = waiting
        if self._interrupted.is_set():  # since it was looked at: ``interrupt`` may not have found it
            waiting.cancel()
        try:
            return waiting.result()
        except CancelledError:
            return b""
        finally:
            self._waiting = None


def _entry_of(bucket: str, found: Any) -> Entry:
    return Entry(
        f"s3://{bucket}/{found['Key']}",
        size=found["Size"],
        etag=found["ETag"],
        modified=_iso(found["LastModified"]),
    )


async def _asked(ask: Callable[[], Awaitable[T]], delays: Delays, **how: Any) -> T:
    """What is asked for, in the end; a wait for it is told."""
    loop = asyncio.get_running_loop()

    async def ask_once() -> T:
        silence = loop.call_later(SILENT_S, lambda: delays.is_silent(time.monotonic()))
        try:
            return await ask()
        finally:
            silence.cancel()

    def on_wait(reason: str, wait_s: float) -> None:
        delays.repeats(time.monotonic(), reason, wait_s)

    return await tried(ask_once, on_wait=on_wait, **how)


def _fault_of(error: Exception) -> tuple[str, bool]:
    if isinstance(error, SourceError):
        return str(error), False
    return fault_of(error, "s3:GetObject")


def _break_of(error: Exception) -> tuple[str, bool]:
    reason, is_passing = (str(error), True) if isinstance(error, _CutShort) else _fault_of(error)
    return f"broke off: {reason}" if is_passing else reason, is_passing


def _iso(moment: Any) -> str:
    return str(moment.strftime("%Y-%m-%dT%H:%M:%SZ"))
