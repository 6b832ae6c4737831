"""The headers of an HTTP reply that matter, and an event stream made one reply."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from fanout.errors import ReplyLost
from fanout.model import OnChunk, Reply
from fanout.payload import decode_reply
from fanout.transports.http.plain_reply import Answer, GetHeader, Shape, ShapedHeaders

_Make = Callable[[ShapedHeaders, bytes], Reply]
_CHANGING = ("x-amz-log-result", "x-amzn-requestid", "x-amzn-trace-id")  # in every reply another
_NOT_PLAIN = ("x-amz-function-error", "x-amz-durable-execution-arn", "content-encoding", *_CHANGING)
MAX_STREAMED_BYTES = 210_000_000  # Lambda streams at most 200 MB


def make_reply(status: int, body: bytes, header: GetHeader) -> Reply:
    """A reply from its status, its whole body and its headers, which are looked up in lower case.

    Raises ReplyLost for a success in an encoding that was not asked for: its bytes are not the function's.
    """
    if status >= 300:
        return Reply(
            status,
            body,
            function_error=header("x-amz-function-error"),
            request_id=header("x-amzn-requestid"),
            error_type=header("x-amzn-errortype"),
            retry_after=header("retry-after"),
            trace_id=header("x-amzn-trace-id"),
        )
    encoding = header("content-encoding")
    if encoding and encoding.strip().lower() != "identity":
        raise ReplyLost(f"the reply is encoded ({encoding[:40]}), which was not asked for")
    return Reply(
        status,
        body,
        header("x-amz-function-error"),
        header("x-amz-log-result"),
        header("x-amz-executed-version"),
        header("x-amzn-requestid"),
        None,
        None,
        header("x-amzn-trace-id"),
        header("x-amz-durable-execution-arn"),
    )


def reply_of(answer: Answer) -> Reply:
    """``make_reply`` of what a connection read; where the head is like others before, in half the time."""
    status, headers, body = answer
    if type(headers) is ShapedHeaders:
        shape = headers.shape
        make: _Make | None = shape.noted
        if make is None:
            make = shape.noted = _maker(shape)
        return make(headers, body)
    return make_reply(status, body, headers.get)


def _maker(shape: Shape) -> _Make:
    """What makes replies of a shape; their status is 200."""
    constant = shape.constant
    if any(name in constant for name in _NOT_PLAIN):
        return lambda headers, body: make_reply(200, body, headers.get)
    version = constant.get("x-amz-executed-version")
    log_at, id_at, trace_at = map(shape.place_of, _CHANGING)
    if log_at is not None or id_at is None:
        return lambda headers, body: make_reply(200, body, headers.get)
    if trace_at is None:
        return lambda headers, body: Reply(200, body, None, None, version, headers.values[id_at])
    return lambda headers, body: Reply(
        200, body, None, None, version, headers.values[id_at], None, None, headers.values[trace_at]
    )


class StreamedReply:
    """One reply made of ``PayloadChunk`` events and the ``InvokeComplete`` that must end them.

    Chunks go to ``on_chunk`` one at a time, each awaited before the next is read; without it they
    are joined into the body.
    """

    def __init__(self, reply: Reply, on_chunk: OnChunk | None) -> None:
        self._reply = reply
        self._on_chunk = on_chunk
        self._chunks: list[bytes] = []
        self._complete = False
        self._size_bytes = 0

    async def add_chunk(self, chunk: bytes) -> None:
        """Take the payload of one ``PayloadChunk``."""
        if self._complete:
            raise ReplyLost("the response stream went on after its InvokeComplete")
        self._size_bytes += len(chunk)
        if self._size_bytes > MAX_STREAMED_BYTES:
            raise ReplyLost(f"the response stream is larger than {MAX_STREAMED_BYTES:,} bytes")
        if self._on_chunk is None:
            self._chunks.append(chunk)
        elif chunk:
            await self._on_chunk(chunk)

    def complete(self, *, error_code: str | None, error_details: str | None, log_result: str | None) -> None:
        """Take the members of ``InvokeComplete``: an ErrorCode makes it a function error."""
        self._complete = True
        self._reply.log_result = log_result
        if error_code:
            self._reply.function_error = "Unhandled"
            self._chunks = [_error_object(error_code, error_details or "")]

    def finish(self) -> Reply:
        """The whole reply, once the stream has ended. Raises ReplyLost when it broke off."""
        if not self._complete:
            raise ReplyLost("the response stream ended without InvokeComplete")
        self._reply.body = b"".join(self._chunks)
        return self._reply


def _error_object(code: str, details: str) -> bytes:
    # ErrorDetails is the message, or the runtime's own error object as text.
    try:
        members = decode_reply(details.encode())
    except (ValueError, RecursionError):
        members = None
    if isinstance(members, dict) and "errorMessage" in members:
        return msgspec.json.encode({"errorType": code, **members})
    return msgspec.json.encode({"errorType": code, "errorMessage": details})
