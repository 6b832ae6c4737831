"""Client of the Runtime API: one keep-alive connection, no HTTP library to import."""

from __future__ import annotations

import base64
import socket
from collections.abc import Iterator

from .errors import describe, to_json

_API = "/2018-06-01/runtime"


class RuntimeClient:
    """One keep-alive connection to the Runtime API."""

    def __init__(self, address: str) -> None:
        host, _, port = address.partition(":")
        self._address = address
        self._socket = socket.create_connection((host, int(port)))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = b""

    def request(
        self, method: str, path: str, body: bytes = b"", headers: str = ""
    ) -> tuple[int, dict[str, str], bytes]:
        """Send one request and read its reply; EOFError when the emulator is gone."""
        head = f"{method} {_API}{path} HTTP/1.1\r\nHost: {self._address}\r\n{headers}"
        self._socket.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        return self._read()

    def stream(self, path: str, chunks: Iterator[bytes]) -> None:
        """Post a response piece by piece; an exception midway goes into the trailers."""
        head = (
            f"POST {_API}{path} HTTP/1.1\r\nHost: {self._address}\r\nTransfer-Encoding: chunked\r\n"
            "Lambda-Runtime-Function-Response-Mode: streaming\r\nContent-Type: application/octet-stream\r\n"
            "Trailer: Lambda-Runtime-Function-Error-Type, Lambda-Runtime-Function-Error-Body\r\n\r\n"
        )
        self._socket.sendall(head.encode())
        trailers = b""
        try:
            for chunk in chunks:
                if chunk:
                    self._socket.sendall(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        except Exception as error:  # noqa: BLE001 - whatever the handler raises is its error
            detail = base64.b64encode(to_json(describe(error, "")))
            trailers = (
                b"Lambda-Runtime-Function-Error-Type: %b\r\nLambda-Runtime-Function-Error-Body: %b\r\n"
                % (type(error).__name__.encode(), detail)
            )
        self._socket.sendall(b"0\r\n" + trailers + b"\r\n")
        self._read()

    def _read(self) -> tuple[int, dict[str, str], bytes]:
        while b"\r\n\r\n" not in self._buffer:
            self._receive()
        head, _, rest = self._buffer.partition(b"\r\n\r\n")
        status_line, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        length = int(headers.get("content-length", "0"))
        pieces, have = [rest], len(rest)
        while have < length:
            piece = self._socket.recv(1 << 20)
            if not piece:
                raise EOFError
            pieces.append(piece)
            have += len(piece)
        whole = b"".join(pieces)
        self._buffer = whole[length:]
        return int(status_line.split(" ", 2)[1]), headers, whole[:length]

    def _receive(self) -> None:
        piece = self._socket.recv(65_536)
        if not piece:
            raise EOFError
        self._buffer += piece
