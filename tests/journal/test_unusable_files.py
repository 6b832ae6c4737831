"""Files of a run that cannot be read or written: one line names the file and the reason."""

from __future__ import annotations

import errno
import os
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.errors import JournalError
from fanout.journal import RunDir
from fanout.journal.files import JournalFiles
from fanout.journal.listing import latest_run, list_runs
from fanout.journal.lock import LOCK_FILE, RunLock, is_locked
from fanout.journal.marks import MARK_FILE, MarkFile, write_marks
from fanout.journal.windows import WINDOWS_FILE, WindowFile, read_windows, write_windows
from fanout.journal.writer import Journal
from fanout.model import Reply
from fanout.queues.accepted import AcceptedCalls, OpenCall
from tests.journal.outcomes import new_run
from tests.scripted import Call, Scripted, ok


@pytest.mark.parametrize(
    ("name", "use"),
    [
        (MARK_FILE, lambda path: MarkFile(path, 0)),
        (MARK_FILE, lambda path: write_marks(path, [0])),
        (LOCK_FILE, RunLock),
        (WINDOWS_FILE, read_windows),
        (WINDOWS_FILE, lambda path: write_windows(path, {0: [(0, 1)]})),
        ("run.json", RunDir.open),
    ],
)
def test_a_directory_where_a_file_should_be(tmp_path: Path, name: str, use: Callable[[Path], object]) -> None:
    """As a copy of a run with the wrong tool may leave it."""
    run = new_run(tmp_path / "run").path
    (run / name).unlink(missing_ok=True)
    (run / name).mkdir()
    with pytest.raises(JournalError, match=rf"{name} cannot be (read|written): Is a directory"):
        use(run)
    assert not is_locked(run)


def test_windows_grow_are_merged_and_read_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many lines become few; what a crash cut short was never handed out; damage is refused."""
    monkeypatch.setattr("fanout.journal.windows.COMPACT_AFTER", 5)
    windows = WindowFile(tmp_path, 1)
    for first in range(0, 70, 10):
        windows.allow([(first, first + 10)])
    windows.allow([(100, 101)])
    windows.sync()
    windows.close()
    path = tmp_path / WINDOWS_FILE
    assert path.stat().st_size < 8 * 53
    with path.open("ab") as file:
        file.write(b"         1     ")
    assert read_windows(tmp_path) == {1: [(0, 70), (100, 101)]}
    WindowFile(tmp_path, 1).close()
    assert path.stat().st_size % 53 == 0
    path.write_bytes(b"x" * 53)
    with pytest.raises(JournalError, match="line 1 is damaged: which records were sent is not known"):
        read_windows(tmp_path)


def test_a_window_that_is_written_in_part_is_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room for a few bytes takes them, and says so by their number."""
    windows = WindowFile(tmp_path, 0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:20]))
    with pytest.raises(JournalError, match="cannot be written: the disk is full"):
        windows.allow([(0, 1)])
    windows.close()
    assert read_windows(tmp_path) == {}


@pytest.mark.parametrize("use", [Journal.mark, lambda journal, seq: journal.allow([(seq, seq + 1)])])
async def test_what_may_be_sent_is_kept_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, use: Callable[[Journal, int], None]
) -> None:
    """The journal has failed for good then, and its owner hears of it once."""
    failures: list[JournalError] = []
    journal = await Journal.open(new_run(tmp_path / "run").path, on_failure=failures.append)

    def fail(*_: Any) -> int:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", fail)
        patch.setattr(os, "pwrite", fail)
        for seq in range(2):
            with pytest.raises(JournalError, match="cannot be written: No space left on device"):
                use(journal, seq)
    assert len(failures) == 1
    assert journal.failure is failures[0]
    await journal.aclose()


