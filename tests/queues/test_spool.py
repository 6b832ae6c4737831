"""The spool: a message keeps its number over crashes, and no number is given out twice."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.errors import JournalError
from fanout.queues.spool import MESSAGES_FILE, MessageSpool, count_messages


def test_messages_are_numbered_in_order_and_found_again(tmp_path: Path) -> None:
    """The first message is record 0; after a restart each has the number that it had."""
    spool = MessageSpool(tmp_path)
    assert spool.note(["a", "b"]) == 0
    assert spool.note(["c"]) == 2
    assert spool.find(["c", "x", "a"]) == {"c": 2, "a": 0}
    spool.close()
    again = MessageSpool(tmp_path)
    assert len(again) == 3
    assert again.find(["a", "b", "c", "d"]) == {"a": 0, "b": 1, "c": 2}
    again.close()


def test_an_entry_cut_short_is_no_entry(tmp_path: Path) -> None:
    """A crash in the middle of a write leaves whole entries."""
    spool = MessageSpool(tmp_path)
    spool.note(["a", "b"])
    spool.close()
    path = tmp_path / MESSAGES_FILE
    path.write_bytes(path.read_bytes()[:-3])
    again = MessageSpool(tmp_path)
    assert (len(again), again.find(["a", "b"])) == (1, {"a": 0})
    assert again.note(["b"]) == 1
    again.close()


def test_numbers_that_the_journal_knows_are_not_given_out_again(tmp_path: Path) -> None:
    """The spool lost its end with the power, and the journal did not."""
    spool = MessageSpool(tmp_path, at_least=5)
    assert spool.note(["a"]) == 5
    assert spool.find(["a", "b"]) == {"a": 5}
    spool.close()


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """No traceback of the database."""
    with pytest.raises(JournalError, match="cannot be written"):
        MessageSpool(tmp_path / "missing")


@settings(max_examples=30, deadline=None)
@given(groups=st.lists(st.lists(st.integers(0, 30), max_size=10, unique=True), max_size=12))
def test_one_message_has_one_number(
    tmp_path_factory: pytest.TempPathFactory, groups: list[list[int]]
) -> None:
    """Whatever comes again, in whatever groups, over a restart after each."""
    directory = tmp_path_factory.mktemp("spool")
    numbers: dict[str, int] = {}
    for group in groups:
        spool = MessageSpool(directory)
        ids = [f"m{each}" for each in group]
        known = spool.find(ids)
        assert known == {each: numbers[each] for each in ids if each in numbers}
        fresh = [each for each in ids if each not in known]
        first = spool.note(fresh)
        numbers |= {each: first + at for at, each in enumerate(fresh)}
        spool.close()
    assert sorted(numbers.values()) == list(range(len(numbers)))


def test_a_disk_that_is_full_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing of the entry stays, and its number is given to the next."""
    spool, write = MessageSpool(tmp_path), os.write
    spool.note(["a"])
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:5]))
        with pytest.raises(JournalError, match="cannot be written: no space left on the disk"):
            spool.note(["b"])

        def refuse(descriptor: int) -> None:
            raise OSError(errno.EIO, os.strerror(errno.EIO))

        full.setattr(os, "fsync", refuse)
        for _ in range(2):  # what is not on the disk stays owed
            with pytest.raises(JournalError, match="cannot be written: Input/output error"):
                spool.sync()
    assert spool.note(["b"]) == 1
    spool.sync()
    spool.close()
    again = MessageSpool(tmp_path)
    assert again.find(["a", "b"]) == {"a": 0, "b": 1}
    again.close()


def test_an_index_that_is_damaged_is_one_line(tmp_path: Path) -> None:
    """It is the database's fault, told as one of the run directory."""
    spool = MessageSpool(tmp_path)
    spool._index.execute("DROP TABLE messages")
    for ask in (spool.find, spool.note):
        with pytest.raises(JournalError, match="no such table"):
            ask(["a"])
    spool.close()


def test_without_a_spool_there_are_no_messages(tmp_path: Path) -> None:
    """A run over a queue that never received one."""
    assert count_messages(tmp_path) == 0
    spool = MessageSpool(tmp_path)
    spool.note(["a", "b"])
    spool.close()
    assert count_messages(tmp_path) == 2
