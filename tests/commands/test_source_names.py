"""What an outcome calls the input of its record: the same in every session of a run."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.commands.changes import Changes
from fanout.commands.redrive import redrive
from fanout.commands.resume import resume
from fanout.inputs import KeptListing
from fanout.runs.audience import Audience
from tests.scripted import Scripted, function_error

HERE = "<here>"  # the directory of the first session
PLACES = [(name, line) for name in ("a", "b", "c") for line in (1, 2)]


def of_files(form: str) -> list[tuple[str, int]]:
    return [(form.format(name), line) for name, line in PLACES]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["in/a.jsonl"], [(None, 1), (None, 2)]),
        (
            ["in/a.jsonl", "./in/b.jsonl"],
            [("in/a.jsonl", 1), ("in/a.jsonl", 2), *of_files("./in/{}.jsonl")[2:4]],
        ),
        (["./in//*.jsonl"], of_files("./in/{}.jsonl")),
        (["../[[]x]/**/[abc].jsonl"], of_files("../[x]/in/{}.jsonl")),
        ([HERE + "/in/?.jsonl"], of_files(HERE + "/in/{}.jsonl")),
        (
            ["./in/a.jsonl", HERE + "/in/b.jsonl"],
            [*of_files("./in/{}.jsonl")[:2], *of_files(HERE + "/in/{}.jsonl")[2:4]],
        ),
    ],
)
def test_a_source_is_named_alike_in_run_resume_and_redrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: list[str], expected: list[tuple[str | None, int]]
) -> None:
    """As it was given, wherever the run goes on."""
    here = tmp_path / "[x]"
    (here / "in").mkdir(parents=True)
    for name, _ in PLACES:
        (here / "in" / f"{name}.jsonl").write_text("1\n2\n")
        (here / "in" / f"{name}.csv").write_text("n\n1\n2\n")
    place = str(here).replace("[", "[[]")
    given = [each.replace(HERE, place if "?" in each else str(here)) for each in given]

    def session(verb: str, taken: int) -> list[tuple[str | None, int | None]]:
        out = tmp_path / "run"
        transport = Scripted(lambda _: function_error())
        options: Any = {"transport": transport, "concurrency": 1, "report": False}
        if verb == "run":
            monkeypatch.chdir(here)
            fanout.run("f", fanout.Input(*given), out=out, take=taken, **options)
        else:
            monkeypatch.chdir(tmp_path)
            changed: Any = {**options, **({"take": taken} if verb == "resume" else {})}
            go_on = resume if verb == "resume" else redrive
            asyncio.run(go_on(out, Changes(given=changed), Audience()))
        assert transport.count > 0
        lines = [json.loads(line) for line in (out / "outcomes.jsonl").read_bytes().splitlines()]
        ended = {line["seq"]: (line.get("source"), line.get("line")) for line in lines}
        return [ended[seq] for seq in sorted(ended)]

    expected = [(each and each.replace(HERE, str(here)), line) for each, line in expected]
    assert session("run", 1) == expected[:1]
    _keep_first_page(tmp_path / "run" / "inputs.gz")  # so a small input ends as a large one: not listed
    assert session("resume", 99) == expected
    assert session("redrive", 99) == expected


def _keep_first_page(path: Path) -> None:
    pages = [*KeptListing(path).pages()]
    path.unlink(missing_ok=True)
    KeptListing(path).append([*pages[0]] if pages else [])
