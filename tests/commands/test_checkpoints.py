"""A checkpoint only saves time: with any of them, and with none, a verb says the same of a run."""

from __future__ import annotations

import json
import random
import shutil
import stat
from collections import deque
from pathlib import Path
from typing import Any

import msgspec
import pytest
from benchmarks.null_transport import NullTransport
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fanout
from fanout.commands import checkpointer
from fanout.commands.checkpointer import checkpoint_of, restored_from
from fanout.commands.history import History, read_history, search
from fanout.cost import meter_of
from fanout.journal import JournalBlocks, RunDir, SeqSet, replay
from fanout.journal.checkpoint import read_checkpoint, write_checkpoint
from fanout.journal.line_blocks import Figures
from fanout.journal.lines import StoredOutcome, decode_line
from fanout.model import AttemptEnd, BatchPlace, ErrorDetail, Outcome
from fanout.payload import append_line
from fanout.runs import RedriveSearch
from fanout.stats import Stats
from fanout.stats.saved import restore_stats, save_stats
from fanout.stats.story import stats_of_blocks
from tests.journal.outcomes import succeeded

_STATUSES = ("succeeded", "succeeded", "succeeded", "function_error", "rejected", "undelivered", "unknown")


@pytest.fixture(autouse=True)
def _no_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk is slow, and nothing here loses its power."""
    monkeypatch.setattr("os.fsync", lambda _: None)


def outcomes_of(
    pick: random.Random, count: int, *, sends_again: bool, odd_key: str = "odd \ud800"
) -> list[Outcome]:
    """Outcomes as runs, redrives, batches and collections leave them."""
    found = []
    for at in range(count):
        status: Any = pick.choice(_STATUSES)
        again = sends_again and pick.random() < 0.1
        found.append(
            Outcome(
                seq=pick.randrange(at + 1) if again else at * 3 + pick.randrange(3),
                status=status,
                attempts=pick.choice((0, 1, 1, 1, 2)),
                throttles=pick.choice((0, 0, 3)),
                key=pick.choice((None, "ключ", "a" * 300, odd_key if at % 50 == 49 else None)),
                started_at=f"2026-11-21T08:00:{at % 60:02}.{pick.randrange(1000):03}Z",
                duration_ms=pick.choice((None, 0.5, pick.random() * 1000)),
                billed_ms=pick.choice((None, 12)),
                memory_mb=pick.choice((None, 128)),
                init_ms=pick.choice((None, None, 80.5)),
                output_raw=msgspec.Raw(b'{"status":"function_error","seq":1}'),
                input_raw=msgspec.Raw(b"[1, 2]"),
                error=None if status == "succeeded" else ErrorDetail(pick.choice("ABC"), "m", ["a", "b"]),
                history=pick.choice((None, [AttemptEnd("ambiguous", "2026-11-21T08:00:00Z", 5.0)] * 2)),
                batch=pick.choice((None, None, BatchPlace("b", pick.randrange(3), 3))),
                generation=pick.choice((0, 1, 2)) if again else 0,
            )
        )
    return found


def new_run(path: Path, outcomes: list[Outcome]) -> RunDir:
    """A run that was cut off, with these outcomes."""
    run_dir = RunDir.create(
        path, {"state": "interrupted", "function": "f", "started_at": "2026-11-21T08:00:00Z"}
    )
    lines = bytearray()
    for outcome in outcomes:
        append_line(lines, outcome)
    (path / "outcomes.jsonl").write_bytes(lines)
    return run_dir


def checkpointed(run_dir: RunDir, outcomes: list[Outcome], count: int) -> None:
    """Leave a checkpoint of the first outcomes, as the run that had them would."""
    finished, lines = SeqSet(), bytearray()
    is_twice = bool(finished.add_many([outcome.seq for outcome in outcomes[:count]]))
    if is_twice or any(outcome.generation for outcome in outcomes[:count]):
        return  # where a record stands twice, or was sent again, none is written
    for outcome in outcomes[:count]:
        append_line(lines, outcome)
    stats, meter = Stats(started_s=0.0), meter_of(run_dir.state)
    stats.add_many(outcomes[:count])
    meter.add_many(outcomes[:count])
    write_checkpoint(run_dir.path, checkpoint_of(run_dir, len(lines), finished, stats=stats, meter=meter))


def said(history: History) -> dict[str, Any]:
    """What a resume knows, but for how it was spread over time."""
    stats = plain(history.stats)
    kept = ("_clusters", "_slowest", "_executions", "_cold", "_bad")
    for name in ("series", "clock", "throttles", "limit_s", *(each for each in stats if each[0] == "_")):
        if name not in kept:
            stats.pop(name)
    stats["_clusters"].pop("_frames")
    latencies = stats.pop("latencies")
    stats["latencies"] = {name: latencies[name] for name in ("count", "least_ms", "most_ms")}
    known = history.known
    return {
        "finished": {seq for seq in range(known.finished.max + 1) if seq in known.finished},
        "counts": known.counts,
        "bytes": (known.whole_bytes, known.torn_bytes),
        "generation": known.generation,
        "cost": plain(history.meter),
        "stats": stats,
        "latency": {name: pytest.approx(value) for name, value in history.stats.latency_ms().items()},
        "refused": history.refused,
        "told": sum(each.finished for each in history.stats.series.bins),
    }


def plain(value: Any) -> Any:
    """Everything that an object knows, as plain data."""
    if isinstance(value, random.Random):
        return value.getstate()
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items()}
    if isinstance(value, (list, tuple, deque)):
        return [plain(each) for each in value]
    if isinstance(value, msgspec.Struct):
        return plain(msgspec.structs.asdict(value))
    names = getattr(type(value), "__slots__", None) or getattr(value, "__dict__", None)
    return {name: plain(getattr(value, name)) for name in names} if names else value


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_with_any_checkpoint_and_with_none_the_same_is_known(tmp_path: Path, data: st.DataObject) -> None:
    """Older than the journal, newer, torn, of another journal or foreign: never another answer."""
    pick = random.Random(data.draw(st.integers(0, 1 << 32)))
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    shutil.rmtree(tmp_path / "other", ignore_errors=True)
    outcomes = outcomes_of(pick, pick.randrange(1, 60), sends_again=pick.random() < 0.5)
    run_dir = new_run(tmp_path / "run", outcomes)
    if pick.random() < 0.3:
        run_dir.write_state({"refused": sorted({pick.choice(outcomes).seq, 10_000})})
    path, journal = run_dir.path / "checkpoint", run_dir.path / "outcomes.jsonl"
    checkpointed(run_dir, outcomes, pick.randrange(len(outcomes) + 1))
    match pick.choice(("whole", "torn", "changed", "foreign", "shorter journal", "another journal", "odd")):
        case "torn" if path.exists():
            path.write_bytes(path.read_bytes()[: pick.randrange(path.stat().st_size)])
        case "changed" if path.exists():
            content = bytearray(path.read_bytes())
            content[pick.randrange(len(content))] ^= 1 << pick.randrange(8)
            path.write_bytes(content)
        case "foreign" if path.exists():
            other = new_run(tmp_path / "other", outcomes)
            checkpointed(other, outcomes, len(outcomes))
            if (other.path / "checkpoint").exists():
                shutil.copy(other.path / "checkpoint", path)
        case "shorter journal":
            journal.write_bytes(journal.read_bytes()[: pick.randrange(journal.stat().st_size)])
        case "another journal":
            lines = journal.read_bytes().splitlines(keepends=True)
            pick.shuffle(lines)
            journal.write_bytes(b"".join(lines[: pick.randrange(len(lines) + 1)]))
        case "odd":
            path.write_bytes(pick.randbytes(pick.randrange(200)))
    with_it = said(read_history(run_dir, accepts_lost_mark=True))
    restart = replay(run_dir.path, accepts_lost_mark=True)
    to_send = redrivable(run_dir)
    path.unlink(missing_ok=True)
    assert to_send == redrivable(run_dir)
    without = said(read_history(run_dir, accepts_lost_mark=True))
    assert with_it == without
    fresh = replay(run_dir.path, accepts_lost_mark=True)
    for name in ("counts", "generation", "marks", "whole_bytes", "torn_bytes"):
        assert getattr(restart, name) == getattr(fresh, name)
    assert restart.finished.pages() == fresh.finished.pages()
    assert restart.redone.pages() == fresh.redone.pages()


def redrivable(run_dir: RunDir) -> Any:
    """What a redrive reads of a journal: the records to send again, what is known, and the cost."""
    wanted = RedriveSearch(run_dir.path, statuses={"function_error", "rejected"}, before_generation=1)
    known, meter = search(run_dir, [wanted], accepts_lost_mark=True)
    again = [(record.seq, record.body, record.key) for record in wanted.found().records()]
    return again, known.counts, known.marks, known.finished.pages(), plain(meter)


def test_statistics_go_on_as_if_they_had_not_been_saved() -> None:
    """Everything that they know comes back, and what is added later counts alike."""
    pick = random.Random(7)
    outcomes = outcomes_of(pick, 3_000, sends_again=False, odd_key="odd")
    stats = stats_of_blocks([outcomes[:500], outcomes[500:2_000]], [], started_s=1_795_248_000.0)
    stats.note_throttle("ConcurrentInvocationLimitExceeded")
    data = msgspec.msgpack.encode(save_stats(stats))
    restored = restore_stats(msgspec.msgpack.decode(data, strict=False))
    for each in (stats, restored):
        each.add_many(outcomes[2_000:])
        each.sample(now_s=1_795_249_000.0, in_flight=3, limit=10.0, cause="fixed")
    one, other = plain(stats), plain(restored)
    for each in (one, other):
        each.pop("_pace")
        each["_clusters"].pop("_frames")
    assert one == other


def test_a_large_run_leaves_a_checkpoint_that_a_resume_goes_on_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Written while it goes on and when it stops, for its owner alone; the report is as without it."""
    monkeypatch.setattr(checkpointer, "EVERY_OUTCOMES", 400)
    monkeypatch.setattr(checkpointer, "LEAST_OUTCOMES", 400)
    out, count = tmp_path / "run", 1_500
    payloads = [b'{"order":%d}' % number for number in range(count)]
    fanout.run("f", payloads[:1_000], out=out, transport=NullTransport(), concurrency=8, report=False)
    state = json.loads((out / "run.json").read_text())
    state |= {"state": "running", "finished_at": None, "counts": {}, "is_input_exhausted": False}
    (out / "run.json").write_text(json.dumps(state))
    found = read_checkpoint(out, state["id"])
    assert found is not None
    assert found.lines == 1_000
    assert stat.S_IMODE((out / "checkpoint").stat().st_mode) == 0o600
    reads: list[int] = []
    really = JournalBlocks.__init__

    def noting(self: Any, *given: Any, position: int = 0, **more: Any) -> None:
        reads.append(position)
        really(self, *given, position=position, **more)

    monkeypatch.setattr(JournalBlocks, "__init__", noting)
    transport = NullTransport()
    report = fanout.run("f", payloads, out=out, resume=True, transport=transport, concurrency=8, report=False)
    assert (transport.calls, report.counts["succeeded"], report.pending) == (500, count, 0)
    assert reads == [found.position]
    assert report.latency_ms["count"] == count
    last = restored_from(RunDir.open(out))
    assert last is not None
    assert last.checkpoint.position == (out / "outcomes.jsonl").stat().st_size
    whole = fanout.RunReport.from_run_dir(out)
    assert whole.cost is not None
    assert report.cost is not None
    assert whole.counts == report.counts
    assert whole.cost.usd == pytest.approx(report.cost.usd)


