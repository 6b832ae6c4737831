"""``--stream`` over a whole run: files, joined replies, errors in mid-stream, retries and redrives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

import fanout
from fanout.emulator import EmulatorProcess
from fanout.errors import JournalError
from fanout.model import Outcome
from fanout.runs import OutputFiles
from tests.cli.running import Shell

BOTH = pytest.mark.parametrize("transport", ["direct", "sdk"])


def by_seq(outcomes: list[dict[str, object]]) -> list[dict[str, object]]:
    """In the order of the input."""
    return sorted(outcomes, key=lambda outcome: (outcome["seq"], outcome.get("generation", 0)))


@BOTH
def test_replies_go_to_files_and_a_broken_one_can_be_redriven(user: Shell, transport: str) -> None:
    """An error in mid-stream is a function error; the redrive's reply takes the place of the part."""
    events = [
        {"do": "stream"},
        {"do": "stream", "breaks": f"redriven-{transport}"},
        {"do": "nothing"},
    ]
    (user.directory / "in.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))
    done = user.run("run", "app", "in.jsonl", "--stream", "--out", "run", "--transport", transport)
    assert done.code == 1
    whole, broken, empty = by_seq(user.outcomes())
    files = user.directory / "run" / "outputs"
    assert [whole["status"], broken["status"], empty["status"]] == [
        "succeeded",
        "function_error",
        "succeeded",
    ]
    assert broken["error"]["type"] == "ValueError"  # type: ignore[index]
    assert broken["error"]["message"] == "broke in the middle"  # type: ignore[index]
    assert [whole["output_file"], empty["output_file"]] == ["outputs/0", "outputs/2"]
    assert all("output" not in outcome for outcome in (whole, broken, empty))
    assert [(files / name).read_text() for name in "012"] == ["one,two", "one,part,", ""]
    done = user.run("redrive", "run", "--json")
    assert (done.code, json.loads(done.out)["counts"]["succeeded"]) == (0, 3)
    assert (files / "1").read_text() == "one,two"


@BOTH
def test_a_retry_begins_its_file_again(user: Shell, transport: str) -> None:
    """What the first attempt wrote is not part of the reply."""
    event = {"do": "stream", "breaks": f"retried-{transport}"}
    (user.directory / "in.jsonl").write_text(json.dumps(event) + "\n")
    words = ["--retry-function-errors", "1", "--out", "run", "--transport", transport]
    assert user.run("run", "app", "in.jsonl", "--stream", *words).code == 0
    assert (user.directory / "run/outputs/0").read_text() == "one,two"
    assert user.outcomes()[0]["attempts"] == 2


def test_without_a_directory_replies_are_joined(user: Shell) -> None:
    """With ``--out -`` each outcome has the whole reply."""
    (user.directory / "in.jsonl").write_text('{"do":"stream"}\n')
    done = user.run("run", "app", "in.jsonl", "--stream", "--out", "-")
    assert [(line["output"], line["output_encoding"]) for line in done.lines] == [("one,two", "text")]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@BOTH
def test_a_reply_of_200_mb_is_not_held_in_memory(user: Shell, transport: str) -> None:
    """It goes to its file chunk by chunk."""
    (user.directory / "in.jsonl").write_text('{"do":"stream","mb":200}\n')
    measured = (
        "import pathlib, sys; from fanout.cli import main\n"
        "try: main()\n"
        "finally: print(pathlib.Path('/proc/self/status').read_text(), file=sys.stderr)"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            measured,
            *["run", "app", "in.jsonl", "--stream", "--out", "run", "-q", "--transport"],
            transport,
        ],
        cwd=user.directory,
        env=user.environment,
        capture_output=True,
        timeout=60,
        check=True,
    )
    # Not ru_maxrss: that begins with what the parent had.
    (peak,) = [line for line in done.stderr.decode().splitlines() if line.startswith("VmHWM")]
    assert int(peak.split()[1]) < 160_000  # of KiB
    assert (user.directory / "run/outputs/0").stat().st_size == 200_000_007


