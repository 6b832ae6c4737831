"""Inputs that break off: what stands whole before the break is handed out, and then the break is reported."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.aws import ServiceClients
from fanout.aws import session as aws_session
from fanout.errors import SourceError
from fanout.inputs import InputOptions, open_source
from fanout.inputs import http as http_module
from fanout.inputs.bytes_source import BytesSource, splitter_of
from fanout.inputs.compression import UnpackedReader
from fanout.inputs.readers import FileReader, TextReader
from tests.inputs.object_server import ObjectServer, as_s3
from tests.inputs.reading import read_until_failure
from tests.inputs.test_compression import PACKS

VALUES = [{"id": f"{i}", "text": f'{i * 7919 % 4001} "said",\nover two lines'} for i in range(1500)]


def document(form: str, values: list[dict[str, str]]) -> bytes:
    """Values in one of the formats."""
    if form == "json":
        return json.dumps(values).encode()
    if form != "csv":
        return b"".join(json.dumps(value).encode() + b"\n" for value in values)
    text = io.StringIO()
    table = csv.DictWriter(text, ["id", "text"], lineterminator="\n")
    table.writeheader()
    table.writerows(values)
    return text.getvalue().encode()


def whole_records(form: str, data: bytes) -> int:
    """How many records end in the first bytes of such a document."""
    if form == "csv":
        return max(0, data.count(b'lines"\n'))
    return data.count(b"}" if form == "json" else b"\n")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """The small server, as S3 and as a host of files, and no waits."""
    monkeypatch.setattr(aws_session, "SERVICE_READ_TIMEOUT_S", 0.2)
    monkeypatch.setattr(http_module, "_SILENCE_S", 0.2)
    with as_s3(monkeypatch, waits_s=()) as made:
        yield made


def unpacked_until_the_break(stored: bytes) -> bytes:
    """What a reader gives before it fails."""
    reader = UnpackedReader(FileReader(io.BytesIO(stored)))
    kept = b""
    with pytest.raises(SourceError):
        while chunk := reader.read():
            kept += chunk
    return kept


def location_of(way: str, name: str, data: bytes, folder: Path, server: ObjectServer) -> str:
    """Put the bytes where this way in finds them."""
    path = folder / name
    if way == "file":
        path.write_bytes(data)
    elif way == "pipe":
        os.mkfifo(path)
        threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()
    else:
        server.objects[f"/lake/{name}"] = data
        return f"s3://lake/{name}" if way == "S3" else f"{server.url}/lake/{name}"
    return str(path)


@pytest.mark.parametrize(
    ("way", "form", "suffix"),
    [
        *(("file", form, suffix) for form in ("jsonl", "csv", "json", "lines") for suffix in PACKS),
        ("pipe", "json", ".zst"),
        ("pipe", "csv", ".bz2"),
        ("URL", "json", ".xz"),
        ("URL", "csv", ""),
        ("S3", "json", ".gz"),
        ("S3", "json", ""),
    ],
)
async def test_whole_records_before_a_break_are_handed_out(
    way: str, form: str, suffix: str, tmp_path: Path, server: ObjectServer
) -> None:
    """None is lost, none is torn, and then comes the reason."""
    stored = data = document(form, VALUES)
    kept = data[: len(data) * 2 // 3]
    if suffix:
        stored = PACKS[suffix](kept[:-300]) + PACKS[suffix](kept[-300:])[:-1]
        kept = unpacked_until_the_break(stored)
    else:
        server.stalls = [len(kept)]  # then silence: a cut might take with it what had just come
    location = location_of(way, f"in.{form}{suffix}", stored, tmp_path, server)
    source = open_source(location, InputOptions(format=form), clients=ServiceClients)
    items, failure = await read_until_failure(source)
    assert len(items) == whole_records(form, kept)
    assert [item.error for item in items if item.error is not None] == []
    assert re.search(r"ends in the middle" if suffix else r"broke off|reached|timed out", str(failure))


class _Pieces(FileReader):
    """Bytes in given pieces, then a failure."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__(io.BytesIO())
        self._pieces = pieces

    def read(self) -> bytes:
        if not self._pieces:
            raise SourceError("broke off")
        return self._pieces.pop(0)


FORMS = st.sampled_from(["jsonl", "csv", "json"])


@settings(max_examples=60)
@given(FORMS, st.integers(1, 600), st.lists(st.integers(1, 600), max_size=6))
async def test_the_records_are_those_before_any_break(form: str, end: int, places: list[int]) -> None:
    """However the bytes before the break come, in however many pieces."""
    data = document(form, VALUES[:9])[:end]
    bounds = sorted({0, *(place for place in places if place < len(data)), len(data)})
    pieces = [data[bounds[i] : bounds[i + 1]] for i in range(len(bounds) - 1)]
    source = BytesSource("in", _Pieces(pieces), lambda at: splitter_of(form, InputOptions(), at))
    items, failure = await read_until_failure(source)
    assert [json.loads(item.payload) for item in items] == VALUES[: whole_records(form, data)]
    assert "broke off" in str(failure)


@pytest.mark.parametrize(
    ("encoding", "wrong"),
    [("cp1252", b"\x81"), ("utf-16", b"\x00\xd8A\x00"), ("shift_jis", b"\xff"), ("utf-8-sig", b"\xff")],
)
@pytest.mark.parametrize("length", [1, 3, 1000])
async def test_the_records_before_a_wrong_character_are_handed_out(
    encoding: str, wrong: bytes, length: int
) -> None:
    """Wherever the pieces end in which the bytes come."""
    values = [{"id": f"{i}"} for i in range(20)]
    good = document("jsonl", values).decode().encode(encoding)
    data = good + wrong + good
    pieces = _Pieces([data[at : at + length] for at in range(0, len(data), length)])
    reader = TextReader(pieces, encoding)
    source = BytesSource("in", reader, lambda at: splitter_of("jsonl", InputOptions(), at))
    items, failure = await read_until_failure(source)
    assert [json.loads(item.payload) for item in items] == values
    assert f"is not {encoding}: " in str(failure)
