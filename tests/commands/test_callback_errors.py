"""An exception of the user's ends the run, and never its journal, whatever its type."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import fanout
from tests.scripted import Scripted, function_error, ok


@pytest.mark.parametrize(
    "kind",
    [
        fanout.ConfigError,
        fanout.FatalRefusal,
        fanout.SourceError,
        ValueError,
        SystemExit,
        KeyboardInterrupt,
    ],
)
@pytest.mark.parametrize("callback", ["on_outcome", "on_progress"])
def test_the_errors_of_fanout_too(tmp_path: Path, kind: type[BaseException], callback: str) -> None:
    """As when the callback itself uses fanout. It is raised, and the directory can be resumed."""
    heard: list[object] = []

    def hear(what: object) -> None:
        heard.append(what)
        if len(heard) == 3:
            raise kind("mine")

    transport = Scripted(lambda _: ok(), latency_s=0.02)
    with pytest.raises(kind, match="mine"):
        if callback == "on_outcome":
            fanout.run(
                "f", range(300), transport=transport, concurrency=5, out=tmp_path / "r", on_outcome=hear
            )
        else:
            fanout.run(
                "f", range(300), transport=transport, concurrency=5, out=tmp_path / "r", on_progress=hear
            )
    lines = (tmp_path / "r/outcomes.jsonl").read_text().splitlines()
    assert len(lines) >= 3
    state = json.loads((tmp_path / "r/run.json").read_text())
    assert (state["state"], state["message"]) == ("interrupted", kind.__name__)
    assert state["counts"] == {"succeeded": len(lines)}
    assert state["pending"] == state["records_read"] - len(lines) >= 0
    report = fanout.run(
        "f", range(300), transport=transport, concurrency=99, out=tmp_path / "r", resume=True, report=False
    )
    assert sum(report.counts.values()) == 300


EXITS = [SystemExit, KeyboardInterrupt]
KINDS = ["quick", "slow", "async"]


def payloads(kind: type[BaseException], how: str) -> Iterator[int] | AsyncIterator[int]:
    """Thirty payloads, then the end of the program."""

    def in_order() -> Iterator[int]:
        for n in range(30):
            if how == "slow" and n < 3:
                time.sleep(0.06)  # from then on it is read in a thread
            yield n
        raise kind("mine")

    async def awaited() -> AsyncIterator[int]:
        for n in range(30):
            yield n
        raise kind("mine")

    return awaited() if how == "async" else in_order()


@pytest.mark.parametrize("kind", EXITS)
@pytest.mark.parametrize("how", KINDS)
def test_an_exit_in_the_payloads_comes_out_itself(
    tmp_path: Path, kind: type[BaseException], how: str
) -> None:
    """Once what was read has its outcomes, and run.json counts them: it was an ExceptionGroup, and {}."""
    transport = Scripted(lambda _: ok(), latency_s=0.02)
    with pytest.raises(kind, match="mine") as raised:
        fanout.run("f", payloads(kind, how), transport=transport, concurrency=5, out=tmp_path / "r")
    assert type(raised.value) is kind
    state = json.loads((tmp_path / "r/run.json").read_text())
    assert (state["state"], state["counts"], state["records_read"]) == ("interrupted", {"succeeded": 30}, 30)
    report = fanout.run(
        "f", range(31), transport=transport, concurrency=9, out=tmp_path / "r", resume=True, report=False
    )
    assert (report.state, report.counts["succeeded"], transport.count) == ("finished", 31, 31)


@pytest.mark.parametrize("kind", EXITS)
@pytest.mark.parametrize("how", KINDS)
def test_and_out_of_a_map(kind: type[BaseException], how: str) -> None:
    """After the last outcome, as any error of the payloads."""
    outcomes = []

    async def main() -> None:
        transport = Scripted(lambda _: ok(), latency_s=0.02)
        async with fanout.Dispatcher("f", transport=transport, concurrency=5) as dispatcher:
            async for outcome in dispatcher.map(payloads(kind, how)):
                outcomes.append(outcome)

    with pytest.raises(kind, match="mine"):
        asyncio.run(main())
    assert len(outcomes) == 30


def test_a_second_session_counts_the_first_ones_too(tmp_path: Path) -> None:
    """A resume that a callback ends, and a redrive."""

    def hear(_: object) -> None:
        raise ValueError("mine")

    transport = Scripted(lambda call: function_error() if call.json() % 2 else ok(), latency_s=0.01)
    fanout.run("f", range(40), transport=transport, concurrency=5, out=tmp_path / "r", take=10, report=False)
    with pytest.raises(ValueError, match="mine"):
        fanout.run(
            "f", range(40), transport=transport, concurrency=5, out=tmp_path / "r", take=40, resume=True,
            on_outcome=hear,
        )  # fmt: skip
    lines = [json.loads(line) for line in (tmp_path / "r/outcomes.jsonl").read_text().splitlines()]
    assert len(lines) > 10
    counts = json.loads((tmp_path / "r/run.json").read_text())["counts"]
    assert counts == Counter(line["status"] for line in lines)
