"""The journal while it is written: in time, in one piece, and when the disk refuses."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import subprocess
import sys
from collections import Counter, deque
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import JournalError
from fanout.journal import Journal, iter_outcomes, replay
from fanout.journal.disk import RESERVE_FILE
from fanout.journal.writer import BACKED_UP_BYTES, MARK_CHUNK, SYNC_EVERY_S, Fsync
from fanout.model import ErrorDetail, Outcome
from fanout.payload import MAX_NESTING
from tests.journal.outcomes import failed, journaled, new_run, succeeded


@pytest.mark.parametrize("fsync", ["second", "always", "never"])
async def test_outcomes_are_in_the_file_within_50_ms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: Fsync
) -> None:
    """What was written is with the operating system soon, and on_commit is told only after that.

    What the journal waits of its own accord is counted: the rest is the machine's.
    """
    run_dir = new_run(tmp_path / "run")
    committed: list[int] = []
    in_file: list[int] = []

    def on_commit(outcomes: Sequence[Outcome]) -> None:
        committed.extend(outcome.seq for outcome in outcomes)
        in_file.append((run_dir.path / "outcomes.jsonl").read_bytes().count(b"\n"))

    async def noted(delay_s: float) -> None:
        waited_s[-1] += 0 if delay_s == SYNC_EVERY_S else delay_s
        await sleep(delay_s)

    sleep, waited_s = anyio.sleep, [0.0]
    monkeypatch.setattr("fanout.journal.writer.anyio.sleep", noted)
    journal = await Journal.open(run_dir.path, fsync=fsync, on_commit=on_commit)
    runner = asyncio.create_task(journal.run())
    for start in range(0, 30, 10):
        waited_s.append(0.0)
        for seq in range(start, start + 10):
            journal.write([succeeded(seq)])
        while len(committed) < start + 10:
            await asyncio.sleep(0.001)
    runner.cancel()
    await asyncio.wait([runner])
    await journal.aclose()
    assert committed == list(range(30))
    assert in_file == [10, 20, 30]
    assert waited_s[0] == 0
    assert 0 < max(waited_s) < 0.05


async def test_a_cancelled_flusher_neither_loses_nor_repeats(tmp_path: Path) -> None:
    """However often ``run`` is cut off in the middle of its work, each line is in the file once."""
    run_dir = new_run(tmp_path / "run")
    committed: list[int] = []
    journal = await Journal.open(
        run_dir.path, on_commit=lambda batch: committed.extend(outcome.seq for outcome in batch)
    )
    for round_ in range(60):
        runner = asyncio.create_task(journal.run())
        for seq in range(round_ * 100, round_ * 100 + 100):
            journal.write([succeeded(seq)])
        await asyncio.sleep(0.0201 if round_ % 3 else 0)
        runner.cancel()
        await asyncio.wait([runner])
    await journal.aclose()
    assert [outcome.seq for outcome in iter_outcomes(run_dir.path)] == list(range(6000))
    assert committed == list(range(6000))


async def test_closing_writes_everything_and_an_exact_mark(tmp_path: Path) -> None:
    """A clean end leaves nothing unclear: the mark says exactly how many were sent. Closing twice is fine."""
    run_dir = new_run(tmp_path / "run")
    journal = await Journal.open(run_dir.path)
    for seq in range(70):
        journal.mark(seq)
        journal.write([succeeded(seq)])
    assert journal.unwritten == 70
    await journal.aclose()
    await journal.aclose()
    known = replay(run_dir.path)
    assert journal.unwritten == 0
    assert (known.records, known.mark, known.may_have_run_count) == (70, 70, 0)
    assert not (run_dir.path / RESERVE_FILE).exists()


async def test_the_mark_is_ahead_of_every_call(tmp_path: Path) -> None:
    """At every moment the mark on disk covers every record sent, by less than a chunk more."""
    run_dir = new_run(tmp_path / "run")
    journal = await Journal.open(run_dir.path)
    for seq in range(300):
        journal.mark(seq)
        assert seq < replay(run_dir.path).mark <= seq + 1 + MARK_CHUNK
    await journal.aclose()


async def test_a_mark_never_goes_back(tmp_path: Path) -> None:
    """A resume that sends nothing leaves what may have run as it was."""
    run_dir = new_run(tmp_path / "run")
    journal = await Journal.open(run_dir.path)
    journal.mark(10)  # and then the process is killed
    resumed = await Journal.open(run_dir.path)
    resumed.mark(3)
    await resumed.aclose()
    assert replay(run_dir.path).mark == 10 + MARK_CHUNK
    await journal.aclose()


async def test_back_pressure(tmp_path: Path) -> None:
    """When megabytes wait for the disk the journal says so, and no longer when they are written."""
    run_dir = new_run(tmp_path / "run")
    journal = await Journal.open(run_dir.path)
    states: list[bool] = []
    big = msgspec.Raw(b'"' + b"x" * 1_000_000 + b'"')
    for seq in range(BACKED_UP_BYTES // 1_000_000 + 1):
        states.append(journal.is_backed_up)
        journal.write([succeeded(seq, output_raw=big)])
    states.append(journal.is_backed_up)
    await journal.flush()
    states.append(journal.is_backed_up)
    assert states == [False] * (len(states) - 2) + [True, False]
    await journal.aclose()


@given(
    st.text(st.characters(), max_size=20),
    st.text(st.characters(), max_size=20),
    st.recursive(st.none() | st.text(max_size=9) | st.floats(), lambda inner: st.lists(inner, max_size=3)),
    st.sampled_from([None, 2]),
)
async def test_any_outcome_stands_on_one_line(
    tmp_path_factory: pytest.TempPathFactory, key: str, message: str, output: object, indent: int | None
) -> None:
    """Lone surrogates, line breaks inside the reply's JSON, control characters: one line, and read back."""
    run_dir = new_run(tmp_path_factory.mktemp("any") / "run")
    reply = json.dumps(output, indent=indent, allow_nan=True)
    if "NaN" in reply or "Infinity" in reply:
        reply = "null"  # no JSON, so the classifier never passes it on
    outcome = succeeded(0, key=key, output_raw=msgspec.Raw(reply.encode()), error=ErrorDetail("E", message))
    await journaled(run_dir, [outcome, succeeded(1)])
    assert (run_dir.path / "outcomes.jsonl").read_bytes().count(b"\n") == 2
    read, _ = iter_outcomes(run_dir.path)
    assert (read.key, read.json()) == (key, json.loads(reply))
    assert read.error is not None
    assert read.error.message == message


