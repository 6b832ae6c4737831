"""A small server that speaks as much of S3 as a reader and a writer need, and misbehaves as it is told."""

from __future__ import annotations

import hashlib
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest


class ObjectServer(http.server.ThreadingHTTPServer):
    """One bucket in memory. ``cuts``: after how many bytes each of the next replies breaks off.

    ``answers``: statuses that the next requests get instead of bytes. ``stalls``: after how many bytes
    each of the next replies falls silent. ``behave`` may answer a request itself, and then returns True.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.objects: dict[str, bytes] = {}
        self.parts: dict[str, bytes] = {}  # of an upload that goes on
        self.cuts: list[int] = []
        self.answers: list[int] = []
        self.stalls: list[int] = []
        self.is_over = threading.Event()  # silent replies end
        self.behave: Callable[[_Handler], bool] | None = None
        self.served = 0  # bytes of objects, in replies that went well
        self.requests: list[tuple[str, str | None]] = []
        self.headers: list[dict[str, str]] = []
        self.on_request: Callable[[], Any] | None = None
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to tell."""


def _environment(url: str) -> dict[str, str]:
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "us-east-1"}
    return {**keys, "AWS_ENDPOINT_URL_S3": url}


@contextmanager
def as_s3(patch: pytest.MonkeyPatch, *, waits_s: tuple[float, ...] | None = None) -> Iterator[ObjectServer]:
    """The small server as S3. ``waits_s``: those between the tries of a request, where they are others."""
    server = ObjectServer()
    for name, value in _environment(server.url).items():
        patch.setenv(name, value)
    if waits_s is not None:
        patch.setattr("fanout.patience.WAITS_S", waits_s)
    try:
        yield server
    finally:
        server.is_over.set()
        server.shutdown()
        server.server_close()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: ObjectServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        server.requests.append((self.path, wanted))
        server.headers.append({name.lower(): value for name, value in self.headers.items()})
        if server.on_request is not None:
            server.on_request()
        if server.behave is not None and server.behave(self):
            return
        if server.answers:
            self.fail(server.answers.pop(0), "SlowDown")
            return
        data = server.objects.get(self.path)
        if data is None:
            self.fail(404, "NoSuchKey")
            return
        etag = f'"{hashlib.md5(data).hexdigest()}"'
        if self.headers.get("If-Match", etag) != etag:
            self.fail(412, "PreconditionFailed")
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
        if wanted is not None:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(data)}")
        self.end_headers()
        if server.stalls:
            self.wfile.write(body[: server.stalls.pop(0)])
            self.wfile.flush()
            server.is_over.wait(30)
            self.close_connection = True
            return
        if server.cuts:
            self.wfile.write(body[: server.cuts.pop(0)])
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        for at in range(0, len(body), 1 << 16):
            server.served += self.wfile.write(body[at : at + (1 << 16)])

    def do_HEAD(self) -> None:
        """The Region of a bucket, where ``behave`` says it; the size of an object."""
        if self.server.behave is not None and self.server.behave(self):
            return
        data = self.server.objects.get(self.path)
        if data is None:
            self.fail(404, "")
        else:
            self.reply(bytes(len(data)))

    def do_PUT(self) -> None:
        """An object, or a part of one: kept by the whole path until the parts are put together."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, None))
        if self.server.behave is None or not self.server.behave(self):
            (self.server.parts if "partNumber=" in self.path else self.server.objects)[self.path] = body
            self.reply()

    def do_POST(self) -> None:
        """The beginning and the end of an upload in parts, which are all of one upload."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self.server.requests.append((self.path, None))
        if self.server.behave is not None and self.server.behave(self):
            return
        key, _, query = self.path.partition("?")
        if query.startswith("uploads"):
            self.reply(
                b"<InitiateMultipartUploadResult><UploadId>u</UploadId></InitiateMultipartUploadResult>"
            )
        elif not self.server.parts:
            self.fail(404, "NoSuchUpload")
        else:
            self.put_together(key)
            self.reply(b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")

    def do_DELETE(self) -> None:
        """The end of an upload that is given up."""
        self.server.requests.append((self.path, None))
        self.server.parts.clear()
        self.send_response(204)
        self.end_headers()

    def put_together(self, key: str) -> None:
        """Make one object of the parts."""
        parts, self.server.parts = self.server.parts, {}
        numbered = {int(path.partition("partNumber=")[2].partition("&")[0]): parts[path] for path in parts}
        self.server.objects[key] = b"".join(numbered[number] for number in sorted(numbered))

    def reply(self, body: bytes = b"") -> None:
        """Answer that all is well."""
        self.send_response(200)
        self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def cut(self) -> None:
        """Hang up without an answer."""
        self.close_connection = True
        self.connection.shutdown(2)

    def fail(
        self, status: int, code: str, *, region: str | None = None, retry_after: str | None = None
    ) -> None:
        """Answer with an error of S3, which may say the bucket's Region, and when to come again."""
        where = "" if region is None else f"<Region>{region}</Region>"
        body = f"<Error><Code>{code}</Code><Message>no</Message>{where}</Error>".encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/xml")
        if region is not None:
            self.send_header("x-amz-bucket-region", region)
        if retry_after is not None:
            self.send_header("Retry-After", retry_after)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Nothing."""
