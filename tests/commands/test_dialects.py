"""The dialect of a text is found once and kept: a resume reads as the run did."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.commands.run_input import reopen_input
from fanout.inputs import csv_rows, readers
from fanout.journal import RunDir
from tests.inputs.reading import read_all
from tests.scripted import Scripted

ROWS = b"id;name\n" + b"".join(b"%d;n%d\n" % (i, i) for i in range(50))


def run(payloads: Any, out: Path, **options: Any) -> list[Any]:
    """What is sent."""
    transport = Scripted()
    fanout.run(
        "f", payloads, out=out, transport=transport, concurrency=1, resume=True, report=False, **options
    )
    return [call.json() for call in transport.calls]


def of_input(out: Path) -> dict[str, Any]:
    """What run.json says of the input."""
    found: dict[str, Any] = json.loads((out / "run.json").read_bytes())["input"]
    return {name: found[name] for name in ("delimiter", "encoding", "line_end") if name in found}


@pytest.mark.parametrize(
    ("name", "data", "found"),
    [
        ("in.csv", ROWS, {"delimiter": ";"}),
        ("in.csv", ROWS.replace(b";", b","), {"delimiter": ","}),
        ("in.tsv", ROWS.replace(b";", b"\t"), {}),
        ("in.csv", ROWS.replace(b"\n", b"\r"), {"delimiter": ";", "line_end": "cr"}),
        ("in.csv", ROWS.decode().encode("utf-16"), {"delimiter": ";", "encoding": "utf-16"}),
        ("in.jsonl", "1\n2\n".encode("utf-16"), {"encoding": "utf-16"}),
        ("in.jsonl", b"1\n2\n", {}),
    ],
)
def test_what_is_found_is_in_run_json(tmp_path: Path, name: str, data: bytes, found: dict[str, str]) -> None:
    """And what was given or is usual is not."""
    (tmp_path / name).write_bytes(data)
    run(str(tmp_path / name), tmp_path / "run", take=1)
    assert of_input(tmp_path / "run") == found


def blind(monkeypatch: pytest.MonkeyPatch) -> None:
    """A later version, which would find something else."""
    monkeypatch.setattr(csv_rows, "_DELIMITERS", "")
    monkeypatch.setattr(readers, "_BOMS", ())


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize("is_many", [False, True], ids=["one", "many"])
def test_it_is_read_again_as_the_run_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, encoding: str, is_many: bool
) -> None:
    """Resumed and exported without another look, one input and each of many."""
    (tmp_path / "a.csv").write_bytes(ROWS.decode().encode(encoding))
    (tmp_path / "b.csv").write_bytes(b"x|y\n1|2\n3|4\n")
    given = fanout.Input(tmp_path / "a.csv", *([tmp_path / "b.csv"] if is_many else []))
    whole = run(given, tmp_path / "whole")
    first = run(given, tmp_path / "run", take=len(whole) - 1)
    blind(monkeypatch)
    assert first + run(given, tmp_path / "run", take=len(whole)) == whole
    source = reopen_input(RunDir.open(tmp_path / "whole"))
    assert [json.loads(item.payload) for item in asyncio.run(read_all(source))] == whole


def test_a_pipe_is_read_again_as_the_run_did(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through its spool."""
    (tmp_path / "a.csv").write_bytes(ROWS.decode().encode("utf-16"))
    with (tmp_path / "a.csv").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        first = run("-", tmp_path / "run", take=3, format="csv")
    assert of_input(tmp_path / "run") == {"delimiter": ";", "encoding": "utf-16"}
    blind(monkeypatch)
    with (tmp_path / "a.csv").open("rb") as file:
        monkeypatch.setattr(sys, "stdin", file)
        rest = run("-", tmp_path / "run", take=6, format="csv")
    assert first + rest == [{"id": str(i), "name": f"n{i}"} for i in range(6)]
