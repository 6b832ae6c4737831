"""Objects in S3: moto for what S3 does, and a small server for what goes wrong."""

from __future__ import annotations

import asyncio
import bz2
import gzip
import hashlib
import json
import lzma
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import boto3
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.aws import ServiceClients
from fanout.errors import SourceError
from fanout.inputs import InputOptions, Source, open_source
from fanout.inputs import listing as listing_module
from fanout.inputs import many as many_module
from fanout.inputs.s3 import ObjectReader, ObjectStream
from tests.inputs.object_server import ObjectServer, as_s3
from tests.inputs.reading import read_all, read_until_failure

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

RECORDS = [json.dumps({"id": i}).encode() for i in range(3000)]
LINES = b"".join(record + b"\n" for record in RECORDS)


@pytest.fixture(scope="module")
def many() -> list[bytes]:
    """More records than one read brings."""
    return [b'{"id": %d}' % i for i in range(200_000)]


@pytest.fixture
def bucket(moto: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    """An empty bucket ``lake``, and an environment that leads to it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", moto)
    s3 = boto3.resource("s3", endpoint_url=moto, region_name="us-east-1")
    found = s3.Bucket("lake")
    if found.creation_date is None:
        found.create()
    found.objects.delete()
    return found


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[ObjectServer]:
    """The small server, as S3, and waits without length."""
    with as_s3(monkeypatch, waits_s=(0.0,) * 4) as made:
        yield made


def opened(*locations: str, listing: Path | None = None, **options: Any) -> Source:
    """The source of locations in S3."""
    return open_source(locations, InputOptions(**options), clients=ServiceClients, listing=listing)


@pytest.mark.parametrize(
    ("name", "pack"),
    [
        ("i.jsonl", bytes),
        ("i.jsonl.gz", gzip.compress),
        ("i.jsonl.zst", zstd.compress),
        ("i.jsonl.bz2", bz2.compress),
        ("i.jsonl.xz", lzma.compress),
    ],
)
async def test_an_object_is_read_plain_and_packed(bucket: Any, name: str, pack: Any) -> None:
    """One object is its records, with their lines."""
    bucket.put_object(Key=name, Body=pack(LINES))
    items = await read_all(opened(f"s3://lake/{name}"))
    assert [item.payload for item in items] == RECORDS
    assert items[-1].line == 3000
    assert items[0].source is None


async def test_a_pattern_is_its_objects_in_the_order_of_keys(bucket: Any) -> None:
    """``*`` stops at a slash; each record says which object it is of."""
    for key in ("in/b.jsonl", "in/a.jsonl", "in/deep/c.jsonl", "in/d.txt"):
        bucket.put_object(Key=key, Body=f'"{key}"\n'.encode())
    items = await read_all(opened("s3://lake/in/*.jsonl"))
    assert [(item.payload, item.source, item.line) for item in items] == [
        (b'"in/a.jsonl"', "s3://lake/in/a.jsonl", 1),
        (b'"in/b.jsonl"', "s3://lake/in/b.jsonl", 1),
    ]
    assert len(await read_all(opened("s3://lake/in/**/*.jsonl"))) == 3


async def test_a_key_is_taken_letter_by_letter(bucket: Any) -> None:
    """Spaces, percent signs, hashes, quotes and letters beyond ASCII, whether it is named or found."""
    keys = ["odd/a b%20+#&='\"é語.jsonl", "odd/a%zz{}^|`;:@,.jsonl"]
    for key in keys:
        bucket.put_object(Key=key, Body=json.dumps(key).encode())
    named = [json.loads((await read_all(opened(f"s3://lake/{key}")))[0].payload) for key in keys]
    found = [json.loads(item.payload) for item in await read_all(opened("s3://lake/odd/*.jsonl"))]
    assert (named, found) == (keys, keys)


async def test_a_prefix_is_a_record_for_each_object(bucket: Any) -> None:
    """As Distributed Map lists them; a folder's own empty key is left out."""
    bucket.put_object(Key="in/", Body=b"")
    for i in range(3):
        bucket.put_object(Key=f"in/{i} é.bin", Body=b"x" * i)
    records = [json.loads(item.payload) for item in await read_all(opened("s3://lake/in/"))]
    assert [(record["Bucket"], record["Key"], record["Size"]) for record in records] == [
        ("lake", f"in/{i} é.bin", i) for i in range(3)
    ]
    assert set(records[0]) == {"Bucket", "Key", "Size", "ETag", "LastModified"}


async def test_a_prefix_says_first_how_many_calls_it_is(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One page is the count; where more may come, the count so far "or more", before the first record."""
    found = "".join(
        f'<Contents><Key>in/{i}.bin</Key><Size>1</Size><ETag>"e"</ETag>'
        "<LastModified>2026-11-27T10:00:00Z</LastModified></Contents>"
        for i in range(5)
    )
    page = f"<ListBucketResult><IsTruncated>false</IsTruncated>{found}</ListBucketResult>".encode()

    def behave(request: Any) -> bool:
        request.reply(page)
        return True

    server.behave = behave
    said: list[str] = []
    for page_keys in (1000, 5):
        monkeypatch.setattr("fanout.inputs.many.PAGE_KEYS", page_keys)
        source = open_source("s3://lake/in/", clients=ServiceClients, on_notice=said.append)
        before = len(said)
        async for batch in source.batches():
            assert len(said) > before, "the count comes first"
            assert batch
        await source.aclose()
    where = "s3://lake/in/: 5 objects"
    assert said == [f"{where}, one call each", f"{where} or more, one call each"]


async def test_what_comes_later_shifts_no_number(bucket: Any, tmp_path: Path) -> None:
    """A listing that is kept is read again as it was; only beyond its end is the bucket asked."""
    for name in "bd":
        bucket.put_object(Key=f"in/{name}.jsonl", Body=f'"{name}"\n'.encode())
    listing = tmp_path / "inputs.gz"
    before = await read_all(opened("s3://lake/in/*.jsonl", listing=listing))
    for name in "ace":
        bucket.put_object(Key=f"in/{name}.jsonl", Body=b"0\n")
    assert await read_all(opened("s3://lake/in/*.jsonl", listing=listing)) == before


async def test_another_object_under_the_name_is_refused(bucket: Any, tmp_path: Path) -> None:
    """By its ETag, in one line."""
    bucket.put_object(Key="i.jsonl", Body=LINES)
    listing = tmp_path / "inputs.gz"
    await read_all(opened("s3://lake/i.jsonl", listing=listing))
    bucket.put_object(Key="i.jsonl", Body=LINES + b"1\n")
    with pytest.raises(SourceError, match=r"s3://lake/i.jsonl: is not the object .* ETag has changed"):
        await read_all(opened("s3://lake/i.jsonl", listing=listing))


@pytest.mark.parametrize(
    ("location", "words"),
    [
        ("s3://lake/none.jsonl", "no such object"),
        ("s3://none-at-all/x.jsonl", "no such bucket"),
        ("s3://lake/none/*.jsonl", "no object matches"),
    ],
)
async def test_what_is_not_there_is_one_line(bucket: Any, location: str, words: str) -> None:
    """The message names the location and what is wrong."""
    with pytest.raises(SourceError) as caught:
        await read_all(opened(location))
    assert str(caught.value).startswith(f"{location}: ")
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@settings(max_examples=6)
@given(st.lists(st.integers(0, len(LINES)), max_size=4), st.sampled_from(["", ".gz", ".zst"]))
async def test_cuts_anywhere_lose_and_double_nothing(cuts: list[int], suffix: str) -> None:
    """A reply that breaks off is taken up where it broke: the records are the object's, each once."""
    with pytest.MonkeyPatch.context() as patch, as_s3(patch, waits_s=(0.0,) * 4) as made:
        packs: dict[str, Any] = {"": bytes, ".gz": gzip.compress, ".zst": zstd.compress}
        made.objects[f"/lake/i.jsonl{suffix}"] = packs[suffix](LINES)
        made.cuts = list(cuts)
        items = await read_all(opened(f"s3://lake/i.jsonl{suffix}"))
    assert [item.payload for item in items] == RECORDS


async def test_an_object_that_changes_while_it_is_read_ends_the_input(
    server: ObjectServer, many: list[bytes]
) -> None:
    """What came before is kept, and nothing of the other object follows it."""
    server.objects["/lake/i.jsonl"] = lines = b"\n".join(many) + b"\n"
    server.cuts = [600_000]

    def change() -> None:
        if len(server.requests) == 2:
            server.objects["/lake/i.jsonl"] = lines.replace(b"id", b"no")

    server.on_request = change
    items, failure = await read_until_failure(opened("s3://lake/i.jsonl"))
    assert [item.payload for item in items] == many[: len(items)]
    assert 0 < len(items) < 200_000
    assert failure is not None
    assert "ETag has changed" in str(failure)


@pytest.mark.parametrize(
    ("status", "first", "etag", "words"),
    [
        (200, None, None, "other bytes (all of them)"),
        (206, 0, None, "other bytes (bytes 0-"),
        (206, 600_007, None, "other bytes (bytes 600007-"),
        (206, 600_000, '"another"', "ETag has changed"),
    ],
)
async def test_a_server_that_heeds_no_range_and_no_etag_ends_the_input(
    server: ObjectServer, many: list[bytes], status: int, first: int | None, etag: str | None, words: str
) -> None:
    """Where a reading goes on, it is with the bytes that follow, of the same object, or not at all."""
    server.objects["/lake/i.jsonl"] = lines = b"\n".join(many) + b"\n"
    server.cuts = [600_000]

    def lie(handler: Any) -> bool:
        if len(server.requests) == 1:
            return False
        body = lines[first or 0 :]
        handler.send_response(status)
        handler.send_header("ETag", etag or f'"{hashlib.md5(lines).hexdigest()}"')
        handler.send_header("Last-Modified", "Fri, 27 Nov 2026 10:00:00 GMT")
        handler.send_header("Content-Length", str(len(body)))
        if first is not None:
            handler.send_header("Content-Range", f"bytes {first}-{len(lines) - 1}/{len(lines)}")
        handler.end_headers()
        handler.wfile.write(body)
        return True

    server.behave = lie
    items, failure = await read_until_failure(opened("s3://lake/i.jsonl"))
    assert [item.payload for item in items] == many[: len(items)]
    assert words in str(failure)


@pytest.mark.parametrize("missing", ["ETag", "Content-Length", "Last-Modified"])
async def test_an_answer_that_is_not_one_of_s3_is_one_line(server: ObjectServer, missing: str) -> None:
    """As a proxy's page of status 200 would be."""

    def answer(handler: Any) -> bool:
        head = {"ETag": "e", "Content-Length": "0", "Last-Modified": "Fri, 27 Nov 2026 10:00:00 GMT"}
        handler.send_response(200)
        for name in head.keys() - {missing}:
            handler.send_header(name, head[name])
        handler.end_headers()
        handler.close_connection = True
        return True

    server.behave = answer
    _, failure = await read_until_failure(opened("s3://lake/i.jsonl"))
    assert str(failure).endswith(f"is not answered as by S3: there is no {missing.replace('-', '')}")


def page_of(*keys: str, token: str = "", size: str = "<Size>3</Size>") -> bytes:
    """A page of a listing; with a token there are more."""
    more = f"<NextContinuationToken>{token}</NextContinuationToken>" if token else ""
    head = f"<IsTruncated>{'false' if not token else 'true'}</IsTruncated>{more}"
    told = f'<LastModified>2026-11-27T10:00:00.000Z</LastModified><ETag>"e"</ETag>{size}'
    body = "".join(f"<Contents><Key>{key}</Key>{told}</Contents>" for key in keys)
    return f"<ListBucketResult>{head}{body}</ListBucketResult>".encode()


@pytest.mark.parametrize(
    ("pages", "words"),
    [
        ([page_of("a", "b", token="1"), page_of(token="2"), page_of("c", "d")], None),
        ([page_of("a", "b", token="1"), page_of("a", "b", token="2"), page_of("c")], "does not go on"),
        ([page_of("a", "b", token="1"), page_of(token="1")], "does not go on"),
        ([page_of("a", "b").replace(b"false", b"true")], "does not go on"),
        ([page_of("a", size="")], "Size is missing"),
    ],
    ids=["an empty page", "a page twice", "a token twice", "no token", "no size"],
)
async def test_a_listing_has_each_key_once_and_ends(
    server: ObjectServer, pages: list[bytes], words: str | None
) -> None:
    """An empty page is none of the ends; a listing that stands still is one line."""

    def answer(handler: Any) -> bool:
        handler.reply(pages.pop(0))
        return True

    server.behave = answer
    items, failure = await read_until_failure(opened("s3://lake/"))
    keys = [json.loads(item.payload)["Key"] for item in items]
    assert keys == [*"abcd"][: len(keys)]
    assert failure is None if words is None else words in str(failure)


async def test_slow_down_is_waited_out_and_a_cut_that_never_heals_is_told(server: ObjectServer) -> None:
    """503s in the middle are asked again; without any byte there is an end to it."""
    server.objects["/lake/i.jsonl"] = LINES
    server.cuts, server.answers = [30_000], [503]
    assert len(await read_all(opened("s3://lake/i.jsonl"))) == 3000
    server.cuts = [30_000, *[0] * 20]
    _, failure = await read_until_failure(opened("s3://lake/i.jsonl"))
    assert failure is not None
    assert "broke off" in str(failure)


async def test_a_place_is_entered_by_range(server: ObjectServer, many: list[bytes]) -> None:
    """Only the bytes from the place on are asked for."""
    server.objects["/lake/i.jsonl"] = b"\n".join(many) + b"\n"
    source = opened("s3://lake/i.jsonl")
    seq, place = 0, None
    async for batch in source.batches():
        seq += len(batch)
        if source.place is not None and seq > 120_000 and place is None:
            place, entered = source.place, seq
    await source.aclose()
    server.requests.clear()
    source = opened("s3://lake/i.jsonl")
    items = [item async for batch in source.batches(place) for item in batch]
    await source.aclose()
    assert [item.payload for item in items] == many[entered:]
    assert items[0].line == entered + 1
    assert server.requests[-1][1] is not None


async def test_parquet_is_read_by_ranges(server: ObjectServer, tmp_path: Path) -> None:
    """The footer, then row groups: not the whole object at once."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"i": list(range(5000))}), tmp_path / "in.parquet", row_group_size=1000)
    server.objects["/lake/in.parquet"] = (tmp_path / "in.parquet").read_bytes()
    items = await read_all(opened("s3://lake/in.parquet"))
    assert [json.loads(item.payload)["i"] for item in items] == list(range(5000))
    assert sum(wanted is not None for _, wanted in server.requests) > 1


async def test_an_inventory_is_the_rows_of_its_parts(bucket: Any) -> None:
    """Members are named as the manifest names the columns, and keys are decoded."""
    rows = b'"lake","in/a+b%C3%A9.txt","17"\n"lake","c","0"\n'
    bucket.put_object(Key="inv/data/1.csv.gz", Body=gzip.compress(rows))
    manifest = {
        "sourceBucket": "lake",
        "destinationBucket": "arn:aws:s3:::lake",
        "fileFormat": "CSV",
        "fileSchema": "Bucket, Key, Size",
        "files": [{"key": "inv/data/1.csv.gz", "size": 100, "MD5checksum": "0"}],
    }
    bucket.put_object(Key="inv/manifest.json", Body=json.dumps(manifest).encode())
    items = await read_all(opened("s3://lake/inv/manifest.json", format="s3-inventory"))
    assert [json.loads(item.payload) for item in items] == [
        {"Bucket": "lake", "Key": "in/a bé.txt", "Size": "17"},
        {"Bucket": "lake", "Key": "c", "Size": "0"},
    ]


async def test_the_size_is_known_once_all_is_listed(bucket: Any, tmp_path: Path) -> None:
    """Of a pattern with its last page; of what has files behind it, with them; of a prefix never."""
    for i in range(3):
        bucket.put_object(Key=f"in/{i}.jsonl", Body=b"1\n2\n")
    (tmp_path / "a.jsonl").write_text("1\n")
    file = str(tmp_path / "a.jsonl")

    async def sizes(*locations: str) -> list[int | None]:
        source = opened(*locations)
        found = [source.bytes_total async for _ in source.batches()]
        assert found[-1] in (None, source.bytes_read)
        await source.aclose()
        return found

    assert await sizes("s3://lake/in/*.jsonl") == [12, 12, 12]
    assert await sizes("s3://lake/in/0.jsonl", file) == [6, 6]
    assert await sizes("s3://lake/in/0.jsonl") == [4]
    assert await sizes(file, "s3://lake/in/1.jsonl") == [None, 6]
    assert await sizes("s3://lake/in/") == [None]


async def test_a_part_of_an_inventory_that_has_changed_is_refused(bucket: Any, tmp_path: Path) -> None:
    """Before its first reading by the MD5 of the manifest, after that by its ETag."""

    def put(key: str, text: str) -> str:
        packed = gzip.compress(text.encode())
        bucket.put_object(Key=f"inv/data/{key}.csv.gz", Body=packed)
        return hashlib.md5(packed).hexdigest()

    def put_manifest(**files: str) -> None:
        parts = [
            {"key": f"inv/data/{key}.csv.gz", "size": 1, "MD5checksum": md5} for key, md5 in files.items()
        ]
        manifest = {
            "destinationBucket": "lake",
            "fileFormat": "CSV",
            "fileSchema": "Bucket, Key",
            "files": parts,
        }
        bucket.put_object(Key="inv/manifest.json", Body=json.dumps(manifest).encode())

    async def read(*, kept: bool = False) -> tuple[list[str], str]:
        listing = tmp_path / "inputs.gz" if kept else None
        location = "s3://lake/inv/manifest.json"
        items, failure = await read_until_failure(opened(location, listing=listing, format="s3-inventory"))
        return [json.loads(item.payload)["Key"] for item in items], str(failure or "")

    first = put("1", "lake,a\n")
    put_manifest(**{"1": first, "2": put("2", "lake,b\n")})
    assert await read() == (["a", "b"], "")
    put("2", "lake,c\n")
    keys, failure = await read()
    assert keys == ["a"]
    assert failure.startswith(
        "s3://lake/inv/data/2.csv.gz is not the part that the inventory's manifest names"
    )
    put_manifest(**{"1": first, "2": "unknown"})
    assert await read(kept=True) == (["a", "c"], "")
    put("2", "lake,d\n")
    keys, failure = await read(kept=True)
    assert keys == ["a"]
    assert "s3://lake/inv/data/2.csv.gz: is not the object that the run began with" in failure


async def test_an_inventory_in_parquet_is_the_rows_of_its_parts(bucket: Any, tmp_path: Path) -> None:
    """With the columns that S3 wrote; keys are not encoded there. A part is entered by its row."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in range(2):
        keys = [f"in/{part}/a+b é%20 {i}.txt" for i in range(300)]
        pq.write_table(pa.table({"bucket": ["lake"] * 300, "key": keys, "size": [1] * 300}), tmp_path / "p")
        bucket.put_object(Key=f"inv/data/{part}.parquet", Body=(tmp_path / "p").read_bytes())
    manifest = {
        "sourceBucket": "lake",
        "destinationBucket": "arn:aws:s3:::lake",
        "fileFormat": "Parquet",
        "fileSchema": "message s3.inventory { required binary bucket (STRING); … }",
        "files": [{"key": f"inv/data/{part}.parquet", "size": 100, "MD5checksum": "0"} for part in range(2)],
    }
    bucket.put_object(Key="inv/manifest.json", Body=json.dumps(manifest).encode())
    location = "s3://lake/inv/manifest.json"
    source = opened(location, format="s3-inventory")
    items, places = [], []
    async for batch in source.batches():
        items += batch
        places.append((len(items), source.place))
    await source.aclose()
    assert [json.loads(item.payload) for item in items[299:301]] == [
        {"bucket": "lake", "key": "in/0/a+b é%20 299.txt", "size": 1},
        {"bucket": "lake", "key": "in/1/a+b é%20 0.txt", "size": 1},
    ]
    assert len(items) == 600
    for count, place in places[:-1]:
        source = opened(location, format="s3-inventory")
        assert [item async for batch in source.batches(place) for item in batch] == items[count:]
        await source.aclose()


@pytest.mark.parametrize(
    ("manifest", "words"),
    [
        (b"[]", "is not the manifest.json of an S3 Inventory"),
        (b'{"destinationBucket":"b","fileFormat":"ORC","fileSchema":"","files":[]}', "inventory in ORC"),
        (
            b'{"destinationBucket":"lake","fileFormat":"CSV","fileSchema":"Key","files":[{"key":"no.csv","size":1}]}',
            "s3://lake/no.csv: no such object",
        ),
    ],
)
async def test_a_manifest_that_leads_nowhere_is_one_line(bucket: Any, manifest: bytes, words: str) -> None:
    """The message names what is wrong: the manifest, or the part that is not there."""
    bucket.put_object(Key="inv/bad.json", Body=manifest)
    with pytest.raises(SourceError) as caught:
        await read_all(opened("s3://lake/inv/bad.json", format="s3-inventory"))
    assert words in str(caught.value)


@pytest.mark.parametrize("is_local", [False, True], ids=["S3", "file"])
async def test_a_batch_manifest_is_its_rows(bucket: Any, tmp_path: Path, is_local: bool) -> None:
    """With and without a version; keys are decoded."""
    rows = b"lake,a%20b\nlake,c,v1\nlake\nlake,d+e%2Bf%C3%A9%2Fg%22\n"
    bucket.put_object(Key="m.csv", Body=rows)
    (tmp_path / "m.csv").write_bytes(rows)
    location = str(tmp_path / "m.csv") if is_local else "s3://lake/m.csv"
    items = await read_all(opened(location, format="s3-batch-manifest"))
    assert json.loads(items[3].payload) == {"Bucket": "lake", "Key": 'd e+fé/g"'}
    assert [json.loads(item.payload) for item in items[:2]] == [
        {"Bucket": "lake", "Key": "a b"},
        {"Bucket": "lake", "Key": "c", "VersionId": "v1"},
    ]
    assert items[2].error is not None


async def test_a_prefix_is_gone_on_with_beyond_what_is_listed(
    bucket: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S3 is asked for the keys after the last; many objects come in several batches."""
    monkeypatch.setattr(many_module, "BATCH_ITEMS", 2)
    monkeypatch.setattr(listing_module, "_SHORT_BYTES", 1)
    for name in "abcde":
        bucket.put_object(Key=f"in/{name}", Body=b"1")
    listing = tmp_path / "inputs.gz"
    first = opened("s3://lake/in/", listing=listing)
    batches = [len(batch) async for batch in first.batches()]
    await first.aclose()
    assert batches == [2, 2, 1]
    with_end = listing.read_bytes()
    again = await read_all(opened("s3://lake/in/", listing=listing))
    keys = [json.loads(item.payload)["Key"] for item in again]
    assert keys == [f"in/{name}" for name in "abcde"]
    assert listing.read_bytes() == with_end


async def test_no_client_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """As where the profile is not there."""
    monkeypatch.setenv("AWS_PROFILE", "nobody")
    with pytest.raises(SourceError, match=r"s3://lake/.* \(nobody\)"):
        await read_all(opened("s3://lake/in/"))


async def test_a_reader_that_is_interrupted_waits_no_longer() -> None:
    """In its thread, for an object that sends nothing; and it asks for nothing more."""
    asked = asyncio.Event()

    class Silent:
        size, offset = 10, 0

        async def next(self) -> bytes:
            asked.set()
            await asyncio.Event().wait()
            return b""

        def drop(self) -> None:
            """Nothing is held."""

    reader = ObjectReader(cast(ObjectStream, Silent()))
    reading = asyncio.create_task(asyncio.to_thread(reader.read))
    await asked.wait()
    reader.interrupt()
    assert await reading == b""
    assert await asyncio.to_thread(reader.read) == b""
    reader.close()
