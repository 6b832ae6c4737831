"""URLs whose bodies break off: read on with Range and If-Range, from the byte where they broke."""

from __future__ import annotations

import http.server
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from fanout.inputs import open_source
from tests.inputs.reading import read_until_failure

RECORDS = [b'{"n":%d,"text":"%s"}' % (n, b"x" * 50) for n in range(200)]
BODY = b"".join(record + b"\n" for record in RECORDS)
CUT_AT = 4_000
ETAG = {"ETag": '"one"'}


@dataclass(frozen=True)
class Answer:
    """A reply: its status and headers, and which bytes it says and brings."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: dict(ETAG))
    first: int = 0
    end: int = len(BODY)
    brings: int = len(BODY)


@dataclass
class Script:
    """The answers to one request after the other, the last one again and again; and what was asked."""

    answers: list[Answer]
    paths: list[str] = field(default_factory=list)
    asked: list[tuple[str | None, str | None]] = field(default_factory=list)


CUT = Answer(brings=CUT_AT)
REST = Answer(206, ETAG | {"Content-Range": f"bytes {CUT_AT}-{len(BODY) - 1}/{len(BODY)}"}, first=CUT_AT)


class _Handler(http.server.BaseHTTPRequestHandler):
    script: Script

    def do_GET(self) -> None:
        script = self.script
        script.paths.append(self.path)
        script.asked.append((self.headers.get("Range"), self.headers.get("If-Range")))
        answer = script.answers[min(len(script.asked), len(script.answers)) - 1]
        if not answer.status:  # hangs up without a word
            return
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(answer.end - answer.first))
        self.end_headers()
        self.wfile.write(BODY[answer.first : min(answer.end, answer.first + answer.brings)])

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Script, str]]:
    """A server that answers by its script, and its URL. A reader that waits for nothing between tries."""
    monkeypatch.setattr("fanout.patience.WAITS_S", (0.0, 0.0, 0.0))
    script = Script([])
    handler = type("Handler", (_Handler,), {"script": script})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield script, f"http://127.0.0.1:{server.server_port}/in.jsonl"
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("ä b.jsonl", "/%C3%A4%20b.jsonl"),
        ("a%20b%zz.jsonl?q=ü&r=%41#here", "/a%20b%zz.jsonl?q=%C3%BC&r=%41"),
        ("\udcff{}.jsonl", "/%FF{}.jsonl"),
    ],
)
async def test_a_path_is_percent_encoded(server: tuple[Script, str], name: str, path: str) -> None:
    """What a request line cannot carry, as a browser does; what is encoded already stays as it is."""
    script, url = server
    script.answers = [Answer()]
    items, failure = await read_until_failure(
        open_source(url.replace("http", "HTTP").replace("in.jsonl", name))
    )
    assert (failure, len(items)) == (None, len(RECORDS))
    assert script.paths == [path]


DATED = {"ETag": 'W/"one"', "Last-Modified": "Sat, 28 Nov 2026 06:00:00 GMT"}


@pytest.mark.parametrize(
    "answers",
    [
        pytest.param([CUT, REST], id="the rest alone"),
        pytest.param([CUT, Answer()], id="the whole once more"),
        pytest.param([CUT, Answer(503), REST], id="busy for a moment"),
        pytest.param([CUT, Answer(0), REST], id="no answer for a moment"),
        pytest.param([CUT, Answer(brings=CUT_AT // 2), REST], id="cut again before it was as far"),
        pytest.param([Answer(headers=DATED, brings=CUT_AT), REST], id="by its date where the ETag is weak"),
    ],
)
async def test_a_body_that_broke_off_is_read_on(server: tuple[Script, str], answers: list[Answer]) -> None:
    """Each record once, asked for from the byte where it broke, of that very version."""
    script, url = server
    script.answers = answers
    source = open_source(url)
    items, failure = await read_until_failure(source)
    assert failure is None
    assert [item.payload for item in items] == RECORDS
    assert source.bytes_read == len(BODY)
    version = DATED["Last-Modified"] if answers[0].headers is DATED else ETAG["ETag"]
    assert script.asked == [(None, None)] + [(f"bytes={CUT_AT}-", version)] * (len(answers) - 1)


OTHER = Answer(
    206, {"ETag": '"two"', "Content-Range": f"bytes {CUT_AT}-{len(BODY) - 1}/{len(BODY)}"}, first=CUT_AT
)
MOVED = Answer(206, ETAG | {"Content-Range": f"bytes 5-{len(BODY) - 1}/{len(BODY)}"}, first=5)


@pytest.mark.parametrize(
    ("answers", "fault"),
    [
        ([CUT, Answer(headers={"ETag": '"two"'})], "changed while it was read"),
        ([CUT, OTHER], "changed while it was read"),
        ([CUT, MOVED], "answers with other bytes than those it was asked for"),
        ([CUT, Answer(403)], "answers HTTP 403 Forbidden"),
        ([CUT, Answer(202)], "answers HTTP 202 Accepted"),
        ([CUT], f"broke off: {CUT_AT:,} of {len(BODY):,} bytes came"),
        ([CUT, Answer(503)], "answers HTTP 503 Service Unavailable"),
        ([Answer(202)], "answers HTTP 202 Accepted"),
        ([Answer(503)], "answers HTTP 503 Service Unavailable"),
    ],
)
async def test_what_cannot_be_read_on_is_said(
    server: tuple[Script, str], answers: list[Answer], fault: str
) -> None:
    """After the whole records that came: never another body's bytes, and not for ever."""
    script, url = server
    script.answers = answers
    items, failure = await read_until_failure(open_source(url))
    assert [item.payload for item in items] == RECORDS[: len(items)]
    assert (len(items) > 0) == (answers[0] is CUT)
    after = f" (after {len(items)} records)" if items else ""
    assert str(failure) == f"{url}: {fault}{after}"
