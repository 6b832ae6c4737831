"""``Dispatcher.map`` and ``fanout.run`` over locations: what is read, numbered and refused."""

from __future__ import annotations

import asyncio
import gzip
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout import ConfigError, Dispatcher, SourceError
from fanout.model import Outcome
from tests.scripted import Scripted

# On Python 3.11 pytest-asyncio's first question makes a loop, which asyncio.run would leave unclosed.
asyncio.set_event_loop(None)


async def collect(payloads: Any, **options: Any) -> list[Outcome]:
    async with Dispatcher("f", transport=Scripted(), concurrency=4, **options) as dispatcher:
        return [outcome async for outcome in dispatcher.map(payloads, ordered=True)]


@pytest.mark.parametrize("as_path", [False, True])
async def test_a_location_is_an_input(tmp_path: Path, as_path: bool) -> None:
    """Each record of the file; one that is no JSON is rejected, with its line."""
    path = tmp_path / "a.jsonl.gz"
    path.write_bytes(gzip.compress(b'{"n":1}\n\nbad\n{"n":2}\n'))
    seen = await collect(path if as_path else str(path))
    assert [(outcome.seq, outcome.line, outcome.status) for outcome in seen] == [
        (0, None, "succeeded"),
        (1, 3, "rejected"),
        (2, None, "succeeded"),
    ]
    assert seen[2].output == {"n": 2}


async def test_several_are_numbered_through(tmp_path: Path) -> None:
    """A list with a path in it, and a pattern; outcomes say where their records stood."""
    (tmp_path / "a.jsonl").write_text("1\n2\n")
    (tmp_path / "b.csv").write_text("x\n3\n")
    seen = await collect([tmp_path / "b.csv", f"{tmp_path}/*.jsonl"])
    assert [outcome.output for outcome in seen] == [{"x": "3"}, 1, 2]
    assert [Path(outcome.source or "").name for outcome in seen] == ["b.csv", "a.jsonl", "a.jsonl"]
    batched = await collect(tmp_path / "a.jsonl", batch=2, batch_shape="array")
    assert [outcome.output for outcome in batched] == [1, 2]


async def test_strings_in_a_list_are_payloads(tmp_path: Path) -> None:
    """As ever: nothing says that they are names."""
    assert [outcome.output for outcome in await collect(["a.jsonl"])] == ["a.jsonl"]


async def test_what_cannot_be_read_is_refused(tmp_path: Path) -> None:
    """A queue at once, a file when the first outcome is asked for, a broken one after what it held."""
    async with Dispatcher("f", transport=Scripted(), concurrency=4) as dispatcher:
        with pytest.raises(ConfigError, match="is a queue"):
            dispatcher.map("sqs://queue")
        with pytest.raises(SourceError, match="No such file"):
            await anext(dispatcher.map(tmp_path / "none.jsonl"))
        cut = tmp_path / "cut.jsonl.gz"
        cut.write_bytes(gzip.compress(b"1\n" * 1000)[:-9])
        seen = []
        with pytest.raises(SourceError, match="cut"):
            async for outcome in dispatcher.map(cut):
                seen.append(outcome)
        assert all(outcome.ok for outcome in seen)


async def test_leaving_early_closes_the_input(tmp_path: Path) -> None:
    """Nothing of it is left open."""
    path = tmp_path / "a.jsonl"
    path.write_text("1\n" * 10_000)
    async with Dispatcher("f", transport=Scripted(), concurrency=4) as dispatcher:
        async for _ in (outcomes := dispatcher.map(path)):
            break
        await outcomes.aclose()
    assert not [each for each in Path("/proc/self/fd").glob("*") if each.exists() and each.samefile(path)]


def test_run_takes_several_paths(tmp_path: Path) -> None:
    """As the command does; and payload beside an input is refused."""
    (tmp_path / "a.jsonl").write_text("1\n2\n")
    (tmp_path / "b.jsonl").write_text("3\n")
    seen: list[Outcome] = []
    paths = [tmp_path / "b.jsonl", tmp_path / "a.jsonl"]
    report = fanout.run("f", paths, transport=Scripted(), concurrency=2, on_outcome=seen.append)
    assert (report.records, report.ok) == (3, True)
    assert [outcome.output for outcome in sorted(seen, key=lambda outcome: outcome.seq)] == [3, 1, 2]
    for payloads in (paths, paths[0]):
        with pytest.raises(ConfigError, match="both given"):
            fanout.run("f", payloads, payload="1", transport=Scripted())
