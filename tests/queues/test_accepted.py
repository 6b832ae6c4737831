"""The index of accepted calls: the newest line of a record counts, whatever became of the journal."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from fanout.errors import JournalError
from fanout.model import ErrorDetail, Outcome, Status
from fanout.queues.accepted import INDEX_FILE, RESULT_MISSING, AcceptedCalls


def line(seq: int, status: Status = "accepted", request_id: str | None = None, **members: object) -> bytes:
    outcome = Outcome(
        seq=seq, status=status, attempts=1, throttles=0, request_id=request_id or f"r{seq}", **members  # type: ignore[arg-type]
    )  # fmt: skip
    return msgspec.json.encode(outcome) + b"\n"


def index_of(path: Path) -> AcceptedCalls:
    calls = AcceptedCalls(path)
    calls.update()
    return calls


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(b"".join(line(seq) for seq in range(5)))
    return path


def test_accepted_records_are_open_until_another_line_follows(journal: Path) -> None:
    """A result closes its record; a call is known by its request id for ever."""
    calls = index_of(journal)
    assert calls.open_count == 5
    ((found,), is_known) = calls.find("r3")
    assert (found.seq, is_known) == (3, True)
    assert calls.line_of(found) == line(3)
    with journal.open("ab") as file:
        file.write(line(3, "succeeded"))
    assert calls.update() == 1
    assert (calls.open_count, calls.find("r3")) == (4, ([], True))
    assert calls.find("somebody's") == ([], False)
    calls.close()
    again = index_of(journal)
    assert (again.open_count, again.find("r3")) == (4, ([], True))
    again.close()


def test_a_newer_call_of_a_record_takes_its_place(journal: Path) -> None:
    """Results of the older one are this run's, and complete nothing."""
    with journal.open("ab") as file:
        file.write(line(2, "function_error") + line(2, request_id="again", generation=1))
    calls = index_of(journal)
    assert calls.open_count == 5
    assert calls.find("r2") == ([], True)
    assert [call.seq for call in calls.find("again")[0]] == [2]
    calls.close()


def test_a_missing_result_leaves_its_record_open(journal: Path) -> None:
    """What comes later still counts."""
    with journal.open("ab") as file:
        file.write(line(0, "unknown", error=ErrorDetail(RESULT_MISSING)))
        file.write(line(1, "unknown", error=ErrorDetail("ReplyLost")))
    calls = index_of(journal)
    assert [call.seq for call in calls.open_calls()] == [0, 2, 3, 4]
    calls.close()


def test_all_records_of_one_call_are_found(tmp_path: Path) -> None:
    """A batch has one request id."""
    path = tmp_path / "outcomes.jsonl"
    path.write_bytes(b"".join(line(seq, request_id="batch") for seq in range(10)))
    calls = index_of(path)
    assert [call.seq for call in calls.find("batch")[0]] == list(range(10))
    calls.close()


@pytest.mark.parametrize("damage", ["shorter", "another", "no database"])
def test_an_index_of_another_journal_is_made_anew(journal: Path, damage: str) -> None:
    """After a loss of power the journal may be shorter than what was indexed, and grow again otherwise."""
    index_of(journal).close()
    if damage == "shorter":
        journal.write_bytes(line(0) + line(1))
    elif damage == "another":
        journal.write_bytes(b"".join(line(seq, request_id=f"x{seq}") for seq in range(9)))
    else:
        journal.with_name(INDEX_FILE).write_bytes(b"not a database at all, but some text" * 100)
    calls = index_of(journal)
    assert calls.open_count == len(journal.read_bytes().splitlines())
    assert calls.find("x0")[1] is (damage == "another")
    calls.close()


def test_a_line_that_is_cut_short_is_read_when_it_is_whole(journal: Path) -> None:
    """The journal is being written."""
    whole = line(5)
    with journal.open("ab") as file:
        file.write(whole[:-4])
    calls = index_of(journal)
    assert calls.open_count == 5
    with journal.open("ab") as file:
        file.write(whole[-4:])
    calls.update()
    assert calls.open_count == 6
    calls.close()


def test_a_directory_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    """It names the file and what to do."""
    with pytest.raises(JournalError, match="cannot be"):
        index_of(tmp_path / "missing" / "outcomes.jsonl")


def test_a_journal_that_is_gone_is_one_line(journal: Path) -> None:
    """While it is read, and when an index that is left looks for it."""
    calls = index_of(journal)
    call = calls.open_call(0)
    assert call is not None
    journal.unlink()
    for ask in (calls.update, lambda: calls.line_of(call), lambda: AcceptedCalls(journal)):
        with pytest.raises(JournalError, match=r"outcomes\.jsonl cannot be read: No such file"):
            ask()
    calls.close()


def test_an_index_that_breaks_in_use_is_one_line(journal: Path) -> None:
    """It names the file and what to do; lines that could not be added are read again."""
    calls = index_of(journal)
    calls._database.execute("DROP TABLE calls")
    journal.write_bytes(journal.read_bytes() + line(7))
    for ask in (calls.update, lambda: calls.find("r0"), lambda: calls.open_call(0)):
        with pytest.raises(JournalError, match=r"cannot be used: .*: remove it, and collect again"):
            ask()
    calls._database.execute("DELETE FROM state")
    with pytest.raises(JournalError, match="remove it"):
        calls.update()
    calls.close()


def test_a_line_that_is_no_outcome_is_one_line(journal: Path) -> None:
    """The journal is damaged: nothing of the lines around it is kept."""
    calls = index_of(journal)
    journal.write_bytes(journal.read_bytes() + line(7) + b'{"seq":"x","status":"accepted"}\n')
    with pytest.raises(JournalError):
        calls.update()
    assert calls.open_call(7) is None
    calls.close()
