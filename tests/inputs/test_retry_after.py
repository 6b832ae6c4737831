"""A URL whose server is busy: waited for as it asks."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator

import pytest

from fanout.aws.s3_tries import asked_wait_of
from fanout.inputs import open_source
from fanout.patience import asked_wait_s
from tests.inputs.reading import read_all

RECORDS = [b'{"n":%d,"x":"%s"}' % (n, b"x" * 200) for n in range(3000)]
BODY = b"\n".join(RECORDS) + b"\n"


class _Document(http.server.ThreadingHTTPServer):
    """One document. ``cuts``: where its replies break off. ``busy``: the Retry-After of each 503 to come."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.cuts: list[int] = []
        self.busy: list[str] = []
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Document

    def do_GET(self) -> None:
        server = self.server
        wanted = self.headers.get("Range")
        if server.busy and (wanted or not server.cuts):
            self.send_response(503)
            self.send_header("Retry-After", server.busy.pop(0))
            self.end_headers()
            return
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted else 0
        self.send_response(206 if start else 200)
        if start:
            self.send_header("Content-Range", f"bytes {start}-{len(BODY) - 1}/{len(BODY)}")
        self.send_header("ETag", '"a"')
        self.send_header("Content-Length", str(len(BODY) - start))
        self.end_headers()
        end = server.cuts.pop(0) if server.cuts else len(BODY)
        self.wfile.write(BODY[start:end])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def document(monkeypatch: pytest.MonkeyPatch) -> Iterator[_Document]:
    """A server, and no waits but those it asks for."""
    monkeypatch.setattr("fanout.patience.WAITS_S", (0.0, 0.0, 0.0))
    with _Document() as server:
        yield server
        server.shutdown()


@pytest.mark.parametrize("cuts", [[], [100_003]])
async def test_a_busy_server_is_waited_for_as_it_asks(
    document: _Document, monkeypatch: pytest.MonkeyPatch, cuts: list[int]
) -> None:
    """Before the first byte and in mid-read; no longer than the bound."""
    waits: list[float] = []
    monkeypatch.setattr("fanout.inputs.http.time.sleep", waits.append)
    document.cuts, document.busy = cuts, ["2", "86400"]
    items = await read_all(open_source(f"http://127.0.0.1:{document.server_port}/in.jsonl"))
    assert [item.payload for item in items] == RECORDS
    assert [each for each in waits if each > 1] == [2.0, 30.0]


@pytest.mark.parametrize(
    ("asked", "wait_s"),
    [("3", 3.0), ("0", 0.0), ("1e9", 30.0), ("-1", None), ("nan", None), ("soon", None), (None, None)],
)
def test_a_wait_is_bounded(asked: str | None, wait_s: float | None) -> None:
    """What is no number of seconds is no wait."""
    assert asked_wait_s(asked) == wait_s
    error = Exception()
    error.response = {"ResponseMetadata": {"HTTPHeaders": {"retry-after": asked}}}  # type: ignore[attr-defined]
    assert asked_wait_of(error) == (wait_s or 0.0)