async def test_a_reply_nested_as_deep_as_can_be_is_read_back(tmp_path: Path) -> None:
    """What JSON could be taken in can be read from the journal, too, one level deeper."""
    run_dir = new_run(tmp_path / "run")
    deep = b"[" * MAX_NESTING + b"]" * MAX_NESTING
    await journaled(run_dir, [succeeded(0, output_raw=msgspec.Raw(deep))])
    assert [outcome.body for outcome in iter_outcomes(run_dir.path)] == [deep]


async def test_a_removed_directory_is_noticed(tmp_path: Path) -> None:
    """Lines written to a file that no longer has a name are lost: the journal fails instead, once."""
    run_dir = new_run(tmp_path / "run")
    failures: list[JournalError] = []
    journal = await Journal.open(run_dir.path, on_failure=failures.append)
    shutil.rmtree(run_dir.path)
    journal.write([succeeded(0)])
    await journal.flush()
    await journal.flush()
    assert failures == [journal.failure]
    assert str(failures[0]).endswith("outcomes.jsonl cannot be written: it was removed")
    await journal.aclose()


async def test_a_full_file_fails_once_and_keeps_what_fits(tmp_path: Path) -> None:
    """With a limit on the file's size: one failure, whole lines before it, and it can go on where it was."""
    run_dir = new_run(tmp_path / "run")
    failures: list[JournalError] = []
    journal = await Journal.open(run_dir.path, on_failure=failures.append)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for seq in range(200):
        journal.mark(seq)
        journal.write([succeeded(seq)])
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (5_000, hard))
        await journal.flush()
        journal.write([succeeded(200)])
        await journal.flush()
        assert failures == [journal.failure]
        assert "cannot be written: File too large" in str(failures[0])
        assert (run_dir.path / "outcomes.jsonl").stat().st_size == 5_000
        known = replay(run_dir.path)
        assert known.torn_bytes > 0
        assert 0 < known.records == 201 - journal.unwritten
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    await journal.aclose()  # there is room again: the torn line is gone on with, byte for byte
    assert journal.unwritten == 0
    assert [outcome.seq for outcome in iter_outcomes(run_dir.path)] == list(range(201))


