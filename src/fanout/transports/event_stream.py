"""Chunks and the end of a response stream, from frames of vnd.amazon.eventstream."""

from __future__ import annotations

from typing import Any

from botocore.eventstream import EventStreamBuffer

from fanout.errors import ReplyLost
from fanout.payload import decode_reply
from fanout.transports.replies import StreamedReply


class EventStream:
    """Cuts bytes into frames as they come and hands them on. Raises ReplyLost for what is none."""

    def __init__(self, reply: StreamedReply) -> None:
        self._reply = reply
        self._frames = EventStreamBuffer()

    async def feed(self, data: bytes) -> None:
        """Take more bytes; returns when every whole frame in them has been handed on."""
        self._frames.add_data(data)
        while (frame := self._next_frame()) is not None:
            kind = frame.headers.get(":event-type")
            if frame.headers.get(":message-type", "event") != "event":
                code = frame.headers.get(":exception-type") or frame.headers.get(":error-code") or "error"
                raise ReplyLost(f"the response stream broke off with {code}")
            if kind == "PayloadChunk":
                await self._reply.add_chunk(frame.payload)
            elif kind == "InvokeComplete":
                self._complete(frame.payload)

    def _next_frame(self) -> Any:
        try:
            return next(self._frames)
        except StopIteration:
            return None
        except Exception as error:
            raise ReplyLost(f"the response stream is damaged: {error}") from error

    def _complete(self, payload: bytes) -> None:
        try:
            members = decode_reply(payload) if payload else {}
        except (ValueError, RecursionError) as error:
            raise ReplyLost(f"the end of the response stream cannot be read: {error}") from error
        if not isinstance(members, dict):
            raise ReplyLost("the end of the response stream is not an object")
        self._reply.complete(
            error_code=_text(members.get("ErrorCode")),
            error_details=_text(members.get("ErrorDetails")),
            log_result=_text(members.get("LogResult")),
        )


def _text(value: object) -> str | None:
    return value if value is None or isinstance(value, str) else str(value)
