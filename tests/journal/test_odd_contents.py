"""What may stand in the files of a run besides the usual: odd text, damage, and a disk that fails halfway."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from fanout.errors import JournalError
from fanout.journal import RunDir, checkpoint
from fanout.journal.disk import RESERVE_FILE, AppendFile, Reserve
from fanout.journal.lines import Head, LineFault, decode_line
from fanout.journal.listing import count_outcomes
from fanout.journal.lock import LOCK_FILE, RunLock, is_locked
from fanout.journal.marks import MarkFile, read_marks
from fanout.journal.reader import replay
from fanout.journal.run_dir import CHECKPOINT_FILE
from fanout.journal.samples import check_samples
from fanout.journal.seqs import SeqSet
from fanout.journal.windows import WindowFile
from tests.journal.outcomes import new_run


def _full(*_: Any, **__: Any) -> Any:
    raise OSError(errno.ENOSPC, "No space left on device")


def test_a_mark_begins_every_generation_before_its_own(tmp_path: Path) -> None:
    """A redrive that died before its mark was written leaves a gap, which counts as nothing sent."""
    mark = MarkFile(tmp_path, 2)
    mark.write(7)
    mark.close()
    assert read_marks(tmp_path) == [0, 0, 7]


def test_a_mark_that_cannot_be_written_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At its opening already: nothing was sent."""
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", _full)
        with pytest.raises(JournalError, match="cannot be written: No space left on device"):
            MarkFile(tmp_path, 1)
    with pytest.raises(JournalError, match="mark cannot be written: No such file or directory"):
        MarkFile(tmp_path / "gone", 0)
    with pytest.raises(JournalError, match="windows cannot be written: No such file or directory"):
        WindowFile(tmp_path / "gone", 0)


def test_a_journal_that_cannot_be_cut_is_closed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line that a crash cut short cannot be taken off: the error goes on, the file does not stay open."""
    (tmp_path / "journal").write_bytes(b'{"seq":0}\n{"se')
    monkeypatch.setattr(AppendFile, "_after_last_line", _full)
    with pytest.raises(OSError, match="No space left"):
        AppendFile(tmp_path / "journal")


def test_a_run_that_cannot_be_begun_leaves_its_directory_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So that the same command works once there is room."""

    def refuse(*_: Any) -> None:
        raise JournalError("run.json cannot be written: No space left on device")

    (tmp_path / "run").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(RunDir, "write_state", refuse)
        with pytest.raises(JournalError, match="No space left"):
            new_run(tmp_path / "run")
    assert list((tmp_path / "run").glob("*.jsonl")) == []
    assert new_run(tmp_path / "run").path == tmp_path / "run"


def test_a_lock_that_a_file_system_does_not_have_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network file systems know no locks: a run needs one, a look does without."""

    def refuse(_: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fanout.journal.lock._lock", refuse)
    monkeypatch.setattr("fanout.journal.lock._look", refuse)
    with pytest.raises(JournalError, match="cannot be locked: No locks available"):
        RunLock(tmp_path)
    assert (tmp_path / LOCK_FILE).exists()
    assert not is_locked(tmp_path)


def test_a_line_deeper_than_python_reads_at_first() -> None:
    """An earlier version wrote it: it is read with more room, and what is no JSON after all is named."""
    decoder = msgspec.json.Decoder(Head)
    deep = b'{"seq":1,"status":"succeeded","output":' + b"[" * 2_000 + b"]" * 2_000 + b"}"
    assert decode_line(deep, decoder).seq == 1
    with pytest.raises(LineFault):
        decode_line(b'{"seq":1,"status":"succeeded","output":' + b"[" * 100_000, decoder)
    with pytest.raises(LineFault):
        decode_line(b'{"seq":1,"status":"succeeded","output":NaN}', decoder)


def test_outcomes_are_counted_where_that_is_quick(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not in a journal of gigabytes, and not in one that is gone."""
    run = new_run(tmp_path / "run")
    (run.path / "outcomes.jsonl").write_bytes(b"{}\n{}\n")
    assert count_outcomes(run) == 2
    with monkeypatch.context() as patch:
        patch.setattr("fanout.journal.listing._LONG_BYTES", 5)
        assert count_outcomes(run) is None
    (run.path / "outcomes.jsonl").unlink()
    assert count_outcomes(run) is None


def test_samples_in_a_directory_are_named(tmp_path: Path) -> None:
    """As every other file of a run."""
    (tmp_path / "samples").mkdir()
    with pytest.raises(JournalError, match="samples cannot be read: Is a directory"):
        check_samples(tmp_path)


def test_the_first_missing_number_beyond_a_full_page() -> None:
    """Pages are looked at one by one."""
    held = SeqSet()
    held.add_many(range(1 << 16))
    assert held.first_missing(5) == 1 << 16
    assert SeqSet.of_pages(held.pages(), held.max).first_missing(0) == 1 << 16
    with pytest.raises(ValueError, match="page 0 has 1 bytes"):
        SeqSet.of_pages({0: b"\0"}, 0)


def test_not_sent_that_is_no_list_is_damage(tmp_path: Path) -> None:
    """run.json says which records were never sent; nothing is guessed."""
    run = new_run(tmp_path / "run")
    run.write_state({**run.state, "state": "interrupted", "not_sent": "all"})
    with pytest.raises(JournalError, match=r"run\.json is damaged: .*not_sent"):
        replay(run.path)


def test_a_checkpoint_of_another_shape_is_none(tmp_path: Path) -> None:
    """Its digest is right, and it is of a version that wrote something else."""
    body = b"\xc1"
    (tmp_path / CHECKPOINT_FILE).write_bytes(checkpoint._FORMAT + checkpoint._digest(body) + body)
    assert checkpoint.read_checkpoint(tmp_path, "id") is None


@pytest.mark.parametrize("has_fallocate", [True, False])
def test_a_disk_without_room_for_the_reserve_has_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, has_fallocate: bool
) -> None:
    """The run begins all the same; elsewhere the reserve is written, as some systems cannot allocate."""
    if has_fallocate:
        monkeypatch.setattr(os, "posix_fallocate", _full)
    else:
        monkeypatch.delattr(os, "posix_fallocate")
    reserve, error = Reserve(tmp_path), OSError(errno.ENOSPC, "No space left on device")
    assert reserve.release_for(error) is not has_fallocate
    assert not (tmp_path / RESERVE_FILE).exists()
