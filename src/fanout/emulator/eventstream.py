"""The framing of a response stream: vnd.amazon.eventstream, prelude and message with CRC-32."""

from __future__ import annotations

import struct
from zlib import crc32

CONTENT_TYPE = b"application/vnd.amazon.eventstream"
_STRING = 7
_MAX_CHUNK_BYTES = 65_536


def frame(event_type: str, content_type: str, payload: bytes) -> bytes:
    """Make one event message."""
    fields = {":event-type": event_type, ":content-type": content_type, ":message-type": "event"}
    headers = b"".join(_header(name, value) for name, value in fields.items())
    prelude = struct.pack("!II", 16 + len(headers) + len(payload), len(headers))
    message = prelude + struct.pack("!I", crc32(prelude)) + headers + payload
    return message + struct.pack("!I", crc32(message))


def payload_chunks(payload: bytes) -> bytes:
    """Frame a payload as PayloadChunk events of at most 64 KiB each."""
    starts = range(0, len(payload), _MAX_CHUNK_BYTES)
    return b"".join(
        frame("PayloadChunk", "application/octet-stream", payload[at : at + _MAX_CHUNK_BYTES])
        for at in starts
    )


def _header(name: str, value: str) -> bytes:
    raw_name, raw_value = name.encode(), value.encode()
    return (
        struct.pack("!B", len(raw_name)) + raw_name + struct.pack("!BH", _STRING, len(raw_value)) + raw_value
    )
