"""What a restart learns from a journal, whole, torn, damaged or from another version."""

from __future__ import annotations

import asyncio
import json
import shutil
import time
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.errors import JournalError
from fanout.journal import Journal, RunDir, SeqSet, check_samples, iter_lines, iter_outcomes, replay
from fanout.journal.writer import MARK_CHUNK
from tests.journal.outcomes import failed, journaled, new_run, succeeded


@given(st.lists(st.integers(0, 1 << 40), max_size=60), st.integers(0, 1 << 41))
def test_a_seq_set_is_a_set(seqs: list[int], bound: int) -> None:
    """Whatever the numbers and their order."""
    found, expected = SeqSet(), set[int]()
    for seq in seqs:
        assert found.add(seq) == (seq not in expected)
        expected.add(seq)
    assert len(found) == len(expected)
    assert found.max == max(expected, default=-1)
    assert all(seq in found for seq in seqs)
    assert (bound in found) == (bound in expected)
    assert found.count_below(bound) == sum(seq < bound for seq in expected)


@given(st.lists(st.tuples(st.sampled_from((0, 900, (1 << 16) - 40)), st.integers(0, 30), st.integers(1, 60))))
def test_many_at_once_are_as_one_by_one(runs: list[tuple[int, int, int]]) -> None:
    """In runs, across pages, and where some of them are in it already."""
    at_once, one_by_one = SeqSet(), SeqSet()
    for base, first, count in runs:
        seqs = [base + first + number for number in range(count + count // 9) if number % 20 != 7]
        seqs.reverse()
        assert sorted(at_once.add_many(seqs)) == sorted(seq for seq in seqs if not one_by_one.add(seq))
        assert (at_once.pages(), len(at_once), at_once.max) == (
            one_by_one.pages(),
            len(one_by_one),
            one_by_one.max,
        )


def test_ten_million_seqs_take_little_memory() -> None:
    """1.25 MB for ten million; tried with a tenth of that."""
    tracemalloc.start()
    found = SeqSet()
    for seq in range(0, 1_000_000, 7):
        found.add(seq)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak_bytes < 250_000


async def test_an_empty_journal_is_fine(tmp_path: Path) -> None:
    """A run killed before its first outcome knows nothing finished and nothing sent."""
    run_dir = new_run(tmp_path / "run")
    known = replay(run_dir.path)
    assert (known.records, known.mark, known.counts, known.torn_bytes) == (0, 0, {}, 0)
    assert not known.may_have_run(0)
    assert list(iter_outcomes(run_dir.path)) == []


async def test_finished_may_have_run_and_never_started(tmp_path: Path) -> None:
    """With a line: finished. Below the mark without one: may have run. Above: never started."""
    run_dir = new_run(tmp_path / "run")
    journal = await Journal.open(run_dir.path)
    for seq in range(10):
        journal.mark(seq)
    for seq in (0, 1, 5):
        journal.write([succeeded(seq)])
    journal.write([failed(2)])
    await journal.flush()  # and then it is killed
    known = replay(run_dir.path)
    assert known.counts == {"succeeded": 3, "function_error": 1}
    assert [seq for seq in range(10) if seq in known.finished] == [0, 1, 2, 5]
    assert [seq for seq in range(10) if known.may_have_run(seq)] == [3, 4, 6, 7, 8, 9]
    assert known.mark == MARK_CHUNK  # the mark is written ahead
    assert known.may_have_run_count == MARK_CHUNK - 4
    assert not known.may_have_run(MARK_CHUNK)
    await journal.aclose()
    assert replay(run_dir.path).may_have_run_count == 6


async def test_records_known_not_to_have_run_are_told_apart(tmp_path: Path) -> None:
    """After a clean stop those never sent are known; once the run goes on that is forgotten, to be safe."""
    run_dir = new_run(tmp_path / "run")
    await journaled(run_dir, [succeeded(0)], mark_to=4)
    run_dir.write_state({"state": "interrupted", "not_sent": [2, 3, 99]})
    known = replay(run_dir.path)
    assert [seq for seq in range(5) if known.may_have_run(seq)] == [1]
    assert known.may_have_run_count == 1
    RunDir.open(run_dir.path).write_state({"state": "running"})
    assert replay(run_dir.path).may_have_run_count == 3


async def test_the_latest_outcome_of_a_record_counts(tmp_path: Path) -> None:
    """A redrive is a new generation: its outcomes replace the earlier ones, and the history stays."""
    run_dir = new_run(tmp_path / "run")
    await journaled(run_dir, [failed(0), succeeded(1), failed(2), failed(3)], mark_to=4)
    await journaled(run_dir, [succeeded(2, generation=1), failed(0, generation=1)], generation=1, mark_to=3)
    await journaled(run_dir, [succeeded(0, generation=2)], generation=2, mark_to=1)
    known = replay(run_dir.path)
    assert known.counts == {"succeeded": 3, "function_error": 1}
    assert (known.records, known.generation, known.marks) == (4, 2, (4, 3, 1))
    assert 0 in known.redone
    assert 2 not in known.redone
    latest = list(iter_outcomes(run_dir.path))
    assert [(o.seq, o.status, o.generation) for o in latest] == [
        (1, "succeeded", 0),
        (3, "function_error", 0),
        (2, "succeeded", 1),
        (0, "succeeded", 2),
    ]
    assert len(list(iter_outcomes(run_dir.path, latest=False))) == 7


async def test_a_generation_that_finished_nothing_is_known(tmp_path: Path) -> None:
    """A redrive killed before its first outcome: the mark says that it had begun."""
    run_dir = new_run(tmp_path / "run")
    await journaled(run_dir, [failed(0)], mark_to=1)
    journal = await Journal.open(run_dir.path, generation=1)
    journal.mark(0)
    known = replay(run_dir.path)
    assert (known.generation, len(known.redone), known.marks) == (1, 0, (1, MARK_CHUNK))
    await journal.aclose()


UTF8_TAIL = '{"seq":9,"status":"succeeded","attempts":1,"throttles":0,"output":"é'.encode()


@pytest.mark.parametrize(
    "tail",
    [
        b"{",
        UTF8_TAIL,
        UTF8_TAIL[:-1],
        b'{"seq":9,"status":"succeeded","attempts":1}',
        b"\0" * 5000,
        b"x" * 200_000,
    ],
)
async def test_a_torn_last_line_is_cut_off(tmp_path: Path, tail: bytes) -> None:
    """A line cut short, even inside a character, is not there: its record is pending, and is written anew."""
    run_dir = new_run(tmp_path / "run")
    await journaled(run_dir, [succeeded(0), succeeded(1)], mark_to=10)
    path = run_dir.path / "outcomes.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole + tail)
    known = replay(run_dir.path)
    assert (known.records, known.torn_bytes, known.whole_bytes) == (2, len(tail), len(whole))
    assert known.may_have_run(9)
    await journaled(run_dir, [succeeded(9)])
    assert [outcome.seq for outcome in iter_outcomes(run_dir.path)] == [0, 1, 9]
    assert replay(run_dir.path).torn_bytes == 0


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of 40 records, one of them redriven."""
    run_dir = new_run(tmp_path_factory.mktemp("written") / "run")
    outcomes = [failed(seq) if seq % 7 == 0 else succeeded(seq, key="schlüssel") for seq in range(40)]
    loop = asyncio.new_event_loop()
    loop.run_until_complete(journaled(run_dir, outcomes, mark_to=40))
    loop.run_until_complete(journaled(run_dir, [succeeded(7, generation=1)], generation=1, mark_to=8))
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return run_dir.path


@given(st.data())
def test_a_journal_cut_anywhere_gives_what_it_holds(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Cut after any byte, it gives exactly the whole lines before the cut: never fewer, none invented."""
    whole = (written / "outcomes.jsonl").read_bytes()
    cut_at = data.draw(st.integers(0, len(whole)))
    copy = tmp_path_factory.mktemp("cut") / "run"
    shutil.copytree(written, copy)
    (copy / "outcomes.jsonl").write_bytes(whole[:cut_at])
    lines = [json.loads(line) for line in whole[:cut_at].split(b"\n")[:-1]]
    known = replay(copy)
    assert known.records == len({line["seq"] for line in lines})
    assert known.whole_bytes + known.torn_bytes == cut_at
    assert sum(known.counts.values()) == known.records
    assert len(list(iter_outcomes(copy))) == known.records


@given(st.data())
def test_any_damage_is_told_or_harmless(
    written: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Bytes overwritten anywhere, in any file of the run: an answer, or JournalError in one line."""
    copy = tmp_path_factory.mktemp("damaged") / "run"
    shutil.copytree(written, copy)
    name = data.draw(st.sampled_from(["outcomes.jsonl", "mark", "run.json", "samples"]))
    content = bytearray((copy / name).read_bytes())
    junk = data.draw(st.binary(min_size=1, max_size=30))
    at = data.draw(st.integers(0, len(content)))
    content[at : at + len(junk)] = junk
    (copy / name).write_bytes(content)
    try:
        known = replay(copy)
        assert sum(known.counts.values()) == known.records
        list(iter_outcomes(copy))
        check_samples(copy)
    except JournalError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either end is right


async def test_damage_in_the_middle_is_refused_by_its_line(tmp_path: Path) -> None:
    """A line that is no outcome, with others after it, was not torn by a crash: nothing is guessed."""
    run_dir = new_run(tmp_path / "run")
    await journaled(run_dir, [succeeded(seq) for seq in range(5)])
    path = run_dir.path / "outcomes.jsonl"
    lines = path.read_bytes().split(b"\n")
    for bad in (
        b"",
        b"{}",
        b"[1]",
        b'{"seq":-1,"status":"succeeded"}',
        b'{"seq":1,"status":"done"}',
        b"\xff",
    ):
        path.write_bytes(b"\n".join([*lines[:2], bad, *lines[3:]]))
        with pytest.raises(JournalError, match=r"outcomes\.jsonl: line 3 is not an outcome") as caught:
            replay(run_dir.path)
        assert "\n" not in str(caught.value)


async def test_outcomes_of_a_later_fanout_are_read(tmp_path: Path) -> None:
    """Members that this version does not know are passed over."""
    run_dir = new_run(tmp_path / "run")
    line = {"seq": 0, "status": "succeeded", "attempts": 1, "throttles": 0, "colour": {"deep": [1]}}
    (run_dir.path / "outcomes.jsonl").write_text(json.dumps(line) + "\n")
    assert replay(run_dir.path).records == 1
    [outcome] = iter_outcomes(run_dir.path)
    assert outcome.ok


async def test_lines_are_given_as_they_stand(tmp_path: Path) -> None:
    """Byte for byte, so that an export is what the journal says."""
    run_dir = new_run(tmp_path / "run")
    await journaled(run_dir, [succeeded(0, output_raw=msgspec.Raw(b'{ "a" : 1.00 }')), failed(1)])
    whole = (run_dir.path / "outcomes.jsonl").read_bytes()
    assert b"".join(line for _, line in iter_lines(run_dir.path)) == whole


async def test_samples_notice_another_input(tmp_path: Path) -> None:
    """The first records and every 64th are remembered by their hash; a torn entry does not matter."""
    run_dir = new_run(tmp_path / "run")
    journal = await Journal.open(run_dir.path)
    for seq in range(200):
        journal.sample(seq, b"%d" % seq)
    await journal.aclose()
    with (run_dir.path / "samples").open("ab") as file:
        file.write(b"torn")
    samples = check_samples(run_dir.path)
    assert len(samples) == 19
    assert not any(samples.differs(seq, b"%d" % seq) for seq in range(300))
    assert [seq for seq in range(200) if samples.differs(seq, b"other")] == [*range(16), 64, 128, 192]
    reopened = await Journal.open(run_dir.path)
    reopened.sample(256, b"256")
    await reopened.aclose()
    assert check_samples(run_dir.path).differs(256, b"x")


@pytest.mark.timed
def test_a_large_journal_is_read_quickly(tmp_path: Path) -> None:
    """A million outcomes take seconds, not minutes: at most 5 µs a line, tried with 100,000."""
    run_dir = new_run(tmp_path / "run")
    line = msgspec.json.encode(succeeded(123456, key="order-17", request_id="x" * 36, started_at="y" * 24))
    with (run_dir.path / "outcomes.jsonl").open("wb") as file:
        for seq in range(100_000):
            file.write(line.replace(b"123456", b"%d" % seq) + b"\n")
    began_s = time.process_time()
    assert replay(run_dir.path).records == 100_000
    assert time.process_time() - began_s < 0.5


def test_a_lost_mark_is_damage_unless_told_what_it_means(tmp_path: Path) -> None:
    """An empty or missing mark beside a run that was going on never counts as "nothing was sent"."""
    for lose in (Path.unlink, lambda path: path.write_bytes(b"")):
        run_dir = new_run(tmp_path / lose.__name__)
        lose(run_dir.path / "mark")
        with pytest.raises(JournalError, match="which records were sent is not known"):
            replay(run_dir.path)
        known = replay(run_dir.path, accepts_lost_mark=True)
        assert known.is_mark_lost
        assert known.may_have_run(10**9)
