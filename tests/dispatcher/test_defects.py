"""A defect of our own ends in an error that is told, never in a wait without end."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import fanout
from fanout.dispatcher import batch_settlement, senders
from fanout.dispatcher.call_maker import CallMaker
from fanout.dispatcher.completion import Completion
from fanout.dispatcher.outcomes import OutcomeMaker
from fanout.model import Reply
from tests.scripted import PromptScripted, Scripted, ok

OF_RECORD = CallMaker.of_record


@pytest.fixture(autouse=True)
def _defect(monkeypatch: pytest.MonkeyPatch) -> None:
    """No call can be made of the record with the payload 3."""

    def of_record(maker: CallMaker, feed: Any, record: Any, *more: Any) -> Any:
        if record.body == b"3":
            raise RuntimeError("a defect")
        return OF_RECORD(maker, feed, record, *more)

    monkeypatch.setattr(CallMaker, "of_record", of_record)


@pytest.mark.looptime
@pytest.mark.usefixtures("no_task_left")
async def test_a_defect_reaches_the_caller() -> None:
    """Of one call, of many and of a stream; other calls go on."""
    transport = Scripted(lambda _: ok())
    async with fanout.Dispatcher("f", transport=transport, concurrency=2) as dispatcher:
        with pytest.raises(fanout.FanoutError, match="a defect"):
            await dispatcher.invoke(3)
        with pytest.raises(fanout.FanoutError, match="a defect"):
            _ = [outcome async for outcome in dispatcher.map([1, 2, 3, 4])]
        with pytest.raises(fanout.FanoutError, match="a defect"):
            _ = [chunk async for chunk in dispatcher.stream(3)]
        assert (await dispatcher.invoke(1)).ok


def test_a_defect_ends_a_run(tmp_path: Path) -> None:
    """With its outcomes so far, and a state that says why."""
    transport = Scripted(lambda _: ok())
    report = fanout.run("f", [1, 2, 3, 4], transport=transport, concurrency=2, out=tmp_path / "run")
    assert (report.state, report.counts["succeeded"]) == ("halted", 2)
    assert "a defect" in (tmp_path / "run/run.json").read_text()


@pytest.mark.looptime
@pytest.mark.usefixtures("no_task_left")
@pytest.mark.parametrize(
    ("module", "where"),
    [(senders, "classify"), (batch_settlement, "read_reply")],
    ids=["classify", "read_reply"],
)
async def test_a_reply_that_cannot_be_handled_is_the_outcome_of_its_records(
    monkeypatch: pytest.MonkeyPatch, module: ModuleType, where: str
) -> None:
    """Of them alone: their permit comes back, the others go on, and nobody waits for ever."""
    handle = getattr(module, where)
    count = 0

    def handled(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            raise RuntimeError("a defect")
        return handle(*arguments)

    monkeypatch.setattr(module, where, handled)
    transport = Scripted(lambda _: ok(), latency_s=0.1)
    async with fanout.Dispatcher(
        "f", transport=transport, concurrency=1, batch=2, batch_reply="whole", function_timeout=1
    ) as dispatcher:
        outcomes = [outcome async for outcome in dispatcher.map([0, 1, 2, 4, 5, 6])]
        await asyncio.sleep(2)
        assert dispatcher.load().in_flight == dispatcher.load().lingering == 0
    assert sorted(outcome.status for outcome in outcomes) == ["succeeded"] * 4 + ["unknown"] * 2


@pytest.mark.looptime
@pytest.mark.parametrize("kind", [Scripted, PromptScripted])
async def test_a_defect_after_a_reply_ends_a_map(
    monkeypatch: pytest.MonkeyPatch, kind: type[Scripted]
) -> None:
    """Even where the record has no outcome, and so would be waited for."""

    finish = Completion.finish

    def finish_one(completion: Completion, call: Any, *more: Any) -> None:
        if call.body == b"4":
            raise RuntimeError("a defect")
        finish(completion, call, *more)

    monkeypatch.setattr(Completion, "finish", finish_one)
    async with fanout.Dispatcher("f", transport=kind(lambda _: ok()), concurrency=2) as dispatcher:
        with pytest.raises(fanout.FanoutError, match="a defect"):
            _ = [outcome async for outcome in dispatcher.map([1, 2, 4])]


@pytest.mark.looptime
@pytest.mark.usefixtures("no_task_left")
@pytest.mark.parametrize("kind", [Scripted, PromptScripted])
@pytest.mark.parametrize("where", ["classify", "of_success"])
async def test_a_reply_that_cannot_be_read_or_kept_is_unknown(
    monkeypatch: pytest.MonkeyPatch, kind: type[Scripted], where: str
) -> None:
    """Whether a task waits for it or not: the function has run, and the others go on."""
    owner: Any = senders if where == "classify" else OutcomeMaker
    handle = getattr(owner, where)

    def handled(*arguments: Any) -> Any:
        if any(isinstance(each, Reply) and each.body == b"2" for each in arguments):
            raise RuntimeError("a defect")
        return handle(*arguments)

    monkeypatch.setattr(owner, where, handled)
    transport = kind(lambda call: ok(call.body), latency_s=0.1)
    async with fanout.Dispatcher("f", transport=transport, concurrency=1, function_timeout=1) as dispatcher:
        found = [(outcome.seq, outcome.status) async for outcome in dispatcher.map([0, 1, 2, 4])]
        await asyncio.sleep(2)
        assert dispatcher.load().in_flight == dispatcher.load().lingering == 0
    assert sorted(found) == [(0, "succeeded"), (1, "succeeded"), (2, "unknown"), (3, "succeeded")]
    assert transport.count == 4
