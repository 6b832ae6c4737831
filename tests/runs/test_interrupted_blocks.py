"""An interrupt while several calls are settled or taken, as a program's signal handler may raise it."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.breaker import Breaker
from fanout.dispatcher.block_supply import BlockSupply
from fanout.dispatcher.settlement import Settlement
from fanout.gate import Gate
from fanout.journal import writer
from fanout.pacer import Pacer
from tests.scripted import Call, PromptScripted, Scripted, function_error, ok

RECORDS = 600


def interrupt(
    monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool], *, at: int = 10
) -> list[str]:
    """Raise SystemExit out of a function that has worked, the tenth time, say, that ``when`` says so."""
    real, fits, given = getattr(owner, name), 0, list[str]()

    def interrupted(*arguments: Any, **named: Any) -> Any:
        nonlocal fits
        result = real(*arguments, **named)
        fits += when(*arguments, **named)
        if fits == at and not given:
            given.append(name)
            raise SystemExit(143)
        return result

    monkeypatch.setattr(owner, name, interrupted)
    return given


def run(tmp_path: Path, given: list[str], **options: Any) -> list[dict[str, Any]]:
    """The lines of a run that was interrupted. What goes out after that is answered at once."""
    path = tmp_path / "in.jsonl"
    path.write_text("".join(f'{{"n":{number}}}\n' for number in range(RECORDS)))
    world = PromptScripted(lambda call: ok(call.body), latency_s=lambda _: 0.0 if given else 0.001)
    with pytest.raises(SystemExit):
        fanout.run("f", path, out=tmp_path / "run", transport=world, concurrency=100, report=False, **options)
    return lines_of(tmp_path)


def lines_of(tmp_path: Path) -> list[dict[str, Any]]:
    """The journal."""
    return [json.loads(line) for line in (tmp_path / "run/outcomes.jsonl").read_text().splitlines()]


def several(_: Any, sequence: Any, *__: Any) -> bool:
    """It is about several calls."""
    return len(sequence) > 1


@pytest.mark.parametrize(
    ("owner", "name", "when"),
    [
        (Gate, "release_successes", several),
        (Pacer, "on_success", lambda _, now_s, count=1: count > 1),
        (Breaker, "on_outcome", lambda *_, **__: True),
    ],
)
def test_calls_that_ended_together_keep_their_outcomes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, when: Callable[..., bool]
) -> None:
    """They ran, and their replies are there: none of them is one that may have run."""
    together: list[int] = []
    settle_block = Settlement.settle_block

    def noted(settlement: Settlement, feed: Any, ends: Any, block: Any) -> None:
        together.extend(outcome.seq for outcome in block[1])
        settle_block(settlement, feed, ends, block)

    monkeypatch.setattr(Settlement, "settle_block", noted)
    given = interrupt(monkeypatch, owner, name, when, at=250 if owner is Breaker else 10)
    lines = run(tmp_path, given, **({"breaker": 50} if owner is Breaker else {}))
    written = Counter(line["seq"] for line in lines)
    assert len(together) > 8
    assert {written[seq] for seq in together} == {1}


def test_a_line_is_written_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Though it came between their making and their being taken out of what waits."""
    given = interrupt(monkeypatch, writer, "append_lines", several)
    lines = run(tmp_path, given)
    assert set(Counter(line["seq"] for line in lines).values()) == {1}


def test_no_record_goes_out_under_the_number_of_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read and not counted yet would shift all that the loop sends before it ends."""
    given = interrupt(monkeypatch, BlockSupply, "drop", lambda *_: True)
    lines = run(tmp_path, given)
    for line in lines:
        assert line["status"] != "succeeded" or line["output"] == {"n": line["seq"]}
    monkeypatch.undo()
    report = fanout.run(
        "f",
        tmp_path / "in.jsonl",
        out=tmp_path / "run",
        transport=PromptScripted(lambda call: ok(call.body)),
        concurrency=40,
        resume=True,
        may_have_run="send",
        report=False,
    )
    outcomes = {outcome.seq: outcome for outcome in report.outcomes()}
    assert sorted(outcomes) == list(range(RECORDS))
    assert all(outcome.output == {"n": seq} for seq, outcome in outcomes.items() if outcome.ok)


def test_what_an_interrupt_cuts_off_has_no_line(tmp_path: Path) -> None:
    """As after any other sudden end: a resume says what becomes of records that may have run."""

    def leave() -> None:
        raise SystemExit(143)

    def latency_s(call: Call) -> float:
        if call.number == 50:
            asyncio.get_running_loop().call_soon(leave)
        return 0.0 if call.number < 40 else 60.0

    out = tmp_path / "run"
    with pytest.raises(SystemExit):
        fanout.run(
            "f", range(100), out=out, transport=Scripted(latency_s=latency_s), concurrency=20, report=False
        )
    assert {line["status"] for line in lines_of(tmp_path)} == {"succeeded"}
    report = fanout.run(
        "f",
        range(100),
        out=out,
        transport=Scripted(),
        concurrency=20,
        resume=True,
        may_have_run="send",
        report=False,
    )
    assert report.counts["succeeded"] == 100


def test_a_function_may_call_its_error_cancelled(tmp_path: Path) -> None:
    """Such a record has run, and keeps its outcome."""
    world = PromptScripted(lambda _: function_error("Cancelled"))
    report = fanout.run("f", range(20), out=tmp_path / "run", transport=world, concurrency=5, report=False)
    assert report.counts["function_error"] == len(lines_of(tmp_path)) == 20
