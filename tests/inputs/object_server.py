"""A small server that speaks as much of S3 as a reader needs, and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable
from typing import Any


class ObjectServer(http.server.ThreadingHTTPServer):
    """One bucket in memory. ``cuts``: after how many bytes each of the next replies breaks off.

    ``answers``: statuses that the next requests get instead of bytes.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.cuts: list[int] = []
        self.answers: list[int] = []
        self.requests: list[tuple[str, str | None]] = []
        self.on_request: Callable[[], Any] | None = None
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to tell."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ObjectServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append((self.path, wanted))
        if server.on_request is not None:
            server.on_request()
        if server.answers:
            self._fail(server.answers.pop(0), "SlowDown")
            return
        data = server.objects.get(self.path)
        if data is None:
            self._fail(404, "NoSuchKey")
            return
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        if self.headers.get("If-Match", etag) != etag:
            self._fail(412, "PreconditionFailed")
            return
        start, end = 0, len(data)
        if wanted is not None:
            first, _, last = wanted.removeprefix("bytes=").partition("-")
            start, end = int(first), min(len(data), int(last) + 1 if last else len(data))
        body = data[start:end]
        self.send_response(200 if wanted is None else 206)
        self.send_header("ETag", etag)
        self.send_header("Last-Modified", "Fri, 27 Nov 2026 10:00:00 GMT")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if server.cuts:
            self.wfile.write(body[: server.cuts.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(body)

    def _fail(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>no</Message></Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing."""
