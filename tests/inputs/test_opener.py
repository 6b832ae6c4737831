"""Paths, pipes, standard input and URLs: what opens, what is refused, and what breaks halfway."""

from __future__ import annotations

import asyncio
import functools
import gzip
import http.server
import json
import os
import random
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.errors import ConfigError, SourceError
from fanout.inputs import InputOptions, open_source, open_spool
from fanout.inputs.locations import format_of
from tests.inputs.reading import read_all, read_until_failure

RECORDS = [json.dumps({"id": i, "text": "é" * (i % 50)}, ensure_ascii=False).encode() for i in range(5000)]
LINES = b"".join(record + b"\n" for record in RECORDS)
AS_ARRAY = b"[" + b",\n".join(RECORDS) + b"]"
AS_CSV = b"id,text\n" + b"".join(b'%d,"x, y"\n' % i for i in range(5000))


@pytest.mark.parametrize("gz", [False, True])
@pytest.mark.parametrize(
    ("name", "data"),
    [("i.jsonl", LINES), ("i.ndjson", LINES), ("i.json", AS_ARRAY), ("i.csv", AS_CSV), ("I.JSONL", LINES)],
)
async def test_every_format_plain_and_gzip(tmp_path: Path, name: str, data: bytes, gz: bool) -> None:
    """The suffix says the format; all its bytes are accounted for, as they lie on the disk."""
    path = tmp_path / (name + ".gz" if gz else name)
    path.write_bytes(gzip.compress(data) if gz else data)
    source = open_source(str(path))
    items = await read_all(source)
    assert len(items) == 5000
    assert all(item.error is None for item in items)
    assert [json.loads(item.payload)["id"] for item in items] in (
        list(range(5000)),
        [str(i) for i in range(5000)],
    )
    assert source.bytes_read == source.bytes_total == path.stat().st_size


async def test_the_format_may_be_told(tmp_path: Path) -> None:
    """--format goes before the suffix, and gzip is known by its first bytes, whatever the name."""
    path = tmp_path / "export.txt"
    path.write_bytes(gzip.compress(LINES))
    assert [
        item.payload for item in await read_all(open_source(str(path), InputOptions(format="jsonl")))
    ] == RECORDS


async def test_concatenated_gzip_is_one_input(tmp_path: Path) -> None:
    """`cat a.gz b.gz`, and zeros after the end, read as one file."""
    path = tmp_path / "i.jsonl.gz"
    path.write_bytes(gzip.compress(LINES) + gzip.compress(b"1\n") + bytes(1000))
    assert len(await read_all(open_source(str(path)))) == 5001