async def test_a_file_of_an_earlier_attempt_is_no_reply(tmp_path: Path) -> None:
    """An attempt that wrote nothing, and a record rejected unsent, leave no file behind."""
    files = OutputFiles(tmp_path)
    await files.open(7)(b"part of the first")
    files.open(7)  # the second is refused before a byte comes
    refused = Outcome(seq=7, status="undelivered", attempts=2, throttles=0)
    files.close(refused)
    assert (refused.output_file, (tmp_path / "outputs/7").exists()) == (None, False)
    (tmp_path / "outputs/8").write_text("of an earlier generation")
    unsent = Outcome(seq=8, status="rejected", attempts=0, throttles=0)
    files.close(unsent)
    assert (unsent.output_file, (tmp_path / "outputs/8").exists()) == (None, False)


async def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    """A disk that is full or gone is the journal's kind of trouble, not a defect."""
    files = OutputFiles(tmp_path)
    assert not list(tmp_path.iterdir())  # a run that never begins leaves nothing that refuses the next
    (tmp_path / "outputs").write_text("in the way")
    with pytest.raises(JournalError, match=r"outputs/0 cannot be written: File exists"):
        await files.open(0)(b"x")


async def test_a_disk_that_is_full_is_found_with_the_chunk(tmp_path: Path) -> None:
    """Not when the file is closed, by when its record has succeeded; closing says the same once more."""
    files = OutputFiles(tmp_path)
    write = files.open(0)
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/0").symlink_to("/dev/full")
    with pytest.raises(JournalError, match=r"outputs/0 cannot be written: No space left on device"):
        await write(b"x")
    with pytest.raises(JournalError, match=r"outputs/0 cannot be written: No space left on device"):
        files.close(Outcome(seq=0, status="unknown", attempts=1, throttles=0))
    files.open(0)  # another attempt begins


def test_a_run_stops_resumable_when_a_file_cannot_be_written(
    at_emulator: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when the journal cannot be written: exit code 5, and the message names the file."""

    def fail(self: OutputFiles, seq: int, chunk: bytes) -> None:
        raise JournalError("outputs/0 cannot be written: No space left on device")

    monkeypatch.setattr(OutputFiles, "_write", fail)
    report = fanout.run("app", [{"do": "stream"}], stream=True, out=tmp_path / "run")
    assert (report.exit_code, report.halted_by, report.counts["unknown"]) == (5, "journal", 1)
    state = json.loads((tmp_path / "run/run.json").read_text())
    assert "No space left" in state["message"]


def test_the_fields_word_for_it_does_the_same(at_emulator: EmulatorProcess, tmp_path: Path) -> None:
    """``invocation="stream"`` is ``stream=True``: files in a directory, joined without one."""
    outcomes: list[fanout.Outcome] = []
    for out in (tmp_path / "run", None):
        fanout.run("app", [{"do": "stream"}], invocation="stream", out=out, on_outcome=outcomes.append)
    assert [outcome.output_file for outcome in outcomes] == ["outputs/0", None]
    assert [outcome.json() for outcome in outcomes] == [None, "one,two"]
    assert (tmp_path / "run/outputs/0").read_text() == "one,two"


async def test_a_stream_is_taken_slowly_left_early_or_fails(at_emulator: EmulatorProcess) -> None:
    """From a real endpoint: every chunk in order, a call left alone, an error in the outcome."""
    async with fanout.Dispatcher("app", concurrency=2) as dispatcher:
        whole = dispatcher.stream({"do": "stream", "mb": 3})
        got = b"".join([chunk async for chunk in whole])
        assert (len(got), got[-3:]) == (3_000_007, b"two")
        assert whole.outcome is not None
        assert whole.outcome.ok
        left = dispatcher.stream({"do": "stream", "mb": 3})
        async for _ in left:
            break
        await left.aclose()
        broken = dispatcher.stream({"do": "stream", "breaks": "streamed"})
        assert b"".join([chunk async for chunk in broken]) == b"one,part,"
        assert broken.outcome is not None
        assert (broken.outcome.status, broken.outcome.error.type) == ("function_error", "ValueError")  # type: ignore[union-attr]
        assert (await dispatcher.invoke({"n": 1})).json() == {"n": 1}