def test_runs_below_a_directory_that_is_none(tmp_path: Path) -> None:
    """Missing, a run itself, or without any; and one that is damaged is told and left out."""
    with pytest.raises(JournalError, match="cannot be read: No such file or directory: give a directory"):
        list_runs(tmp_path / "none")
    run = new_run(tmp_path / "run").path
    with pytest.raises(JournalError, match="is a run itself: give the directory above it"):
        list_runs(run)
    (tmp_path / "empty").mkdir()
    with pytest.raises(JournalError, match="there is no run below"):
        latest_run(tmp_path / "empty")
    assert latest_run(tmp_path) == run
    (run / "run.json").write_text("{")
    damaged: list[JournalError] = []
    assert list_runs(tmp_path, damaged.append) == []
    assert "is damaged" in str(damaged[0])


def test_a_lock_without_a_holders_number_is_held_all_the_same(tmp_path: Path) -> None:
    """The number is for people; a run can be looked at without disturbing its holder."""
    assert not is_locked(tmp_path)
    with RunLock(tmp_path):
        (tmp_path / LOCK_FILE).write_text("")
        assert is_locked(tmp_path)
        with pytest.raises(JournalError, match="is in use by another process: wait for it, or stop it"):
            RunLock(tmp_path)
    assert not is_locked(tmp_path)


def test_a_journal_that_is_gone_while_results_are_collected(tmp_path: Path) -> None:
    """Each way to read it says which file it is."""
    journal = new_run(tmp_path / "run").path / "outcomes.jsonl"
    journal.write_text('{"seq":0,"status":"accepted","request_id":"r"}\n')
    calls = AcceptedCalls(journal)
    assert calls.update() == 1
    journal.rename(tmp_path / "elsewhere")
    for use in (calls.update, lambda: calls.line_of(OpenCall(0, 0)), lambda: AcceptedCalls(journal)):
        with pytest.raises(JournalError, match=r"outcomes\.jsonl cannot be read: No such file or directory"):
            use()
    calls.close()


def test_an_index_that_cannot_be_used_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has it to close: the error is all that comes of it."""
    made: list[sqlite3.Connection] = []
    connect = sqlite3.connect

    def noted(*words: Any, **options: Any) -> sqlite3.Connection:
        made.append(connect(*words, **options))
        return made[-1]

    journal = tmp_path / "outcomes.jsonl"
    journal.write_bytes(b'{"seq":0,"status":"accepted","request_id":"r"}\n')
    calls = AcceptedCalls(journal)
    calls.update()
    calls.close()
    journal.unlink()
    monkeypatch.setattr(sqlite3, "connect", noted)
    with pytest.raises(JournalError, match="cannot be read"):
        AcceptedCalls(journal)
    assert len(made) == 1
    with pytest.raises(sqlite3.ProgrammingError, match="closed"):
        made[0].execute("SELECT 1")


@pytest.mark.parametrize("most", [0, 40])
@pytest.mark.parametrize("batch", [None, 3])
def test_without_a_mark_nothing_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, batch: int | None
) -> None:
    """The run stops at the first record whose sending cannot be kept, and can go on once there is room."""
    write_mark = JournalFiles.write_mark

    def full(files: JournalFiles, mark: int) -> None:
        if mark > most + 16:
            raise OSError(errno.ENOSPC, "No space left on device")
        write_mark(files, mark)
        kept.append(mark)

    def answer(call: Call) -> Reply:
        records = [call.json()] if batch is None else call.json()["Items"]
        unmarked.extend(record for record in records if record >= kept[-1])
        return ok()

    def run() -> fanout.RunReport:
        transport = Scripted(answer)
        report = fanout.run(
            "f",
            range(100),
            transport=transport,
            concurrency=4,
            batch=batch,
            out=tmp_path / "r",
            report=False,
            resume=True,
        )
        sent.append(transport.count * (batch or 1))
        return report

    sent: list[int] = []
    kept, unmarked = [0], list[int]()
    monkeypatch.setattr(JournalFiles, "write_mark", full)
    stopped = run()
    assert (stopped.exit_code, stopped.halted_by) == (5, "journal")
    assert stopped.counts["unknown"] == 0
    assert stopped.counts["succeeded"] == sent[0] <= most + 32
    assert unmarked == []
    monkeypatch.setattr(JournalFiles, "write_mark", write_mark)
    report = run()
    assert (report.exit_code, report.counts["succeeded"]) == (0, 100)
    assert sum(sent) in range(100, 100 + (batch or 1))
