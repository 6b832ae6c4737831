"""``on_finish``: a command at the end of a run, and what signals, a refusal or a closed terminal do to it."""

from __future__ import annotations

import asyncio
import io
import json
import os
import shlex
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest

import fanout
from fanout.commands.on_finish import run_on_finish
from fanout.errors import ConfigError
from fanout.runs.audience import Audience, Stoppable
from tests.scripted import Scripted


@pytest.fixture(scope="module")
def report() -> fanout.RunReport:
    """Of a run with one record."""
    return fanout.run("f", [1], transport=Scripted(), concurrency=1)


async def test_it_gets_the_summary_without_a_terminal_too(
    tmp_path: Path, report: fanout.RunReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where standard error is no file, what it prints is dropped."""
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    command = f"echo said; cat > {shlex.quote(str(tmp_path))}/got"
    assert await run_on_finish(command, report, Audience()) is None
    assert json.loads((tmp_path / "got").read_text())["counts"]["succeeded"] == 1


async def test_one_that_reads_nothing_and_fails_is_told(report: fanout.RunReport) -> None:
    """The run's own exit code stays."""
    said = await run_on_finish("exec <&-; exit 3", report, Audience())
    assert said == "--on-finish ended with exit code 3: exec <&-; exit 3"
    assert report.exit_code == 0


async def test_one_that_cannot_be_started_is_told(
    report: fanout.RunReport, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as where no process can be made."""

    async def fail(*_: object, **__: object) -> None:
        raise OSError(11, "Resource temporarily unavailable")

    monkeypatch.setattr("anyio.open_process", fail)
    said = await run_on_finish("true", report, Audience())
    assert said is not None
    assert said.startswith("--on-finish could not be run: ")


@pytest.mark.parametrize("is_stubborn", [False, True])
async def test_signals_are_passed_on(tmp_path: Path, is_stubborn: bool) -> None:
    """The first as it is, a second as SIGKILL; before the command there is nothing to pass it to."""
    report = await asyncio.to_thread(fanout.run, "f", [1], transport=Scripted(), concurrency=1)
    works: list[Stoppable] = []

    def attach(work: Stoppable) -> Callable[[], None]:
        with pytest.raises(ConfigError, match="the run has ended: nothing can be changed"):
            work.tune({"rate": 1})
        work.cut()  # before there is a command
        works.append(work)
        return lambda: None

    async def send() -> None:
        while not (tmp_path / "ready").exists():
            await asyncio.sleep(0.01)
        works[0].stop("sigterm")
        if is_stubborn:
            works[0].cut()

    sending = asyncio.create_task(send())
    ready = shlex.quote(str(tmp_path / "ready"))
    command = f"{'trap : TERM;' if is_stubborn else ''} touch {ready}; sleep 600; sleep 600"
    said = await run_on_finish(command, report, Audience(attach=attach))
    await sending
    assert said == f"--on-finish was ended by SIGTERM: {command}"
    assert report.exit_code == 143


async def test_a_signal_while_the_command_starts_is_passed_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command can be at work before its process is known here."""
    report = await asyncio.to_thread(fanout.run, "f", [1], transport=Scripted(), concurrency=1)
    works: list[Stoppable] = []
    open_process = anyio.open_process

    async def open_late(*args: Any, **options: Any) -> Any:
        process = await open_process(*args, **options)
        works[0].stop("sigterm")
        return process

    monkeypatch.setattr("anyio.open_process", open_late)

    def attach(work: Stoppable) -> Callable[[], None]:
        works.append(work)
        return lambda: None

    said = await run_on_finish("sleep 600", report, Audience(attach=attach))
    assert said == "--on-finish was ended by SIGTERM: sleep 600"
    assert report.exit_code == 143


@pytest.mark.parametrize("is_known", [True, False])
async def test_whoever_waits_for_it_no_longer_ends_all_of_it(
    tmp_path: Path, report: fanout.RunReport, monkeypatch: pytest.MonkeyPatch, is_known: bool
) -> None:
    """A program that cancels its run leaves no process behind, though it be only starting."""
    open_process, opened = anyio.open_process, asyncio.Event()

    async def open_slowly(*words: Any, **options: Any) -> Any:
        process = await open_process(*words, **options)
        if not is_known:
            await asyncio.sleep(0.3)
        opened.set()
        return process

    monkeypatch.setattr("anyio.open_process", open_slowly)
    command = f"cd {shlex.quote(str(tmp_path))}; sleep 600 & echo $! > new; mv new pid; wait"
    waiting = asyncio.create_task(run_on_finish(command, report, Audience()))
    async with asyncio.timeout(100):
        while not (tmp_path / "pid").exists():
            await asyncio.sleep(0.01)
        if is_known:
            await opened.wait()
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(100):
        while _is_alive(int((tmp_path / "pid").read_text())):
            await asyncio.sleep(0.01)


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
