"""Resume by position, as a property: whatever was finished, whatever breaks, each other record comes once."""

from __future__ import annotations

import bz2
import gzip
import json
import lzma
import random
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.aws import ServiceClients
from fanout.inputs import Item, Jump, PlacedSource, Places, Source, open_source
from fanout.inputs import s3 as s3_module
from tests.inputs.object_server import ObjectServer
from tests.inputs.reading import read_all

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

COUNT = 1500
EVERY = 50
PACKS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": zstd.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
}
TEXTS = [f"{text}{i}" for i in range(COUNT // 6) for text in ("a", 'b"c', "d,e;f", "é😀", "", "g\th")]


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _parquet() -> bytes:
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table({"a": TEXTS, "b": list(range(COUNT))}), sink, row_group_size=400)
    return bytes(sink.getvalue())


CONTENTS: dict[str, bytes] = {
    "in.jsonl": "".join(json.dumps({"a": text}, ensure_ascii=False) + "\n" for text in TEXTS).encode(),
    "in.ndjson": "\r\n\n".join(json.dumps({"a": text}) for text in TEXTS).encode("utf-16"),
    "in.json": json.dumps([{"a": text} for text in TEXTS], ensure_ascii=False, indent=1).encode(),
    "in.csv": ("a;b\n" + "".join(f"{_quoted(text)};{i}\n" for i, text in enumerate(TEXTS))).encode(),
    "in.tsv": ("a\tb\r" + "".join(f"{_quoted(text)}\t{i}\r" for i, text in enumerate(TEXTS))).encode(),
}
NAMES = [name + suffix for name in CONTENTS for suffix in PACKS]


def content_of(name: str) -> bytes:
    """The bytes of an input of that name."""
    if name == "in.parquet":
        return _parquet()
    plain = ".".join(name.split(".")[:2])
    return PACKS[name.removeprefix(plain)](CONTENTS[plain])


async def entered(open_it: Callable[[], Source], kept: Path, finished: set[int]) -> dict[int, Item]:
    """What a resume reads, by number. No record comes twice."""

    def wanted_from(seq: int) -> int:
        return next((each for each in range(seq, COUNT) if each not in finished), COUNT)

    source = PlacedSource(open_it(), Places(kept, goes_on=True), wanted_from=wanted_from, reopen=open_it)
    found: dict[int, Item] = {}
    seq = 0
    async for batch in source.batches():
        for item in batch:
            if isinstance(item, Jump):
                seq = item.seq
                continue
            assert seq not in found
            found[seq] = item
            seq += 1
    await source.aclose()
    return found


async def check(open_it: Callable[[], Source], holes: list[tuple[int, int]]) -> int:
    """Read all, then what lies in the holes of what is finished; returns how many records were read again."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanout.inputs.places.EVERY_RECORDS", EVERY)
        kept = Path(directory) / "places"
        items = await read_all(PlacedSource(open_it(), Places(kept)))
        assert len(items) == COUNT
        wanted = {seq for start, length in holes for seq in range(start, min(COUNT, start + length))}
        found = await entered(open_it, kept, set(range(COUNT)) - wanted)
        assert wanted <= set(found)
        assert all(found[seq] == items[seq] for seq in found)
        return len(found)


HOLES = st.lists(st.tuples(st.integers(0, COUNT - 1), st.integers(1, 40)), max_size=4)


@settings(max_examples=30)
@given(st.sampled_from([*NAMES, "in.parquet"]), HOLES, st.integers(700, 20_000))
async def test_a_file_is_entered_where_records_lack(
    name: str, holes: list[tuple[int, int]], chunk_bytes: int
) -> None:
    """Payloads, lines and numbers are those of the first reading, in every format and compression."""
    with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanout.inputs.readers.CHUNK_BYTES", chunk_bytes)
        patch.setattr("fanout.inputs.compression.UNPACKED_BYTES", chunk_bytes)
        path = Path(directory) / name
        path.write_bytes(content_of(name))
        await check(lambda: open_source(str(path)), holes)


class Shared:
    """One session for all sources of an example."""

    def __init__(self) -> None:
        self.clients = ServiceClients()

    async def client(self, service: str) -> Any:
        """The one of the session."""
        return await self.clients.client(service)

    async def aclose(self) -> None:
        """Others go on using it."""


@pytest.mark.slow
@settings(max_examples=8)
@given(st.sampled_from([*NAMES, "in.parquet"]), HOLES, st.randoms(use_true_random=False))
async def test_an_object_is_entered_through_cuts(
    name: str, holes: list[tuple[int, int]], rng: random.Random
) -> None:
    """The same, over replies that break off anywhere."""
    with pytest.MonkeyPatch.context() as patch:
        server = ObjectServer()
        for variable, value in {
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": server.url,
        }.items():
            patch.setenv(variable, value)
        patch.setattr("fanout.patience.WAITS_S", (0.0,) * 4)
        patch.setattr(s3_module, "CHUNK_BYTES", rng.randrange(700, 20_000))
        server.objects[f"/lake/{name}"] = content_of(name)
        server.cuts = [rng.randrange(1, 60_000) for _ in range(4)]
        shared = Shared()
        try:
            await check(lambda: open_source(f"s3://lake/{name}", clients=lambda: shared), holes)
        finally:
            await shared.clients.aclose()
            server.shutdown()
            server.server_close()


async def test_little_is_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One record at the end costs some of its neighbours, not the file."""
    monkeypatch.setattr("fanout.inputs.readers.CHUNK_BYTES", 1000)
    (tmp_path / "in.jsonl").write_bytes(content_of("in.jsonl"))
    assert await check(lambda: open_source(str(tmp_path / "in.jsonl")), [(COUNT - 5, 1)]) < 200
