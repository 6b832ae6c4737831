"""``fanout run --dry-run``: everything is read, checked and counted, and nothing is sent or left behind."""

from __future__ import annotations

import json
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.commands.key_hashes import KeyHashes
from tests.cli.inside import Inside
from tests.inputs.object_server import ObjectServer
from tests.scripted import Scripted


@pytest.fixture
def offline(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Inside:
    """The command with nothing to call: a connection to anywhere would fail."""
    directory = tmp_path / "here"
    directory.mkdir()

    def refuse(*_: object) -> None:
        raise AssertionError("a connection was made")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    return Inside(directory, None, monkeypatch, capfd)


def counted(inside: Inside, *words: str | Path, code: int = 0, stdin: bytes = b"") -> dict[str, Any]:
    before = sorted(inside.directory.iterdir())
    ended = inside.run("run", "f", *words, "--dry-run", "--json", stdin=stdin)
    assert ended.code == code, ended
    assert "nothing was sent" in ended.err
    assert sorted(inside.directory.iterdir()) == before
    found: dict[str, Any] = json.loads(ended.out)
    assert found["exit_code"] == code
    return found


def test_records_faults_keys_sizes_and_time(offline: Inside) -> None:
    """Every kind of fault by its name, with its place; keys; what -j, --rate and --timeout make of it."""
    (offline.directory / "a.jsonl").write_text(
        '{"id":1}\n{"id":1}\nbad\n{"n":1}\n{"id":3,"n":"' + "x" * 7_000_000 + '"}\n'
    )
    found = counted(
        offline,
        *("a.jsonl", "--key", "id", "--out", "r", "-j", "2", "--rate", "10", "--timeout", "5"),
        code=1,
    )
    assert (found["records"], found["faults"]) == (5, 2)
    assert found["faults_by_kind"] == {"InvalidJson": 1, "PayloadTooLarge": 1}
    assert [(fault["seq"], fault["line"]) for fault in found["first_faults"]] == [(2, 3), (4, 5)]
    assert (found["keys_missing"], found["keys_duplicated"]) == (1, 1)
    assert (found["calls"], found["bytes"], found["largest_bytes"]) == (3, 23, 8)
    assert found["sizes"] == [{"up_to_bytes": 8, "records": 3}]
    assert found["projected"] == {"least_s": 0.3, "per_function_s": 1.5, "most_s": 10.0}


def test_lambda_is_asked_nothing(inside: Inside) -> None:
    """Not even for its limits."""
    assert inside.emulator is not None
    inside.emulator.reset()
    inside.write("a.jsonl", 20)
    assert counted(inside, "a.jsonl")["calls"] == 20
    assert inside.emulator.stats()["requests"] == 0


def test_the_bound_of_the_invocation_type(offline: Inside) -> None:
    """What a call takes and an Event does not."""
    (offline.directory / "a.jsonl").write_text('"' + "x" * 2_000_000 + '"\n')
    assert counted(offline, "a.jsonl")["faults"] == 0
    found = counted(offline, "a.jsonl", "--invocation-type", "Event", code=1)
    assert found["faults_by_kind"] == {"PayloadTooLarge": 1}


def test_the_selection_is_what_is_checked_and_counted(offline: Inside) -> None:
    """The payload after --select; a selection that finds nothing is a fault."""
    (offline.directory / "a.jsonl").write_text('{"a":{"b":1},"c":"xxxx"}\n{"c":1}\n')
    found = counted(offline, "a.jsonl", "--select", "a", code=1)
    assert (found["faults_by_kind"], found["bytes"]) == ({"SelectionFailed": 1}, 7)


def test_the_line_of_a_fault_is_said_once(offline: Inside) -> None:
    """In the page for a person; in the JSON the message is the outcome's."""
    (offline.directory / "a.csv").write_text("a,b\n1,2\n3\n")
    ended = offline.run("run", "f", "a.csv", "--dry-run")
    assert "record 1, line 3: InvalidCsv: 1 fields, but the header has 2" in ended.err


def test_batches_make_fewer_calls(offline: Inside) -> None:
    """As the run would form them: by number and by bytes, faults left out."""
    (offline.directory / "a.jsonl").write_text("1\n" * 7 + "bad\n" + "1\n" * 3)
    found = counted(offline, "a.jsonl", "--batch", "4", "--batch-shape", "array", code=1)
    assert (found["calls"], found["bytes"], found["call_bytes"]) == (3, 10, 10 + 7 + 6)
    by_bytes = counted(
        offline, "a.jsonl", "--batch", "100", "--batch-shape", "array", "--batch-bytes", "5", code=1
    )
    assert by_bytes["calls"] == 5


@pytest.mark.parametrize(
    ("words", "stdin", "records"),
    [
        (("in/*.jsonl", "c.csv"), b"", 5),
        (("-",), b"1\n2\n3\n", 3),
        (("-", "--take", "2"), b"1\n2\n3\n", 2),
        (("--payload", '{"a":1}', "--repeat", "700"), b"", 700),
        (("--payload", '{"a":1}', "--repeat", "0"), b"", 0),
    ],
)
def test_every_way_in(offline: Inside, words: tuple[str, ...], stdin: bytes, records: int) -> None:
    """Patterns, several inputs, standard input and a repeated payload."""
    (offline.directory / "in").mkdir()
    (offline.directory / "in" / "a.jsonl").write_text("1\n2\n")
    (offline.directory / "in" / "b.jsonl").write_text("1\n2\n")
    (offline.directory / "c.csv").write_text("x\n9\n")
    found = counted(offline, *words, stdin=stdin)
    assert (found["records"], found["calls"], found["faults"]) == (records, records, 0)


def test_parquet(offline: Inside) -> None:
    """Rows, with the faults that only their values show."""
    arrow, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    parquet.write_table(arrow.table({"a": [1.5, float("nan")]}), offline.directory / "a.parquet")
    assert counted(offline, "a.parquet", code=1)["faults"] == 1


def test_an_object_in_s3(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read by one GET; what is not there is exit 2."""
    server = ObjectServer()
    server.objects["/lake/a.jsonl"] = b"1\n2\nbad\n"
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", server.url)
    found = counted(inside, "s3://lake/a.jsonl", code=1)
    assert (found["records"], found["faults"], server.requests) == (3, 1, [("/lake/a.jsonl", None)])
    inside.run("run", "f", "s3://lake/none.jsonl", "--dry-run").assert_one_line(2, "no such object")
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (("none.jsonl",), "none.jsonl: No such file"),
        (("sqs://queue",), "is a queue"),
        (("a.jsonl", "--preflight"), "preflight"),
        (("a.jsonl", "--resume", "--out", "r"), "--resume"),
        (("a.jsonl", "--dashboard", "0"), "--dashboard"),
        (("a.jsonl", "--key", "["), "JMESPath"),
        (("a.jsonl", "--bisect"), "bisect"),
        (("a.jsonl", "--follow"), "follow"),
        (("cut.jsonl.gz",), "cut.jsonl.gz"),
    ],
)
def test_what_a_run_would_refuse_is_refused(offline: Inside, words: tuple[str, ...], part: str) -> None:
    """One line, exit 2: an input that cannot be read, to its end too, and options that cannot hold."""
    import gzip

    (offline.directory / "a.jsonl").write_text("1\n")
    (offline.directory / "cut.jsonl.gz").write_bytes(gzip.compress(b"1\n" * 1000)[:-9])
    offline.run("run", "f", *words, "--dry-run").assert_one_line(2, part)


def test_the_library_counts_its_own_records() -> None:
    """Iterables, async ones, and their errors; nothing reaches the transport."""
    transport = Scripted(lambda call: pytest.fail(f"sent {call.body!r}"))
    records = [fanout.Record({"a": 1}, key="x"), fanout.Record(2, key="x"), {1, 2}, b"{"]
    report = fanout.dry_run("f", records, concurrency=10, transport=transport)
    assert (report.records, report.calls, report.keys_duplicated, report.exit_code) == (4, 2, 1, 1)
    assert report.faults_by_kind == {"InvalidPayload": 1, "InvalidJson": 1}

    async def produce() -> AsyncIterator[int]:
        for n in range(3000):
            yield n

    found = fanout.dry_run("f", produce(), batch=1000, concurrency=10, transport=transport)
    assert (found.records, found.calls, found.ok) == (3000, 3, True)

    def breaks() -> Any:
        yield 1
        raise LookupError("the database went away")

    with pytest.raises(LookupError, match="went away"):
        fanout.dry_run("f", breaks(), concurrency=10, transport=transport)
    with pytest.raises(fanout.ConfigError, match="must be a number"):
        fanout.dry_run("f", [1], transport=transport)
    with pytest.raises(fanout.ConfigError, match=r"fanout\.dry_run"):
        fanout.run("f", [1], dry_run=True, out="r")
    with pytest.raises(fanout.SourceError, match="No such file"):
        fanout.dry_run("f", "none.jsonl")


@pytest.mark.parametrize("count", [10, 20_000])
def test_duplicates_of_keys_in_memory_and_on_disk(count: int) -> None:
    """Every key but the first of its kind counts once."""
    keys = KeyHashes()
    for n in range(count):
        keys.add(f"k{n % (count // 2 + 1)}")
    assert keys.duplicates() == count - (count // 2 + 1)
    keys.close()


def test_a_key_that_is_missing_counts_where_the_selection_fails_too(offline: Inside) -> None:
    """As in the summary of a run: what has no key, whatever else becomes of it."""
    (offline.directory / "a.jsonl").write_text('{"v":1}\n{"id":2}\n{}\n')
    found = counted(offline, "a.jsonl", "--key", "id", "--select", "v", code=1)
    assert (found["keys_missing"], found["faults_by_kind"]) == (2, {"SelectionFailed": 2})
