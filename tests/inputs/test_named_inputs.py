"""Inputs that a program names: never sent as payloads by mistake, never read by mistake."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.errors import ConfigError
from fanout.inputs import locations_of
from tests.scripted import Scripted


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two inputs in the current directory, of two records and one."""
    monkeypatch.chdir(tmp_path)
    Path("a.jsonl").write_text("1\n2\n")
    Path("b.jsonl").write_text("3\n")


def run(payloads: Any) -> list[bytes]:
    """What a run over payloads sends."""
    transport = Scripted()
    fanout.run("f", payloads, transport=transport, concurrency=1)
    return [bytes(call.body) for call in transport.calls]


def count(payloads: Any) -> list[bytes]:
    """A dry run."""
    return [b""] * fanout.dry_run("f", payloads).records


async def map_all(payloads: Any) -> list[bytes]:
    """What ``map`` sends."""
    transport = Scripted()
    async with fanout.Dispatcher("f", transport=transport, concurrency=1) as dispatcher:
        async for _ in dispatcher.map(payloads):
            pass
    return [bytes(call.body) for call in transport.calls]


def _named(payloads: Iterable[str]) -> str:
    """The name of a case: the same in every process, in which a set's order is not."""
    return f"{type(payloads).__name__} {sorted(payloads)}"


AMBIGUOUS = [
    ["a.jsonl", "b.jsonl"],
    ("a.jsonl",),
    {"a.jsonl", "b.jsonl"},
    ["a.jsonl", "typo.jsonl"],
    ["*.jsonl"],
    ["s3://lake/x.jsonl", "s3://lake/photos/1.jpg"],
    ["a.jsonl", "s3://lake/in/"],
]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("payloads", AMBIGUOUS, ids=_named)
@pytest.mark.parametrize("way", [run, count])
def test_strings_that_name_inputs_are_refused(way: Callable[[Any], Any], payloads: Any) -> None:
    """One line that has both meanings in it, before anything is sent."""
    with pytest.raises(
        ConfigError, match=r"^payloads are strings that name inputs, such as '.*Input\(.*Record\("
    ):
        way(payloads)


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("payloads", AMBIGUOUS[:2], ids=_named)
async def test_map_refuses_them_too(payloads: Any) -> None:
    """At the call, as every wrong argument."""
    with pytest.raises(ConfigError, match="name inputs"):
        await map_all(payloads)


@pytest.mark.usefixtures("files")
def test_both_meanings_can_be_said() -> None:
    """``Input`` reads; ``Record`` sends; a list with a Path in it reads, as ever."""
    assert run(fanout.Input("a.jsonl", Path("b.jsonl"))) == [b"1", b"2", b"3"]
    assert run([Path("a.jsonl"), "b.jsonl"]) == [b"1", b"2", b"3"]
    assert run([fanout.Record("a.jsonl")]) == [b'"a.jsonl"']
    assert len(count(fanout.Input("*.jsonl"))) == 3


@pytest.mark.usefixtures("files")
async def test_map_reads_an_input_object() -> None:
    """Several inputs, numbered through."""
    assert await map_all(fanout.Input("a.jsonl", "b.jsonl")) == [b"1", b"2", b"3"]


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize(
    "payloads",
    [
        ["order-1", "order-2"],
        ["a.jsonl", "order-1"],
        ["gone.jsonl"],
        ["http://x/a.jsonl"],
        [],
        ["."],
        ["a\0b"],
    ],
    ids=_named,
)
def test_other_strings_are_payloads(payloads: list[str]) -> None:
    """As they have always been."""
    assert len(run(payloads)) == len(payloads)


def test_an_address_as_a_path_is_refused() -> None:
    """``pathlib`` makes s3:/ of s3://."""
    with pytest.raises(ConfigError, match=r"'s3:/lake/in' is a Path, .* as a string"):
        locations_of(Path("s3://lake/in/"))
    with pytest.raises(ConfigError, match="names nothing"):
        fanout.Input()
    assert repr(fanout.Input("a", "https://u:p@h/x")) == "Input('a', 'https://h/x')"
