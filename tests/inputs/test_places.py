"""Places: an input entered at one gives what follows, whatever its format, its packing and its bytes."""

from __future__ import annotations

import gzip
import json
import random
from pathlib import Path
from typing import Any

import pytest

from fanout.inputs import InputOptions, Item, Jump, PlacedSource, Places, Source, open_source
from fanout.inputs import places as places_module
from tests.inputs.reading import read_all

ALPHABET = 'ab,;"\n\r \té😀[]{}\\'


def quoted(text: str) -> str:
    """As CSV has it."""
    return '"' + text.replace('"', '""') + '"'


def bytes_of(name: str, texts: list[str]) -> bytes:
    """The input of a name, with some thousand records made of these texts."""
    many = [f"{text}{i}" for i in range(1200 // len(texts)) for text in texts]
    if name.startswith("i.jsonl"):
        return "\r\n\n".join(json.dumps({"x": text}) for text in many).encode("utf-8-sig")
    if name == "i.json":
        return ("[" + " ,\n".join(json.dumps(text) for text in many) + "]").encode()
    if name == "i.csv":
        return ("a;b\n\n" + "".join(f"{quoted(text)};{i}\n;\n" for i, text in enumerate(many))).encode()
    return ("a,b\n" + "".join(f"{quoted(text)},{i}\r\n" for i, text in enumerate(many))).encode("utf-16")


async def with_places(source: Source) -> tuple[list[Item], list[tuple[int, Any]]]:
    """All items, and the places with the number of items before each."""
    items: list[Item] = []
    places = []
    async for batch in source.batches():
        items += batch
        places.append((len(items), source.place))
    await source.aclose()
    return items, [(count, place) for count, place in places if place is not None]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", ["i.jsonl", "i.jsonl.gz", "i.json", "i.csv", "i16.csv"])
async def test_what_follows_a_place_is_what_is_entered_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, seed: int
) -> None:
    """Payloads, lines and faults are the same as in a reading from the beginning."""
    rng = random.Random(seed)
    texts = ["".join(rng.choices(ALPHABET, k=rng.randrange(12))) for _ in range(20)]
    content = bytes_of(name, texts)
    path = tmp_path / name
    path.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    monkeypatch.setattr("fanout.inputs.readers.CHUNK_BYTES", rng.randrange(3000, 20_000))
    items, places = await with_places(open_source(str(path)))
    assert places
    for count, place in rng.sample(places, min(2, len(places))):
        source = open_source(str(path))
        entered = [item async for batch in source.batches(json.loads(json.dumps(place))) for item in batch]
        await source.aclose()
        assert entered == items[count:]


async def test_several_inputs_are_entered_in_the_one_that_is_wanted(tmp_path: Path) -> None:
    """The place says which one, and where in it."""
    for name in "abc":
        (tmp_path / f"{name}.jsonl").write_bytes(b"".join(b"%d\n" % i for i in range(50_000)))
    locations = [str(tmp_path / f"{name}.jsonl") for name in "abc"]
    items, places = await with_places(open_source(locations))
    assert len(items) == 150_000
    count, place = places[len(places) // 2]
    source = open_source(locations)
    entered = [item async for batch in source.batches(place) for item in batch]
    await source.aclose()
    assert entered == items[count:]
    assert entered[0].source == locations[1]


async def test_gaps_are_entered_each_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a run has finished is passed over, without being read; the rest is all there, with its numbers."""
    monkeypatch.setattr(places_module, "EVERY_RECORDS", 1000)
    path = tmp_path / "in.jsonl"
    path.write_bytes(b"".join(b"%06d\n" % (i + 100_000) for i in range(200_000)))
    kept = tmp_path / "places"
    await read_all(PlacedSource(open_source(str(path)), Places(kept)))
    wanted = [*range(70_000, 70_100), 150_001, *range(199_000, 200_000)]

    def wanted_from(seq: int) -> int:
        return next((each for each in wanted if each >= seq), 200_000)

    source = PlacedSource(
        open_source(str(path)),
        Places(kept, goes_on=True),
        wanted_from=wanted_from,
        reopen=lambda: open_source(str(path)),
    )
    found: dict[int, bytes] = {}
    seq = 0
    async for batch in source.batches():
        for item in batch:
            if isinstance(item, Jump):
                seq = item.seq
            else:
                found[seq] = item.payload
                seq += 1
    await source.aclose()
    assert all(found[seq] == b"%06d" % (seq + 100_000) for seq in found)
    assert set(wanted) <= set(found)
    assert len(found) < 100_000


async def test_rows_are_counted_as_the_run_began_to_count_them(tmp_path: Path) -> None:
    """Blank rows of a sheet are no records, but were in fanout 0.1, and so they stay for its runs."""
    path = tmp_path / "in.csv"
    path.write_bytes(b"a,b\n1,2\n,\n3,4\n")
    assert len(await read_all(open_source(str(path)))) == 2
    assert len(await read_all(open_source(str(path), InputOptions(rules=1)))) == 3
