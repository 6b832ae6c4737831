"""``fanout export``: what failed becomes an input again, and outcomes become tables."""

from __future__ import annotations

import asyncio
import csv
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import fanout
from fanout.errors import ConfigError
from fanout.inputs import fingerprint, open_source
from fanout.journal import Journal, RunDir
from fanout.model import ErrorDetail, Outcome
from fanout.outputs.tables import check_parquet
from fanout.payload import embed
from fanout.report.summary import RunReport
from tests.cli.forks import run_command
from tests.scripted import Scripted, ok

asyncio.set_event_loop(None)  # on Python 3.11 pytest-asyncio would leave one open

INPUTS = [b'{"id":%d,"name":"n%d","tags":["a",%d]}' % (i, i, i) for i in range(20)]


def export(*arguments: object, code: int = 0) -> tuple[bytes, str]:
    """Run the command; stdout and stderr."""
    done = run_command("export", *map(str, arguments))
    stderr = done.stderr.decode()
    assert done.returncode == code, stderr
    assert "Traceback" not in stderr
    return done.stdout, stderr


def failure(seq: int, status: Any, error_type: str, body: bytes, **members: Any) -> Outcome:
    raw, encoding = embed(body)
    return Outcome(
        seq=seq,
        status=status,
        attempts=1,
        throttles=0,
        error=ErrorDetail(error_type, "why"),
        input_raw=raw,
        input_encoding=encoding,
        **members,
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """20 records of a file: some failed, 3 first failed and then went well, one is no JSON."""
    folder = tmp_path_factory.mktemp("exported")
    source = folder / "input.jsonl.gz"
    source.write_bytes(gzip.compress(b"\n".join([*INPUTS[:9], b"not json", *INPUTS[10:]])))
    run_dir = RunDir.create(
        folder / "run",
        {
            "function": "f",
            "options": {},
            "input": {"location": str(source), "fingerprint": fingerprint(str(source))},
        },
    )

    async def write() -> None:
        journal = await Journal.open(run_dir.path)
        for seq, body in enumerate(INPUTS):
            journal.sample(seq, b"not json" if seq == 9 else body)
            if seq == 9:
                journal.write([failure(seq, "rejected", "InvalidJson", b"not json", line=10)])
            elif seq in (3, 4):
                journal.write([failure(seq, "function_error", "ValueError", body)])
            elif seq == 5:
                journal.write([failure(seq, "function_error", "Sandbox.Timedout", body)])
            elif seq == 6:
                journal.write([failure(seq, "unknown", "ReplyLost", body)])
            else:
                journal.write([succeeded(seq)])
        journal.write([succeeded(3, generation=1)])
        await journal.aclose()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(write())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    return run_dir.path


def succeeded(seq: int, generation: int = 0) -> Outcome:
    output = msgspec.Raw(b'{"doubled":%d,"note":"a, b"}' % (2 * seq))
    return Outcome(
        seq=seq, status="succeeded", attempts=1, throttles=0, output_raw=output, generation=generation
    )


def test_failed_inputs_are_input_again(run: Path) -> None:
    """By default what failed, by the latest outcome, byte for byte; what is no JSON is left out, and told."""
    stdout, stderr = export(run)
    assert stdout.splitlines() == [INPUTS[4], INPUTS[5]]
    assert stderr == "fanout: left out 1 inputs that are not JSON: --outcomes has them\n"


def test_a_dash_is_standard_output(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for ``run --out``: no file gets that name."""
    monkeypatch.chdir(tmp_path)
    assert export(run, "-o", "-") == export(run)
    assert not Path("-").exists()


@pytest.mark.parametrize("table", ["jsonl", "csv", "parquet"])
def test_half_of_a_character_in_a_key_is_exported(tmp_path: Path, table: str) -> None:
    """It is JSON, as a cut string leaves it: its record is no other than the rest."""
    source = [fanout.Record({"n": 1}, key="\ud83d"), fanout.Record({"n": 2}, key="k")]
    fanout.run(
        "f", source, out=tmp_path / "run", transport=Scripted(lambda _: ok(rb'"\ud83d"')), concurrency=1
    )
    written = tmp_path / "written"
    export(tmp_path / "run", "--outputs", "--format", table, "-o", written)
    if table == "jsonl":
        assert [json.loads(line) for line in written.read_bytes().splitlines()] == [
            {"seq": 0, "key": "\ud83d", "output": "\ud83d"},
            {"seq": 1, "key": "k", "output": "\ud83d"},
        ]


def test_options_of_s3_are_refused_where_nothing_goes_there(run: Path) -> None:
    """They would have no effect."""
    for option in ("--profile", "--region"):
        stderr = export(run, option, "x", "-o", run / "out", code=2)[1]
        assert f"{option} is for writing to S3" in stderr
    assert not (run / "out").exists()


def test_records_are_chosen_by_status_and_error_type(run: Path) -> None:
    """Statuses add up, error types narrow."""
    assert export(run, "--status", "unknown")[0].splitlines() == [INPUTS[6]]
    assert export(run, "--error-type", "ValueError")[0].splitlines() == [INPUTS[4]]
    both = export(run, "--status", "failed", "--status", "unknown", "--error-type", "Sandbox.Timedout")[0]
    assert both.splitlines() == [INPUTS[5]]
    stdout, stderr = export(run, "--status", "undelivered")
    assert (stdout, stderr) == (b"", "fanout: wrote 0 inputs\n")


def test_inputs_of_succeeded_records_come_from_the_input(run: Path) -> None:
    """The journal does not have them; the original does, in its order."""
    stdout, _ = export(run, "--status", "succeeded", "--status", "function_error")
    assert stdout.splitlines() == [body for seq, body in enumerate(INPUTS) if seq not in (6, 9)]


async def test_what_is_exported_reads_as_input(run: Path, tmp_path: Path) -> None:
    """Both formats are inputs for `fanout run`."""
    for name, output_format in (("failed.jsonl", "jsonl"), ("failed.csv", "csv")):
        _, stderr = export(run, "--format", output_format, "-o", tmp_path / name)
        assert stderr.endswith(f"fanout: wrote 2 inputs to {tmp_path / name}\n")
        source = open_source(str(tmp_path / name))
        items = [item async for batch in source.batches() for item in batch]
        await source.aclose()
        assert [item.error for item in items] == [None, None]
        assert [json.loads(item.payload)["name"] for item in items] == ["n4", "n5"]


def test_outcomes_are_as_in_the_journal(run: Path) -> None:
    """Whole lines, the latest of each record, all statuses unless some are named."""
    lines = export(run, "--outcomes")[0].splitlines()
    assert len(lines) == 20
    assert set(lines) < set((run / "outcomes.jsonl").read_bytes().splitlines())
    [unknown] = export(run, "--outcomes", "--status", "unknown")[0].splitlines()
    assert json.loads(unknown)["input"] == json.loads(INPUTS[6])


def test_a_table_has_a_column_for_each_member(run: Path) -> None:
    """Any record's top-level members are columns; what is no string is its JSON; what is absent is empty."""
    rows = list(csv.DictReader(export(run, "--outcomes", "--format", "csv")[0].decode().splitlines()))
    assert len(rows) == 20
    by_seq = {row["seq"]: row for row in rows}
    assert by_seq["0"]["output"] == '{"doubled":0,"note":"a, b"}'
    assert by_seq["0"]["error"] == ""
    assert json.loads(by_seq["4"]["error"]) == {"type": "ValueError", "message": "why"}
    assert by_seq["3"]["generation"] == "1"
    assert by_seq["9"]["line"] == "10"


def test_what_cannot_be_exported_is_told_in_one_line(run: Path, tmp_path: Path) -> None:
    """No run, a place that cannot be written, an input that changed or is gone: exit 2 and why."""
    cases: list[tuple[list[object], str]] = [
        ([tmp_path], "is not a run directory: it has no run.json"),
        ([run, "-o", tmp_path], "cannot be written: Is a directory"),
        ([run, "--status", "done"], "'done' is not one of"),
    ]
    for arguments, words in cases:
        stdout, stderr = export(*arguments, code=2)
        assert stdout == b""
        assert words in stderr


def test_a_changed_input_is_refused(run: Path, tmp_path: Path) -> None:
    """Another file at the same place gives no inputs of succeeded records, and says what differs."""
    other = tmp_path / "input.jsonl"
    other.write_bytes(b"\n".join(INPUTS))
    kinds: list[tuple[Any, str]] = [
        (fingerprint(str(other)) | {"size_bytes": 7}, "its size was 7 bytes and is"),
        (fingerprint(str(other)), "record 0 is another"),
        ({"kind": "iterable"}, "came from a program"),
    ]
    for number, (kept, words) in enumerate(kinds):
        run_dir = RunDir.create(
            tmp_path / f"run{number}",
            {"function": "f", "options": {}, "input": {"location": str(other), "fingerprint": kept}},
        )
        (run_dir.path / "outcomes.jsonl").write_bytes((run / "outcomes.jsonl").read_bytes())
        other.write_bytes(b"\n".join(INPUTS))
        if "another" in words:
            samples = bytearray((run / "samples").read_bytes())
            samples[8] ^= 1
            (run_dir.path / "samples").write_bytes(samples)
        stdout, stderr = export(run_dir.path, "--status", "succeeded", code=2)
        assert stdout == b""
        assert words in stderr
        assert stderr.count("\n") == 1


def test_inputs_are_found_again_as_they_were_sent(tmp_path: Path) -> None:
    """After the selection, each on a line of its own; those that had no payload are left out, and counted."""
    path = tmp_path / "in.json"
    path.write_text('[{"a": {"n":\n1}}, {"b": 2}, {"a": 2}, {"a": [\n]}]')
    fanout.run("f", path, select="a", transport=Scripted(), concurrency=1, out=tmp_path / "run", report=False)
    statuses = ("--status", "succeeded", "--status", "rejected")
    stdout, stderr = export(tmp_path / "run", *statuses)
    assert list(map(json.loads, stdout.splitlines())) == [{"n": 1}, 2, []]
    assert stderr.startswith("fanout: left out 1 inputs")
    stdout, stderr = export(tmp_path / "run", *statuses, "--error-type", "NoSuchError")
    assert (stdout, stderr) == (b"", "fanout: wrote 0 inputs\n")


def test_a_reader_that_goes_away_ends_it_quietly(run: Path, tmp_path: Path) -> None:
    """`| head -1` gives one line and nothing on stderr."""
    run_dir = RunDir.create(tmp_path / "run", {})
    line = (run / "outcomes.jsonl").read_bytes().splitlines()[0]
    with (run_dir.path / "outcomes.jsonl").open("wb") as file:
        for seq in range(20_000):
            file.write(line.replace(b'"seq":0', b'"seq":%d' % seq) + b"\n")
    command = [sys.executable, "-m", "fanout", "export", str(run_dir.path), "--outcomes"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=100) in (0, 141)


def returning(seq: int, **members: Any) -> Outcome:
    return Outcome(seq=seq, status="succeeded", attempts=1, throttles=0, **members)


@pytest.fixture(scope="module")
def returned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run whose function returned objects with formulas in them, text, nothing, and a streamed reply."""
    run_dir = RunDir.create(tmp_path_factory.mktemp("returned") / "run", {"options": {}})
    outputs: list[Any] = [
        {"name": "=1+1", "sum": -5, "tags": ["=a"], "ratio": 0.5},
        {"name": "plain", "sum": 7, "tags": {"a": 1}, "ratio": 2, "+more": True},
        "@text",
        None,
    ]

    async def write() -> None:
        journal = await Journal.open(run_dir.path)
        for seq, output in enumerate(outputs):
            journal.write(
                [returning(seq, key=f"-k{seq}", output_raw=msgspec.Raw(msgspec.json.encode(output)))]
            )
        journal.write([returning(4, output_file="outputs/4")])
        journal.write([returning(5)])
        journal.write([failure(6, "function_error", "ValueError", b"1")])
        await journal.aclose()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(write())
    loop.close()
    return run_dir.path


def test_outputs_are_what_the_functions_returned(returned: Path) -> None:
    """With seq and key; a null is an output, and records without one are left out and counted."""
    stdout, stderr = export(returned, "--outputs")
    lines = [json.loads(line) for line in stdout.splitlines()]
    assert lines[0] == {
        "seq": 0,
        "key": "-k0",
        "output": {"name": "=1+1", "sum": -5, "tags": ["=a"], "ratio": 0.5},
    }
    assert lines[2:] == [
        {"seq": 2, "key": "-k2", "output": "@text"},
        {"seq": 3, "key": "-k3", "output": None},
        {"seq": 4, "output_file": "outputs/4"},
    ]
    assert "left out 1 records without an output" in stderr


def test_a_spreadsheet_runs_no_formula_of_an_output(returned: Path) -> None:
    """Text that begins like one has an apostrophe in front; numbers stay numbers."""
    text = export(returned, "--outputs", "--format", "csv")[0].decode()
    rows = list(csv.DictReader(text.splitlines()))
    assert rows[0]["key"] == "'-k0"
    assert (rows[0]["output.name"], rows[0]["output.sum"]) == ("'=1+1", "-5")
    assert (rows[0]["output.tags"], rows[1]["output.tags"]) == ('["=a"]', '{"a":1}')
    assert rows[1]["output.+more"] == "true"
    assert rows[2]["output"] == "'@text"
    whole = list(csv.reader(export(returned, "--outcomes", "--format", "csv")[0].decode().splitlines()))
    assert not [cell for row in whole for cell in row if cell.startswith(("=", "@", "+"))]


def test_outputs_as_parquet_have_types(returned: Path, tmp_path: Path) -> None:
    """A column of one kind has its type; a mixture is JSON text."""
    import pyarrow.parquet as pq

    export(returned, "--outputs", "--format", "parquet", "-o", tmp_path / "o.parquet")
    rows = pq.read_table(tmp_path / "o.parquet").to_pylist()
    assert [row["seq"] for row in rows] == [0, 1, 2, 3, 4]
    assert [row["output.sum"] for row in rows] == [-5, 7, None, None, None]
    assert [row["output.ratio"] for row in rows[:2]] == [0.5, 2.0]
    assert [row["output.tags"] for row in rows[:2]] == ['["=a"]', '{"a":1}']
    assert rows[0]["key"] == "-k0"


def test_an_arrow_table_has_a_row_for_each_record(returned: Path) -> None:
    """The same columns for every run."""
    table = RunReport.from_run_dir(returned).to_arrow()
    rows = table.to_pylist()
    assert [row["seq"] for row in rows] == list(range(7))
    assert json.loads(rows[0]["output"])["sum"] == -5
    assert (rows[6]["error_type"], rows[6]["input"], rows[6]["status"]) == (
        "ValueError",
        "1",
        "function_error",
    )
    assert rows[3]["output"] == "null"


def test_without_pyarrow_one_line_says_what_to_install(
    returned: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """For the table, and for the command, before anything is written."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(ConfigError, match=r"pip install 'lambda-fanout\[parquet\]'"):
        RunReport.from_run_dir(returned).to_arrow()
    with pytest.raises(ConfigError, match=r"pip install 'lambda-fanout\[parquet\]'"):
        check_parquet()
