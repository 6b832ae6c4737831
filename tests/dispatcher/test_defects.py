"""A defect of our own ends in an error that is told, never in a wait without end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.dispatcher.calls import CallMaker
from tests.scripted import Scripted, ok

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
