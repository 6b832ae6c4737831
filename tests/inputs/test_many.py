"""Several files as one input: what a kill leaves of their listing, and what goes on from it."""

from __future__ import annotations

import gzip
import os
import re
from pathlib import Path

import pytest

from fanout.errors import SourceError
from fanout.inputs import InputOptions, Source, open_source
from fanout.inputs.listing import LISTING_FILE
from tests.inputs.reading import read_all, read_until_failure


def _source(tmp_path: Path) -> Source:
    return open_source(str(tmp_path / "in" / "*.jsonl"), listing=tmp_path / LISTING_FILE)


def _lines_kept(tmp_path: Path) -> list[bytes]:
    return gzip.decompress((tmp_path / LISTING_FILE).read_bytes()).splitlines(keepends=True)


@pytest.fixture(autouse=True)
def _files(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    for i in range(1, 4):
        (tmp_path / "in" / f"{i}.jsonl").write_text(f"{i}\n")


async def test_a_kill_among_the_records_of_a_pattern_doubles_none(tmp_path: Path) -> None:
    """What was listed before the kill is all that a resume reads, whatever has come since."""
    killed = _source(tmp_path)
    async for _ in killed.batches():
        break  # as a kill would: the rest of the generator never runs
    kept = (tmp_path / LISTING_FILE).read_bytes()
    (tmp_path / "in" / "0.jsonl").write_text("0\n")
    assert [item.payload for item in await read_all(_source(tmp_path))] == [b"1", b"2", b"3"]
    assert (tmp_path / LISTING_FILE).read_bytes() == kept
    await killed.aclose()


@pytest.mark.parametrize(
    ("names", "first", "second"),
    [
        (["*.jsonl"], 6, 6),
        (["1.jsonl", "[23].jsonl", "3.jsonl"], 8, 8),
        (["1.jsonl", "/dev/null"], None, None),
        (["1.jsonl", "no*.jsonl"], None, None),
    ],
)
async def test_the_size_is_known_from_the_first_record_on(
    tmp_path: Path, names: list[str], first: int | None, second: int | None
) -> None:
    """Of files, whatever is listed yet; in a resume, too. Where one has none, it is not guessed."""
    locations = [str(tmp_path / "in" / name) for name in names]
    for expected in (first, second):
        source = open_source(locations, InputOptions(format="jsonl"), listing=tmp_path / LISTING_FILE)
        async for _ in source.batches():
            assert source.bytes_total == expected
            break
        await source.aclose()
    source = open_source(locations, InputOptions(format="jsonl"))
    items, _ = await read_until_failure(source)
    assert (first is None) or (source.bytes_read, len(items)) == (first, first // 2)


@pytest.mark.parametrize(
    ("name", "options", "reason"),
    [
        ("9.csv.gz", InputOptions(items="/a"), r"9\.csv\.gz is no JSON document by its name \(\.csv\)"),
        ("9.parquet", InputOptions(items="/a"), r"\(\.parquet\), and items is for those alone"),
        ("9.txt", InputOptions(), r"9\.txt: unknown format"),
    ],
)
async def test_a_name_in_a_pattern_is_refused_before_the_first_record(
    tmp_path: Path, name: str, options: InputOptions, reason: str
) -> None:
    """A file in the middle that nothing can be made of would stop the run halfway."""
    directory = tmp_path / "mixed"
    directory.mkdir()
    (directory / "1.json").write_text('{"a":[1]}' if options.items else "[1]")
    (directory / name).write_text("")
    items, failure = await read_until_failure(open_source(str(directory / "*"), options))
    assert items == []
    assert re.search(reason, str(failure))
    (directory / name).rename(directory / "9.json")
    items, _ = await read_until_failure(open_source(str(directory / "*"), options))
    assert [item.payload for item in items] == [b"1"]


@pytest.mark.parametrize("whole", range(4))
async def test_a_listing_cut_short_is_completed(tmp_path: Path, whole: int) -> None:
    """Files that are kept already keep their numbers and are not listed again; the missing ones follow."""
    await read_all(_source(tmp_path))
    kept = b"".join(gzip.compress(line) for line in _lines_kept(tmp_path)[:whole])
    (tmp_path / LISTING_FILE).write_bytes(kept)
    for _ in range(2):
        assert [item.payload for item in await read_all(_source(tmp_path))] == [b"1", b"2", b"3"]


async def test_a_name_that_is_no_utf8_is_kept_and_found_again(tmp_path: Path) -> None:
    """Such names come with files of other days; a lone surrogate stands for each byte that is none."""
    odd = os.fsdecode(b"0-\xed\xa0.jsonl")
    (tmp_path / "in" / odd).write_text("0\n")
    read = [(item.payload, Path(item.source or "").name) for item in await read_all(_source(tmp_path))]
    assert read[:2] == [(b"0", odd), (b"1", "1.jsonl")]
    (tmp_path / "in" / "00.jsonl").write_text("00\n")
    again = [(item.payload, Path(item.source or "").name) for item in await read_all(_source(tmp_path))]
    assert again == read


async def test_a_file_of_another_size_is_not_gone_on_with(tmp_path: Path) -> None:
    """Its records would have the numbers of others."""
    await read_all(_source(tmp_path))
    (tmp_path / "in" / "2.jsonl").write_text("2\n2\n")
    items, failure = await read_until_failure(_source(tmp_path))
    assert [item.payload for item in items] == [b"1"]
    assert re.search(r"2\.jsonl is not the file .*: its size was 2 bytes and is 4", str(failure))


async def test_there_is_no_place_before_the_first_record(tmp_path: Path) -> None:
    """And behind the last entry it is the number of entries."""
    source = _source(tmp_path)
    assert source.place is None
    await read_all(source)
    assert source.place == {"n": 3}


async def test_a_listing_that_has_lost_what_was_read_is_named(tmp_path: Path) -> None:
    """Another list of the same inputs could number the records anew."""
    locations = [str(tmp_path / "in" / f"{i}.jsonl") for i in (1, 2, 3)]
    source = open_source(locations, listing=tmp_path / LISTING_FILE)
    places = []
    async for _ in source.batches():
        places.append(source.place)
    first = _lines_kept(tmp_path)[:2]
    (tmp_path / LISTING_FILE).write_bytes(gzip.compress(b"".join(first)))
    again = open_source(locations, listing=tmp_path / LISTING_FILE)
    with pytest.raises(SourceError, match=r"inputs\.gz is cut off: it lists fewer inputs than were read"):
        async for _ in again.batches(places[-1]):
            pass
    await again.aclose()