@pytest.mark.skipif(
    os.geteuid() != 0 or not sys.platform.startswith("linux"), reason="mounting a tmpfs takes root"
)
async def test_a_full_disk_keeps_the_outcomes_of_calls_in_flight(tmp_path: Path) -> None:
    """The reserve makes room for what comes after the disk is full; the failure is told all the same."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], check=False)
    if mount.returncode:
        pytest.skip("no mounts here")
    try:
        run_dir = new_run(disk / "run")
        journal = await Journal.open(run_dir.path)
        with suppress(OSError), (disk / "other").open("wb", buffering=0) as other:
            while True:
                other.write(bytes(4096))
        for seq in range(2000):
            journal.write([failed(seq)])
        await journal.flush()
        assert "No space left on device" in str(journal.failure)
        assert journal.unwritten == 0
        assert replay(run_dir.path).records == 2000
        run_dir.write_state({"state": "interrupted"})
        await journal.aclose()
    finally:
        subprocess.run(["umount", "-l", disk], check=True)


async def test_a_directory_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """Opening says in one line which file it is."""
    run_dir = new_run(tmp_path / "run")
    (run_dir.path / "mark").unlink()
    (run_dir.path / "mark").mkdir()
    with pytest.raises(JournalError) as caught:
        await Journal.open(run_dir.path)
    assert "mark cannot be" in str(caught.value)
    assert "\n" not in str(caught.value)


async def test_the_file_that_cannot_be_opened_is_named(tmp_path: Path) -> None:
    """Not the journal, when it is a file beside it."""
    run_dir = new_run(tmp_path / "run")
    (run_dir.path / "samples").mkdir()
    with pytest.raises(JournalError, match="run/samples cannot be written: Is a directory"):
        await Journal.open(run_dir.path)


@pytest.mark.timed
async def test_the_hot_path_is_cheap(tmp_path: Path) -> None:
    """Mark, sample and write are ten calls of functions a record, and hardly ever one of the system.

    The event loop's thread alone is counted, flushing included: time would depend on the machine.
    """
    run_dir = new_run(tmp_path / "run")
    journal = await Journal.open(run_dir.path, on_commit=lambda batch: None)
    runner = asyncio.create_task(journal.run())
    outcomes = [succeeded(seq, request_id="x" * 36, started_at="y" * 24) for seq in range(2000)]
    payload = b"x" * 100
    called: Counter[str] = Counter()  # by the thread of the event loop

    def note(frame: FrameType, event: str, function: Any) -> None:
        if event in ("call", "c_call"):
            called[frame.f_code.co_name if event == "call" else function.__name__] += 1

    sys.setprofile(note)
    try:
        for seq, outcome in enumerate(outcomes):
            journal.mark(seq)
            journal.sample(seq, payload)
            journal.write([outcome])
            if not seq % 500:
                await asyncio.sleep(0.001)
    finally:
        sys.setprofile(None)
    runner.cancel()
    await asyncio.wait([runner])
    await journal.aclose()
    assert called.total() / len(outcomes) < 11, called.most_common(20)
    assert called["pwrite"] <= len(outcomes) / MARK_CHUNK + 1
    assert called["fsync"] == called["fdatasync"] == 0


class Listening:
    """Notes what it is told, in order."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.synced: list[int] = []

    def before_sync(self) -> None:
        self.told.append("before")

    def on_synced(self, outcomes: list[Outcome]) -> None:
        self.told.append("synced")
        self.synced += [outcome.seq for outcome in outcomes]


async def test_a_listener_hears_of_outcomes_only_when_they_are_on_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is deleted elsewhere for a line's sake must outlive a loss of power here."""
    directory = new_run(tmp_path).path
    listener = Listening()
    sizes: list[int] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        sizes.append(os.fstat(descriptor).st_size)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    journal = await Journal.open(directory, sync_listener=listener)
    journal.write([succeeded(0)])
    await journal.flush()
    assert (listener.told, listener.synced) == (["before", "synced"], [0])
    assert (directory / "outcomes.jsonl").stat().st_size in sizes
    await journal.aclose()


async def test_a_listener_hears_nothing_after_a_sync_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody knows then what the disk has: not even a sync that works afterwards says so."""
    directory = new_run(tmp_path).path
    listener = Listening()
    journal = await Journal.open(directory, sync_listener=listener)
    journal.write([succeeded(0)])
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(5, "Input/output error")))
        await journal.flush()
    await journal.flush()
    await journal.aclose()
    assert listener.synced == []
    assert "Input/output error" in str(journal.failure)


class _Interrupted(deque[Any]):
    """An interrupt comes as its method returns, as signals do."""

    def append(self, element: Any) -> None:
        """Take it, and be interrupted."""
        super().append(element)
        raise SystemExit(143)


async def test_an_interrupt_writes_no_line_twice(tmp_path: Path) -> None:
    """What is handed to the thread is no longer among what waits to be."""
    run_dir = new_run(tmp_path / "run")
    journal = await Journal.open(run_dir.path)
    journal._batches = _Interrupted()
    journal.write([succeeded(seq) for seq in range(20)])
    with suppress(SystemExit):
        await journal.flush()
    journal._batches = deque(journal._batches)
    journal.write([succeeded(20)])
    await journal.aclose()
    lines = (run_dir.path / "outcomes.jsonl").read_text().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == list(range(21))
