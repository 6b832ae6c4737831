"""Signals from a run's first call to its summary: none of them cuts off what the summary needs."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.commands import session
from fanout.commands.collection import CollectionStop
from fanout.commands.signals import Signals
from tests.cli.inside import inside
from tests.cli.running import shared_emulator
from tests.scripted import Scripted

__all__ = ["inside", "shared_emulator"]


def raising(signum: signal.Signals, count: int, then: Callable[..., Any]) -> Callable[..., Any]:
    """Send this process so many signals, and go on."""

    def call(*args: Any, **named: Any) -> Any:
        for _ in range(count):
            os.kill(os.getpid(), signum)
        return then(*args, **named)

    return call


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_one_while_the_end_is_written_leaves_the_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signum: signal.Signals
) -> None:
    """The calls are over: it has nothing to stop, and run.json and the page are written."""
    before = signal.getsignal(signum)
    monkeypatch.setattr(session, "write_page", raising(signum, 1, session.write_page))
    report = fanout.run("f", range(5), transport=Scripted(), concurrency=5, out=tmp_path / "r")
    assert (report.exit_code, report.counts["succeeded"]) == (0, 5)
    assert json.loads((tmp_path / "r/run.json").read_text())["state"] == "finished"
    assert (tmp_path / "r/report.html").exists()
    assert signal.getsignal(signum) is before


def test_the_command_prints_its_summary_too(inside: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was: "interrupted", without a word of what had become of the records."""
    monkeypatch.setattr(session, "write_page", raising(signal.SIGINT, 1, session.write_page))
    inside.write("in.jsonl", 5)
    ended = inside.run("run", "fast", "in.jsonl", "--out", "run")
    assert ended.code == 0, ended
    assert "fast: 5 records" in ended.err
    assert "no calls are out" in ended.err


async def test_one_between_two_works_is_the_next_ones() -> None:
    """Between the end of a run and its collection; a second then counts as a second."""
    said: list[str] = []
    signals = Signals(said.append)
    first, then = CollectionStop(), CollectionStop()
    signals.attach(first)()
    try:
        signals.on_signal("SIGINT")
        signals.attach(then)
        assert (first.reason, then.reason) == (None, "sigint")
    finally:
        signals.close()
    assert len(said) == 2


async def test_two_between_give_the_third_back_to_the_process() -> None:
    """What hangs there can be left."""
    said: list[str] = []
    signals = Signals(said.append)
    signals.attach(CollectionStop())()
    for _ in range(2):
        assert signals.is_listening
        signals.on_signal("SIGINT")
    assert not signals.is_listening
    assert "again to leave" in said[-1]