def test_no_checkpoint_where_a_record_was_sent_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a redrive only the latest outcomes count: a resume leaves no checkpoint over them."""
    monkeypatch.setattr(checkpointer, "LEAST_OUTCOMES", 1)
    out, payloads = tmp_path / "run", [b"{}"] * 20
    fanout.run("f", payloads[:10], out=out, transport=NullTransport(), concurrency=2, report=False)
    (out / "checkpoint").unlink()
    again = succeeded(3, generation=1)
    with (out / "outcomes.jsonl").open("ab") as file:
        file.write(msgspec.json.encode(again) + b"\n")
    state = json.loads((out / "run.json").read_text())
    state |= {"state": "interrupted", "generation": 1, "is_input_exhausted": False}
    (out / "run.json").write_text(json.dumps(state))
    report = fanout.run(
        "f", payloads, out=out, resume=True, transport=NullTransport(), concurrency=2, report=False
    )
    assert report.counts["succeeded"] == 20
    assert not (out / "checkpoint").exists()
    assert sum(replay(out).counts.values()) == 20


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 1 << 32))
def test_blocks_are_the_lines_one_by_one(tmp_path: Path, seed: int) -> None:
    """Read in blocks of any size, from any line on, a journal says what its lines say."""
    pick = random.Random(seed)
    shutil.rmtree(tmp_path / "run", ignore_errors=True)
    outcomes = outcomes_of(pick, pick.randrange(1, 40), sends_again=True)
    run_dir = new_run(tmp_path / "run", outcomes)
    path = run_dir.path / "outcomes.jsonl"
    content = path.read_bytes()
    path.write_bytes(content[: pick.randrange(len(content) + 1)])
    lines = [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    skipped = pick.randrange(len(lines) + 1)
    position = len(b"".join(lines[:skipped]))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fanout.journal.line_blocks.BLOCK_BYTES", pick.choice((64, 700, 4096)))
        journal = JournalBlocks(run_dir.path, Figures, position=position, lines_before=skipped)
        blocks = list(journal.read())
        wanted = RedriveSearch(run_dir.path, statuses={"function_error", "unknown"}, before_generation=2)
        search(run_dir, [wanted], accepts_lost_mark=True)
        redrive = wanted.found()
    decoder = msgspec.json.Decoder(StoredOutcome)
    read = [outcome for block in blocks for outcome in block.outcomes]
    assert [line + b"\n" for block in blocks for line in block.split()] == lines[skipped:]
    assert (journal.position, journal.lines_read) == (len(b"".join(lines)), len(lines))
    names = Figures.__struct_fields__
    whole = [decode_line(line, decoder) for line in lines]
    for one, other in zip(read, whole[skipped:], strict=True):
        assert [getattr(one, name) for name in names] == [getattr(other, name) for name in names]
    latest = {outcome.seq: outcome for outcome in whole}
    assert list(redrive.seqs) == sorted(
        seq
        for seq, outcome in latest.items()
        if outcome.generation < 2 and outcome.status in ("function_error", "unknown")
    )
    assert [record.seq for record in redrive.records()] == list(redrive.seqs)


@pytest.mark.parametrize(("before_generation", "expected"), [(2, [1, 2]), (1, [2])])
def test_the_latest_outcome_says_whether_a_record_is_sent_again(
    tmp_path: Path, before_generation: int, expected: list[int]
) -> None:
    """Also where an earlier one was of a wanted status, in one pass over the journal."""
    rows: list[tuple[int, Any, int]] = [
        (0, "function_error", 0),
        (1, "function_error", 0),
        (0, "succeeded", 1),
        (2, "function_error", 0),
        (1, "function_error", 1),
    ]
    outcomes = [
        Outcome(seq=seq, status=status, attempts=1, throttles=0, generation=generation)
        for seq, status, generation in rows
    ]
    wanted = RedriveSearch(tmp_path / "run", statuses={"function_error"}, before_generation=before_generation)
    search(new_run(tmp_path / "run", outcomes), [wanted], accepts_lost_mark=True)
    assert list(wanted.found().seqs) == expected


def test_records_to_send_again_are_found_however_their_lines_begin(tmp_path: Path) -> None:
    """As fanout writes them, or another program did; what stands inside a line is no beginning."""
    failed = '"status":"function_error","attempts":1,"throttles":0,"input":'
    own = [
        f'{{"seq":{seq + 10},{failed}{{"seq":{seq},"n":-1}}}}\n'.replace("function_error", "undelivered")
        + f'{{"seq":{seq},{failed}{{"n":{seq}}}}}'
        for seq in range(4)
    ]
    others = [
        f'{{ "seq": 4, {failed}{{"n":4}}}}',
        f'{{{failed}{{"n":5}},"seq":5}}',
        f'{{"seq":9,"seq":6,{failed}{{"n":6}}}}',
    ]
    for lines in (own, own[::-1], [*own, *others], [*others, *own]):
        run_dir = new_run(tmp_path / f"run-{len(list(tmp_path.iterdir()))}", [])
        (run_dir.path / "outcomes.jsonl").write_text("".join(line + "\n" for line in lines))
        wanted = RedriveSearch(run_dir.path, statuses={"function_error"}, before_generation=1)
        search(run_dir, [wanted], accepts_lost_mark=True)
        sent = [(record.seq, json.loads(record.body)["n"]) for record in wanted.found().records()]
        assert sent == [(seq, seq) for seq in range(len(lines))]