def test_what_cannot_be_opened_is_told_in_one_line(tmp_path: Path) -> None:
    """Each message names the input, what is wrong and what to do."""
    (tmp_path / "x.orc").write_bytes(b"")
    cases = {
        str(tmp_path / "none.jsonl"): "No such file or directory: give a file, - (standard input), s3://…",
        str(tmp_path / "none"): "No such file or directory",
        str(tmp_path): "is a directory",
        str(tmp_path / "x.orc"): (
            "unknown format: name it .jsonl, .ndjson, .json, .csv, .tsv or .parquet "
            "(or .gz, .zst, .bz2, .xz of these), or give --format"
        ),
        '{"a":1}': "INPUT is JSON itself",
        "http://[x/a.jsonl": "http://… is no URL: Invalid IPv6 URL",
        "http:///a.jsonl": "is no URL: it names no host",
        "http://h:x/a.jsonl": "is no URL: Port could not be cast",
        "http://a b/a.jsonl": "is no URL: 'a b' is no host",
        f"http://{'a' * 70}.ä/a.jsonl": "is no name of a host",
        "https://example.com/data": "unknown format",
        "a\0b.jsonl": "null",
    }
    for location, words in cases.items():
        with pytest.raises(SourceError) as caught:
            open_source(location)
        assert words in str(caught.value)
        assert "\n" not in str(caught.value)
    for location, words in {
        "s3://lake/photos": "or give --format; for one call per object below it, s3://lake/photos/$",
        "s3://lake/photos/a.jpg": "or give --format$",
    }.items():
        with pytest.raises(SourceError, match=words):
            format_of(location, InputOptions())
    with pytest.raises(ConfigError, match=r"format is 'xml': give jsonl \| json \| csv"):
        open_source("-", InputOptions(format="xml"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    """No permission is one line, at once."""
    path = tmp_path / "i.jsonl"
    path.write_bytes(LINES)
    path.chmod(0)
    with pytest.raises(SourceError, match="Permission denied"):
        open_source(str(path))


async def test_a_truncated_gzip_gives_what_it_holds(tmp_path: Path) -> None:
    """Every whole record before the cut comes, none of half a record, then one line says how far."""
    path = tmp_path / "i.jsonl.gz"
    noise = random.Random(1)
    records = [b'"%032x"' % noise.getrandbits(128) for _ in range(20_000)]
    packed = gzip.compress(b"\n".join(records))
    path.write_bytes(packed[: len(packed) * 2 // 3])
    items, failure = await read_until_failure(open_source(str(path)))
    assert 10_000 < len(items) < 20_000
    assert [item.payload for item in items] == records[: len(items)]
    assert str(failure) == f"{path}: ends in the middle of its gzip data (after {len(items):,} records)"


async def test_broken_gzip_is_told(tmp_path: Path) -> None:
    """Bytes that only begin like gzip are an error, not records."""
    path = tmp_path / "i.jsonl.gz"
    path.write_bytes(b"\x1f\x8b" + b"nonsense" * 20)
    items, failure = await read_until_failure(open_source(str(path)))
    assert items == []
    assert "is broken gzip data" in str(failure)


async def test_a_source_is_lazy(tmp_path: Path) -> None:
    """Of a large file only a few chunks are read while nobody asks for more."""
    path = tmp_path / "i.jsonl"
    path.write_bytes(LINES * 40)
    source = open_source(str(path))
    batches = source.batches()
    first = await anext(batches)
    await asyncio.sleep(0.05)
    assert len(first) <= 1000
    assert source.bytes_read <= 3 * 256 * 1024
    assert source.bytes_total == path.stat().st_size
    await source.aclose()


async def test_a_source_that_is_never_read_lets_go(tmp_path: Path) -> None:
    """Closing without reading leaves no file open (a ResourceWarning would fail the test)."""
    path = tmp_path / "i.jsonl"
    path.write_bytes(LINES)
    await open_source(str(path)).aclose()


async def test_a_named_pipe_is_read_as_it_comes(tmp_path: Path) -> None:
    """`<(command)` works: a pipe has no suffix, is JSON Lines, and a record comes before the pipe ends."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    source = open_source(str(path))
    batches = source.batches()

    def feed() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(b"1\n2\n3")
            is_read.wait(60)
            pipe.write(b"4\n")

    is_read = threading.Event()
    writer = threading.Thread(target=feed)
    writer.start()
    assert [item.payload for item in await anext(batches)] == [b"1", b"2"]
    is_read.set()
    assert [item.payload for item in await anext(batches)] == [b"34"]
    await source.aclose()
    writer.join()


STDIN_READER = """
import asyncio, sys
from pathlib import Path
from fanout.inputs import open_source
async def main():
    spool = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    source = open_source("-", spool=spool)
    async for batch in source.batches():
        print(len(batch), flush=True)
        if len(sys.argv) > 2:
            break
    await source.aclose()
asyncio.run(main())
"""


def test_a_silent_standard_input_does_not_keep_the_process() -> None:
    """A run that ends while its pipe is silent ends: nobody has to press Ctrl-D."""
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", STDIN_READER, "/dev/null/none", "stop"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        # The spool cannot be made, so the source fails at the first bytes while the pipe stays open.
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(b"1\n")
        process.stdin.flush()
        assert process.wait(timeout=60) == 1
        assert b"cannot be spooled" in process.stderr.read()


async def test_standard_input_is_spooled_before_it_is_used(tmp_path: Path) -> None:
    """What a killed process had read of a pipe can be read again, and no torn line becomes a record."""
    spool = tmp_path / "spool"
    with subprocess.Popen(
        [sys.executable, "-c", STDIN_READER, str(spool)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b'{"a":1}\n{"a":2}\n123')
        process.stdin.flush()
        assert process.stdout.readline() == b"2\n"
        process.kill()
    assert spool.read_bytes() == b'{"a":1}\n{"a":2}\n123'
    items, failure = await read_until_failure(open_spool(spool))
    assert [item.payload for item in items] == [b'{"a":1}', b'{"a":2}']
    assert "pipe the same input in once more" in str(failure)


def test_a_standard_input_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    """Whoever started the command may have made its pipe non-blocking: then it waits all the same."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    with (
        os.fdopen(reading, "rb") as reader,
        os.fdopen(writing, "wb", buffering=0) as writer,
        subprocess.Popen(
            [sys.executable, "-c", STDIN_READER], stdin=reader, stdout=subprocess.PIPE
        ) as process,
    ):
        assert process.stdout is not None
        for records in (b"1\n", b"2\n3\n"):
            time.sleep(0.2)
            writer.write(records)
            assert int(process.stdout.readline()) == records.count(b"\n")
        writer.close()
        assert process.wait(timeout=60) == 0


async def test_a_whole_spool_is_the_whole_input(tmp_path: Path) -> None:
    """When standard input had ended, its spool reads without complaint, the last line included."""
    spool = tmp_path / "spool"
    subprocess.run([sys.executable, "-c", STDIN_READER, str(spool)], input=b"1\n2\n3", check=True)
    items, failure = await read_until_failure(open_spool(spool))
    assert [item.payload for item in items] == [b"1", b"2", b"3"]
    assert failure is None


class _Handler(http.server.BaseHTTPRequestHandler):
    """Answers by path: the data, the data cut short, or a refusal."""

    def do_GET(self) -> None:
        if self.path == "/gone.jsonl":
            self.send_error(404)
            return
        if self.path == "/elsewhere.jsonl":
            self.send_response(302)
            self.send_header("Location", "/open.jsonl")
            self.end_headers()
            return
        needed = "Basic dSBzZXI6cCB3" if self.path == "/private.jsonl" else None
        if self.headers.get("Authorization") != needed:
            self.send_error(401)
            return
        self.send_response(200)
        if self.path != "/endless.jsonl":
            self.send_header("Content-Length", str(len(LINES)))
        self.end_headers()
        self.wfile.write(LINES[: len(LINES) // 2] if self.path == "/cut.jsonl" else LINES)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def base_url() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler) as server:
        thread = threading.Thread(target=functools.partial(server.serve_forever, poll_interval=0.01))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


async def test_a_url_is_streamed(base_url: str) -> None:
    """The records of a URL are those of its body, with or without a Content-Length."""
    source = open_source(f"{base_url}/data.jsonl?token=1")
    assert [item.payload for item in await read_all(source)] == RECORDS
    assert source.bytes_read == source.bytes_total == len(LINES)
    assert len(await read_all(open_source(f"{base_url}/endless.jsonl"))) == 5000


async def test_the_user_of_a_url_is_told_to_its_server_alone(base_url: str) -> None:
    """Basic authorization, decoded; a redirect does not carry it on, and the password is in no message."""
    with_user = base_url.replace("http://", "http://u%20ser:p%20w@")
    assert len(await read_all(open_source(f"{with_user}/private.jsonl"))) == 5000
    assert len(await read_all(open_source(f"{with_user}/elsewhere.jsonl"))) == 5000
    items, failure = await read_until_failure(open_source(f"{with_user.replace('ser', '')}/private.jsonl"))
    assert items == []
    assert str(failure) == f"{base_url}/private.jsonl: answers HTTP 401 Unauthorized"


async def test_a_url_that_fails_is_told(base_url: str) -> None:
    """A status other than 200 gives no records; a body cut short gives those that came, and says so."""
    items, failure = await read_until_failure(open_source(f"{base_url}/gone.jsonl"))
    assert items == []
    assert str(failure) == f"{base_url}/gone.jsonl: answers HTTP 404 Not Found"
    items, failure = await read_until_failure(open_source(f"{base_url}/cut.jsonl"))
    assert 0 < len(items) < 5000
    assert "broke off" in str(failure)
    assert f"after {len(items):,} records" in str(failure)
    items, failure = await read_until_failure(open_source("http://127.0.0.1:1/x.jsonl"))
    assert "cannot be read" in str(failure)


class _Impatient(http.server.BaseHTTPRequestHandler):
    """A body that cannot be taken up again, once; a reader that does not keep up is hung up on."""

    data = b"".join(b'{"n":%d,"x":"%s"}\n' % (n, b"x" * 2000) for n in range(8000))

    def do_GET(self) -> None:
        server = self.server
        assert isinstance(server, _ImpatientServer)
        server.count += 1
        if server.count > 1:
            self.send_error(403)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.data)))
        self.end_headers()
        self.connection.settimeout(15)  # of a send: far more than the whole body takes
        try:
            self.wfile.write(self.data)
        except OSError:
            return
        server.is_sent.set()

    def log_message(self, *args: object) -> None:
        pass


class _ImpatientServer(http.server.ThreadingHTTPServer):
    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Impatient)
        self.count = 0
        self.is_sent = threading.Event()


async def test_a_url_that_cannot_be_taken_up_again_is_copied_as_it_comes() -> None:
    """No ETag, no date: the body has come whole before the second record is wanted, and waits in a file."""
    with _ImpatientServer() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        source = open_source(f"http://127.0.0.1:{server.server_port}/in.jsonl")
        batches = source.batches()
        seen = len(await anext(batches))
        assert await asyncio.to_thread(server.is_sent.wait, 20), "the server waits for a slow reader"
        assert source.bytes_read < len(_Impatient.data) / 4
        async for batch in batches:
            seen += len(batch)
        await source.aclose()
        assert (seen, server.count) == (8000, 1)
        assert source.bytes_read == source.bytes_total == len(_Impatient.data)
        server.shutdown()


@pytest.mark.parametrize("suffix", ["jsonl", "jsonl.gz"])
async def test_bytes_read_follows_the_records_handed_out(tmp_path: Path, suffix: str) -> None:
    """Halfway through the records it is about half of the file, though the reader is far ahead."""
    path = tmp_path / f"in.{suffix}"
    data = b"".join(b'{"n": %d}\n' % n for n in range(100_000, 110_000))
    path.write_bytes(gzip.compress(data) if suffix.endswith("gz") else data)
    source = open_source(str(path))
    seen, at_half = 0, 0.0
    async for batch in source.batches():
        seen += len(batch)
        if seen >= 5_000 and not at_half:
            assert source.bytes_total is not None
            at_half = source.bytes_read / source.bytes_total
    assert 0.45 < at_half < 0.6
    assert source.bytes_read == source.bytes_total == path.stat().st_size


@pytest.mark.parametrize("locations", [[""], ["in.jsonl", ""]])
def test_an_empty_input_is_named_as_that(locations: list[str]) -> None:
    """It is what a shell makes of a variable without a value; it was taken for a directory."""
    with pytest.raises(SourceError, match=r"^an INPUT is empty: give a file"):
        open_source(locations)
