"""A scripted endpoint on a loopback socket: keeps what arrived, answers the bytes it was told to."""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field

from fanout.aws import AwsSession
from fanout.aws.credentials import StaticCredentials
from fanout.transports import Transport, open_transport

REGION = "eu-west-1"


@dataclass(frozen=True)
class Received:
    """One request as it came off the socket. Header names in lower case; ``port`` is the client's."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes
    port: int = 0

    @property
    def amz_headers(self) -> dict[str, str]:
        """The ``X-Amz-*`` headers but for the date."""
        return {
            name: value
            for name, value in self.headers.items()
            if name.startswith("x-amz-") and name != "x-amz-date"
        }


@dataclass
class Script:
    """What to do with one request: wait, write ``data``, then close, reset or keep the connection."""

    data: bytes = b""
    end: str = "keep"  # keep | close | reset
    wait_s: float = 0.0
    after: asyncio.Event | None = None  # what to wait for as well
    pieces: int = 1  # how many writes the data is cut into


Respond = Callable[[Received], Script]


@dataclass
class Wire:
    """The endpoint. ``respond`` may be replaced at any time."""

    respond: Respond = lambda _: Script(http(200, b"{}"))
    received: list[Received] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    scheme: str = "http"
    writers: set[asyncio.StreamWriter] = field(default_factory=set)
    drip_s: float = 0.0  # between two pieces
    on_connect: Callable[[asyncio.StreamWriter], bool] | None = None

    @property
    def url(self) -> str:
        """Its endpoint URL."""
        return f"{self.scheme}://127.0.0.1:{self.port}"

    def answer(self, data: bytes, **script: object) -> None:
        """Answer every request from now on with these bytes."""
        self.respond = lambda _: Script(data, **script)  # type: ignore[arg-type]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection until either side ends it."""
        self.connections += 1
        self.writers.add(writer)
        try:
            if self.on_connect is not None and not self.on_connect(writer):
                return
            while True:
                request = await read_request(reader)
                peer = writer.get_extra_info("peername")
                request = Received(**{**request.__dict__, "port": peer[1] if peer else 0})
                self.received.append(request)
                if not await self._act(self.respond(request), writer):
                    return
        except (
            asyncio.IncompleteReadError,
            ConnectionError,
            ssl.SSLError,
            asyncio.CancelledError,
            RuntimeError,
        ):
            return
        finally:
            self.writers.discard(writer)
            with contextlib.suppress(Exception):
                writer.close()

    async def _act(self, script: Script, writer: asyncio.StreamWriter) -> bool:
        if script.wait_s:
            await asyncio.sleep(script.wait_s)
        if script.after is not None:
            await script.after.wait()
        step = max(1, -(-len(script.data) // script.pieces))
        for start in range(0, len(script.data), step):
            writer.write(script.data[start : start + step])
            await writer.drain()
            if script.pieces > 1:
                await asyncio.sleep(self.drip_s)
        if script.end == "reset":
            reset(writer)
        return script.end == "keep"


def reset(writer: asyncio.StreamWriter) -> None:
    """Close with RST instead of FIN."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def read_request(reader: asyncio.StreamReader) -> Received:
    """The next whole request of a connection."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.split("\r\n")
    method, target, _ = lines[0].split(" ")
    headers: dict[str, str] = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        assert name.lower() not in headers, f"{name} is sent twice"
        headers[name.lower()] = value.strip(" ")
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    path, _, query = target.partition("?")
    return Received(method, path, query, headers, body)


@contextlib.asynccontextmanager
async def wire(tls: ssl.SSLContext | None = None) -> AsyncIterator[Wire]:
    """A ``Wire`` that listens."""
    it = Wire(scheme="https" if tls else "http")
    server = await asyncio.start_server(it.serve, "127.0.0.1", 0, ssl=tls, limit=2**20)
    it.port = server.sockets[0].getsockname()[1]
    try:
        yield it
    finally:
        server.close()
        for writer in list(it.writers):
            writer.transport.abort()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while it.writers:
                    await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def transport_to(
    url: str,
    kind: str,
    *,
    token: str | None = None,
    read_timeout_s: float = 60.0,
    max_connections: int = 8,
    verify: bool | str | None = None,
    connect_timeout_s: float = 20.0,
    call_timeout_s: float | None = None,
) -> AsyncIterator[Transport]:
    """A transport of either kind to an endpoint, with made-up credentials."""
    session = AwsSession(
        function="f",
        region=REGION,
        endpoint_url=url,
        verify=verify,
        static_credentials=("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY"),
        connect_timeout_s=connect_timeout_s,
    )
    async with session:
        if token is not None:
            assert session._static_credentials is not None
            session._credentials = StaticCredentials(*session._static_credentials, token)
            if session._session is not None:
                session._session._credentials = session._credentials
        transport = await open_transport(
            session,
            kind=kind,  # type: ignore[arg-type]
            max_connections=max_connections,
            read_timeout_s=read_timeout_s,
            call_timeout_s=call_timeout_s,
        )
        try:
            yield transport
        finally:
            await transport.aclose()


def http(status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> bytes:
    """A whole HTTP reply with its Content-Length."""
    lines = [f"HTTP/1.1 {status} X"]
    lines += [f"{name}: {value}" for name, value in (headers or {}).items()]
    if status != 204:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def frame(headers: Mapping[str, str], payload: bytes) -> bytes:
    """One frame of application/vnd.amazon.eventstream, with string headers."""
    encoded = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(value)) + value.encode()
        for name, value in headers.items()
    )
    prelude = struct.pack(">II", 16 + len(encoded) + len(payload), len(encoded))
    message = prelude + struct.pack(">I", binascii.crc32(prelude)) + encoded + payload
    return message + struct.pack(">I", binascii.crc32(message))


def chunk(payload: bytes) -> bytes:
    """A ``PayloadChunk`` frame."""
    return frame({":message-type": "event", ":event-type": "PayloadChunk"}, payload)


def complete(payload: bytes = b"{}") -> bytes:
    """An ``InvokeComplete`` frame."""
    return frame(
        {":message-type": "event", ":event-type": "InvokeComplete", ":content-type": "application/json"},
        payload,
    )


def stream(*frames: bytes) -> bytes:
    """A whole streaming reply in HTTP chunks, one for each frame."""
    head = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/vnd.amazon.eventstream\r\n"
        b"x-amzn-RequestId: r-1\r\nX-Amz-Executed-Version: 7\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    return head + b"".join(b"%x\r\n%s\r\n" % (len(f), f) for f in frames) + b"0\r\n\r\n"
