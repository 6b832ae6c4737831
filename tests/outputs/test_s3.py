"""Uploads against a small S3 that misbehaves: repeated where that helps, whole or not there."""

from __future__ import annotations

import base64
import hashlib
import http.server
import os
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from fanout.aws import ServiceClients
from fanout.errors import JournalError
from fanout.outputs import s3 as s3_module
from fanout.outputs.s3 import S3Upload


class Store(http.server.ThreadingHTTPServer):
    """One bucket in memory. ``faults``: for the n-th request (from 0) a status, or 0 to hang up."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.faults: dict[int, int] = {}
        self.loses_complete = False  # completes, and never says so
        self.requests: list[str] = []
        self.objects: dict[str, bytes] = {}
        self.uploads: dict[str, dict[int, bytes]] = {}
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that hangs up is nothing to tell."""


class _Handler(http.server.BaseHTTPRequestHandler):
    server: Store
    protocol_version = "HTTP/1.1"

    def _serve(self) -> None:
        store = self.server
        length = int(self.headers.get("Content-Length", 0))
        body = self.rfile.read(length)
        fault = store.faults.get(len(store.requests))
        path, _, query = self.path.partition("?")
        store.requests.append(f"{self.command} {query}")
        if fault == 0:
            self.close_connection = True
            return
        if fault is not None:
            code = "AccessDenied" if fault == 403 else "SlowDown"
            self._reply(
                fault,
                "<html/>" if fault == 200 else f"<Error><Code>{code}</Code><Message>no</Message></Error>",
            )
            return
        checksum = self.headers.get("x-amz-checksum-sha256")
        if checksum is not None:
            assert base64.b64decode(checksum) == hashlib.sha256(body).digest()
        upload = re.search("uploadId=([^&]+)", query)
        if self.command == "HEAD":
            self._reply(200, "", size=len(store.objects.get(path, b"")))
        elif self.command == "PUT" and upload is None:
            assert checksum is not None
            store.objects[path] = body
            self._reply(200, "", etag=True)
        elif upload is None:
            store.uploads["u"] = {}
            name = path.lstrip("/").partition("/")
            self._reply(
                200,
                f"<InitiateMultipartUploadResult><Bucket>{name[0]}</Bucket><Key>{name[2]}</Key>"
                "<UploadId>u</UploadId></InitiateMultipartUploadResult>",
            )
        elif "u" not in store.uploads:
            self._reply(404, "<Error><Code>NoSuchUpload</Code><Message>gone</Message></Error>")
        elif self.command == "PUT":
            assert checksum is not None
            number = re.search("partNumber=([0-9]+)", query)
            assert number is not None
            store.uploads["u"][int(number[1])] = body
            self._reply(200, "", etag=True)
        elif self.command == "DELETE":
            del store.uploads["u"]
            self._reply(204, "")
        else:
            parts = store.uploads.pop("u")
            store.objects[path] = b"".join(parts[number] for number in sorted(parts))
            if store.loses_complete:
                self.close_connection = True
                return
            self._reply(200, "<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>")

    def do_PUT(self) -> None:
        self._serve()

    def do_POST(self) -> None:
        self._serve()

    def do_DELETE(self) -> None:
        self._serve()

    def do_HEAD(self) -> None:
        self._serve()

    def _reply(self, status: int, text: str, *, etag: bool = False, size: int | None = None) -> None:
        self.send_response(status)
        if etag:
            self.send_header("ETag", '"e"')
        self.send_header("Content-Length", str(len(text) if size is None else size))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name there
        """Nothing on stderr."""


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> Iterator[Store]:
    """The small S3, waits without length, and parts of 1,000 bytes."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr("fanout.patience.WAITS_S", (0.0, 0.0))
    monkeypatch.setattr(s3_module, "PART_BYTES", 1000)
    made = Store()
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{made.server_address[1]}")
    yield made
    made.shutdown()
    made.server_close()


@pytest.fixture
async def clients() -> AsyncIterator[ServiceClients]:
    made = ServiceClients()
    yield made
    await made.aclose()


DATA = os.urandom(3500)


async def send(clients: ServiceClients, data: bytes = DATA) -> None:
    async with S3Upload(clients, "lake", "k", content_type="text/plain") as upload:
        for at in range(0, len(data), 300):
            await upload.write(data[at : at + 300])
        done = await upload.finish()
    assert (done.size, done.sha256) == (len(data), hashlib.sha256(data).hexdigest())


def forget(store: Store, faults: dict[int, int]) -> None:
    """The store as it was at first, with these faults to come."""
    store.requests.clear()
    store.objects.clear()
    store.uploads.clear()
    store.faults = faults


@pytest.mark.slow
async def test_a_request_that_fails_is_repeated(store: Store, clients: ServiceClients) -> None:
    """Whichever it is of creation, four parts and completion: the object is the data."""
    for number in range(6):
        for fault in (503, 0):
            forget(store, {number: fault, number + 1: fault})
            await send(clients)
            assert store.objects == {"/lake/k": DATA}
            assert not store.uploads


async def test_an_upload_that_waits_says_why(store: Store, clients: ServiceClients) -> None:
    """Each try that follows another; and once patience is at its end, no further one is made."""
    store.faults = dict.fromkeys(range(9), 503)
    waits: list[tuple[str, float]] = []
    upload = S3Upload(
        clients, "lake", "k", content_type="text/plain", on_wait=lambda *wait: waits.append(wait)
    )
    with pytest.raises(JournalError, match="S3 answers SlowDown"):
        await upload.finish()
    assert [reason for reason, _ in waits] == ["S3 answers SlowDown (503): no"] * 2
    assert len(store.requests) == 3
    waits.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanout.patience.PATIENCE_S", -1.0)
        with pytest.raises(JournalError, match="S3 answers SlowDown"):
            await upload.finish()
    assert waits == []


async def test_what_fits_one_part_is_one_request(store: Store, clients: ServiceClients) -> None:
    """No upload is begun for it."""
    for size in (0, 1, 1000):
        forget(store, {})
        await send(clients, DATA[:size])
        assert store.requests == ["PUT "]
        assert store.objects == {"/lake/k": DATA[:size]}


async def test_an_answer_that_is_not_one_of_s3_is_no_success(store: Store, clients: ServiceClients) -> None:
    """As a proxy gives, with status 200 for everything: to a whole object, a creation and a part."""
    for number, data in ((0, b"x"), (0, DATA), (1, DATA)):
        forget(store, {number: 200})
        with pytest.raises(JournalError, match=r"^s3://lake/k cannot be written: not answered as by S3, "):
            await send(clients, data)
        assert (store.objects, store.uploads) == ({}, {})


async def test_an_upload_that_cannot_go_on_is_aborted(store: Store, clients: ServiceClients) -> None:
    """One line that names the object; S3 keeps no object and no part."""
    for number in (1, 3, 5):
        for fault, tries, why in (
            (403, 1, "access denied: the credentials need s3:PutObject"),
            (503, 3, "503"),
        ):
            forget(store, dict.fromkeys(range(number, number + tries), fault))
            with pytest.raises(JournalError, match=f"^s3://lake/k cannot be written: .*{why}"):
                await send(clients)
            assert (store.objects, store.uploads) == ({}, {})
            assert store.requests[-1].startswith("DELETE")


async def test_a_completion_whose_reply_is_lost_counts(store: Store, clients: ServiceClients) -> None:
    """The upload is gone and the object has its size: it is there."""
    store.loses_complete = True
    await send(clients)
    assert store.objects == {"/lake/k": DATA}


async def test_missing_credentials_are_said_at_once(
    store: Store, clients: ServiceClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No try is repeated for them."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    with pytest.raises(JournalError, match="no AWS credentials found"):
        await send(clients)
    assert not store.requests


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A socket as S3, which accepts; and a second of patience, in silences of half of one."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setattr("fanout.aws.session.SERVICE_READ_TIMEOUT_S", 0.5)
    monkeypatch.setattr("fanout.patience.PATIENCE_S", 1.0)
    monkeypatch.setattr(s3_module, "_ANSWER_S", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as made:
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{made.getsockname()[1]}")
        yield made


@pytest.mark.parametrize("leave", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"], ids=["no leave", "leave to send"])
async def test_a_server_that_takes_no_byte_is_given_up(
    endpoint: socket.socket, clients: ServiceClients, leave: bytes
) -> None:
    """Whether it is silent before the body or in it."""
    connections: list[socket.socket] = []

    def serve() -> None:
        with ExitStack() as stack, suppress(OSError):
            while True:
                connections.append(stack.enter_context(endpoint.accept()[0]))
                with suppress(OSError):
                    connections[-1].sendall(leave)

    serving = threading.Thread(target=serve, daemon=True)
    serving.start()
    upload = S3Upload(clients, "lake", "k", content_type="text/plain")
    await upload.write(bytes(s3_module.PART_BYTES))
    with pytest.raises(JournalError, match=r"^s3://lake/k cannot be written: .*not a byte was taken for 0.5"):
        await upload.finish()
    assert connections
    endpoint.shutdown(socket.SHUT_RDWR)  # which ends the wait for another: a late one would stay open
    serving.join()


@pytest.mark.slow
async def test_a_slow_upload_is_no_silence(
    endpoint: socket.socket, clients: ServiceClients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it takes, while bytes are taken."""

    monkeypatch.setattr("fanout.aws.session.SERVICE_READ_TIMEOUT_S", 1.0)
    monkeypatch.setattr(s3_module, "PART_BYTES", 16 << 20)

    def serve() -> None:
        connection = endpoint.accept()[0]
        with connection:
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(1 << 16)
            connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            left = s3_module.PART_BYTES
            while left > 0:
                some = connection.recv(1 << 17)
                left -= len(some)
                is_over.wait(len(some) / 8e6)
            connection.sendall(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\n\r\n')
            is_over.wait(5)

    is_over = threading.Event()
    threading.Thread(target=serve, daemon=True).start()
    upload = S3Upload(clients, "lake", "k", content_type="text/plain")
    await upload.write(bytes(s3_module.PART_BYTES))
    begun_s = time.monotonic()
    await upload.finish()
    is_over.set()
    assert time.monotonic() - begun_s > 1.2
