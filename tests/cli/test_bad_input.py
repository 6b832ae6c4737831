"""What a person gets wrong: one line that names the thing, what is wrong and what to do; nothing else."""

from __future__ import annotations

import asyncio
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

import click
import pytest

from fanout.cli import main
from fanout.journal import RunDir
from tests.cli.inside import Inside, leave_garbage_alone
from tests.cli.running import HANDLER, Ended, Shell

# On Python 3.11 pytest-asyncio's first question makes a loop, which asyncio.run would leave unclosed.
asyncio.set_event_loop(None)


class _Nothing(io.TextIOWrapper):
    """Standard input at its end."""


class Here:
    """Runs the command in this process, which is quicker than to start one for each mistake."""

    def __init__(
        self, directory: Path, patch: pytest.MonkeyPatch, capture: pytest.CaptureFixture[str]
    ) -> None:
        self.directory, self._patch, self._capture = directory, patch, capture
        patch.chdir(directory)
        for name, value in (
            ("AWS_ACCESS_KEY_ID", "test"),
            ("AWS_SECRET_ACCESS_KEY", "test"),
            ("AWS_REGION", "us-east-1"),
        ):
            patch.setenv(name, value)
        leave_garbage_alone(patch)
        (directory / "in.jsonl").write_text('{"n": 1}\n')
        (directory / "app.py").write_text(HANDLER)

    def run(self, *words: str) -> Ended:
        """Exit code and output."""
        self._patch.setattr(sys, "argv", ["fanout", *words])
        self._capture.readouterr()
        with _Nothing(Path(os.devnull).open("rb")) as nothing:
            self._patch.setattr(sys, "stdin", nothing)
            with pytest.raises(SystemExit) as end:
                main()
        captured = self._capture.readouterr()
        code = end.value.code
        return Ended(code if isinstance(code, int) else 0, captured.out, captured.err)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Here:
    """A directory with an input and a handler."""
    return Here(tmp_path, monkeypatch, capsys)


MISTAKES: list[tuple[list[str], list[str]]] = [
    (["missing.jsonl"], ["missing.jsonl: No such file", "give a file"]),
    (["a\nb.jsonl"], ["a\\nb.jsonl: No such file"]),
    (["s3://lake/\udcff.jsonl"], ["'s3://lake/\\udcff.jsonl' is not UTF-8"]),
    (["."], [". is a directory", "give a file"]),
    (["app.py"], ["app.py: unknown format", "--format"]),
    (
        ["in.jsonl", "--items", "/a"],
        ["in.jsonl is no JSON document by its name (.jsonl)", "give format json"],
    ),
    (["--payload", "1", "--items", "/a"], ["items is for inputs that are read"]),
    (["in.jsonl", "--concurrency", "0"], ["concurrency is '0': give a whole number from 1"]),
    (["in.jsonl", "-j", "x"], ["concurrency is 'x': give a whole number from 1"]),
    (["in.jsonl", "-j", "200%"], ["concurrency is '200%'"]),
    (["in.jsonl", "-j", "@nowhere"], ["@nowhere", "write a whole number"]),
    (["in.jsonl", "--local", "none.py:handler"], ["none.py", "does not exist"]),
    (["in.jsonl", "--local", "app.py:nothing"], ["no function 'nothing'"]),
    (["in.jsonl", "--local", "app.py"], ["write FILE.py:HANDLER"]),
    (["in.jsonl", "--local", "app.py:handler", "--endpoint-url", "http://x"], ["choose one"]),
    (["in.jsonl", "--key", "[["], ["key is '[['", "JMESPath"]),
    (["in.jsonl", "--select", "a b"], ["select is 'a b'", "JMESPath"]),
    (["in.jsonl", "--durable-name", "{"], ["JMESPath"]),
    (["in.jsonl", "--deadline", "soon"], ["'soon' is not a duration", "90s"]),
    (["in.jsonl", "--timeout", "0"], ["timeout is 0.0: give more than 0 seconds"]),
    (["in.jsonl", "--rate", "0"], ["rate is 0.0: give more than 0 calls per second"]),
    (["in.jsonl", "--rate", "nan"], ["rate is nan"]),
    (["in.jsonl", "--max-cost", "-1"], ["max_cost is -1.0"]),
    (["in.jsonl", "--max-cost", "inf"], ["max_cost is inf", "none for no cap"]),
    (["in.jsonl", "--prices", "none.toml"], ["none.toml: No such file"]),
    (["in.jsonl", "--client-context", "{"], ["client_context is '{': give a JSON object"]),
    (["in.jsonl", "--qualifier", "no good"], ["qualifier is 'no good'"]),
    (["in.jsonl", "--invocation-type", "Event", "--log-type", "Tail"], ["log_type"]),
    (["in.jsonl", "--endpoint-url", "nonsense"], ["endpoint_url is 'nonsense': give http://"]),
    (["in.jsonl", "--endpoint-url", "http://"], ["endpoint_url"]),
    (["in.jsonl", "--profile", "nobody"], ["profile (nobody) could not be found"]),
    (["in.jsonl", "--out", "in.jsonl"], ["in.jsonl is not a directory", "--out"]),
    (["in.jsonl", "--out", "/proc/none/run"], ["/proc/none/run cannot be written", "--out"]),
    (["in.jsonl", "--keep-order"], ["--keep-order goes with --out -"]),
    (["in.jsonl", "--json", "--out", "-"], ["choose one"]),
    (["in.jsonl", "--bogus"], ["No such option '--bogus'"]),
    (["in.jsonl", "--take", "-1"], ["--take"]),
    (["--payload", '"\udced\udca0"'], ["payload is not JSON: not UTF-8"]),
    (["in.jsonl", "--batch", "2", "--batch-input", '"\udced\udca0"'], ["--batch-input", "not valid JSON"]),
]


@pytest.mark.parametrize(("words", "parts"), MISTAKES, ids=lambda value: " ".join(value)[:40])
def test_a_mistake_is_told_in_one_line(here: Here, words: list[str], parts: list[str]) -> None:
    """Exit code 2, nothing on stdout, no traceback, no run directory."""
    here.run("run", "f", *words).assert_one_line(2, *parts)
    assert not (here.directory / "runs").exists()
    assert (here.directory / "in.jsonl").is_file()


def test_mistakes_in_other_places(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """The function's name, the Region and the credentials."""
    here.run("run", "no good!", "in.jsonl").assert_one_line(2, "function is 'no good!': give a name")
    here.run("run").assert_one_line(2, "Missing argument 'FUNCTION'")
    here.run("nothing").assert_one_line(2, "no command 'nothing'")
    monkeypatch.delenv("AWS_REGION")
    here.run("run", "f", "in.jsonl").assert_one_line(2, "no Region: give --region")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    here.run("run", "f", "in.jsonl").assert_one_line(4, "no AWS credentials found: give --profile")
    assert not (here.directory / "runs").exists()


OTHERS: list[tuple[list[str], list[str]]] = [
    (["plan", "f", "in.jsonl", "--out", "-"], ["--out is -", "kept in a directory: give one"]),
    (["plan", "f", "in.jsonl"], ["a plan sends up to 20 records for real", "give --yes"]),
    (["plan", "f", "in.jsonl", "--yes", "--what-if", "rate=fast"], ["--what-if is 'rate=fast': give"]),
    (["plan", "f", "in.jsonl", "--yes", "--what-if", "rate=0"], ["--what-if is 'rate=0': give"]),
    (["plan", "f", "sqs://jobs", "--yes"], ["sqs://jobs is a queue", "--take 10"]),
    (["plan", "f", "empty.jsonl", "--yes"], ["empty.jsonl has no records: nothing to plan"]),
    (["run", "f", "in.jsonl", "--may-have-run", "send"], ["--may-have-run goes with --resume"]),
    (["run", "f", "in.jsonl", "--resume"], ["--resume goes with --out DIR"]),
    (["run", "f", "in.jsonl", "--deadline", "1h30"], ["'1h30' is not a duration: a unit is missing"]),
    (["run", "f", "in.jsonl", "--collect", "--out", "new"], ["collect goes with invocation_type Event"]),
    (["run", "f", "-", "in.jsonl"], ["must be the only INPUT"]),
    (["run", "f", "sqs://jobs", "--no-spool", "--out", "new"], ["no_spool cannot be"]),
    (["run", "f", "sqs://jobs", "--nan", "null", "--out", "new"], ["nan is for Parquet"]),
    (["run", "f", "sqs://jobs", "--encoding", "latin-1", "--out", "new"], ["leave encoding out"]),
    (["run", "f", "sqs://jobs", "--invocation-type", "DryRun", "--out", "new"], ["a DryRun runs nothing"]),
    (["run", "f", "sqs://jobs", "--fsync", "never", "--out", "new"], ["--fsync never cannot be"]),
    (["resume", "old", "--all", "--enough", "3"], ["--all and --enough exclude each other"]),
    (["resume"], ["no run"]),
    (["export", "old", "--outcomes", "--outputs"], ["--outcomes and --outputs exclude each other"]),
    (["export", "old", "--results", "s3://bucket/p/", "--outputs"], ["leave the other options out"]),
    (["export", "old", "--results"], ["was run without --results: give --results s3://"]),
    (["collect", "old"], ["old made no Event calls: there is nothing to collect"]),
    (["collect", "old", "--from", "results"], ["--from is 'results': give sqs://NAME"]),
    (["collect", "old", "--wait", "soon"], ["'soon' is not a duration"]),
    (["tune", "old", "--rate", "5"], ["the run in old has ended: there is nothing to change"]),
    (["tune", "old", "--pause", "--continue"], ["--pause and --continue exclude each other"]),
    (["tune", "old"], ["give"]),
    (["watch", "nowhere"], ["nowhere"]),
    (["emulate", "app.py:handler", "--"], ["no command after --"]),
    (["emulate", "app.py:handler", "--", "no-such-command"], ["no such command"]),
    (["emulate", "app.py:handler", "--die-with-parent", "--", "true"], ["ends with the command"]),
    (["emulate", "app.py:handler", "--host", "0.0.0.0"], ["the emulator listens on loopback only"]),
]


@pytest.mark.parametrize(("words", "parts"), OTHERS, ids=lambda value: " ".join(value)[:40])
def test_a_mistake_of_any_verb_is_told_in_one_line(here: Here, words: list[str], parts: list[str]) -> None:
    """Nothing is begun, and the run that is there stays as it was."""
    old = RunDir.create(
        here.directory / "old",
        {
            "state": "finished",
            "function": "f",
            "options": {"function": "f"},
            "input": {"location": "in.jsonl"},
        },
    )
    (here.directory / "empty.jsonl").touch()
    before = (old.path / "run.json").read_bytes()
    here.run(*words).assert_one_line(2, *parts)
    assert (old.path / "run.json").read_bytes() == before
    assert not (here.directory / "new").exists()


@pytest.mark.parametrize("verb", ["plan", "resume", "redrive"])
def test_a_person_who_says_no_is_asked_no_further(
    here: Here, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """On a terminal, what sends asks first: the answer by default is no, and nothing is begun."""
    RunDir.create(here.directory / "runs" / "old", {"state": "finished", "function": "f"})
    words = ["plan", "f", "in.jsonl"] if verb == "plan" else [verb]
    asked: list[str] = []

    def confirm(text: str, **options: Any) -> bool:
        asked.append(text)
        assert options["abort"]
        raise click.Abort

    monkeypatch.setattr(click, "confirm", confirm)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setattr(_Nothing, "isatty", lambda _: True)
    done = here.run(*words)
    assert (done.code, done.out, len(asked)) == (130, "", 1)
    assert "interrupted" in done.err
    assert [each.name for each in (here.directory / "runs").iterdir()] == ["old"]


def test_a_directory_without_runs_and_a_shortage(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither is a traceback."""
    done = here.run("runs", ".")
    assert (done.code, done.out, done.err) == (0, "", "fanout: there is no run in .\n")

    def short(*_: Any, **__: Any) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("fanout.journal.listing.list_runs", short)
    here.run("runs", ".").assert_one_line(2, "not enough memory, or threads: give the process more")


def test_a_directory_that_was_there_is_left(here: Here) -> None:
    """A run that could not begin takes away only what it made itself."""
    results = here.directory / "results"
    results.mkdir()
    here.run("run", "f", "in.jsonl", "--profile", "nobody", "--out", "results/run").assert_one_line(2)
    assert results.is_dir()
    assert not (results / "run").exists()
    (results / "empty").mkdir()
    here.run("run", "f", "in.jsonl", "--profile", "nobody", "--out", "results/empty").assert_one_line(2)
    assert list((results / "empty").iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(here: Here) -> None:
    """Named, with the reason."""
    (here.directory / "secret.jsonl").touch(mode=0)
    here.run("run", "f", "secret.jsonl").assert_one_line(2, "secret.jsonl: Permission denied")


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--csv-delimiter", ";"], "csv_delimiter is for csv or tsv"),
        (["--csv-header", "a,b"], "csv_header is for csv or tsv"),
        (["--nan", "null"], "nan is for parquet"),
        (["--request-payer"], "request_payer goes with S3"),
        (["--batch-wait", "1s"], "batch_wait goes with batch"),
        (["--batch-input", "{}"], "batch_input goes with batch"),
    ],
)
def test_an_option_without_its_object_is_refused(inside: Inside, words: list[str], part: str) -> None:
    """It would be ignored. Where one of several inputs may be meant, it holds."""
    inside.write("in.jsonl", 1)
    inside.run("run", "f", "in.jsonl", "--out", "run", *words).assert_one_line(2, part)
    assert not (inside.directory / "run").exists()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--no-spool"], "no_spool"),
        (["--local-concurrency", "2"], "local_concurrency"),
        (["--local-timeout", "3"], "local_timeout"),
    ],
)
def test_an_option_that_the_first_version_took_goes_on(inside: Inside, words: list[str], name: str) -> None:
    """Without its object it has no effect, and that is said: scripts have it."""
    inside.write("in.jsonl", 1)
    done = inside.run("run", "fast", "in.jsonl", "--out", "run", *words)
    assert (done.code, done.err.count(f"{name} has no effect")) == (0, 1), done


def test_parquet_without_its_extra_is_refused(inside: Inside, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says what to install, from a file and in a rehearsal of reading; nothing is left."""
    (inside.directory / "in.parquet").write_bytes(b"PAR1")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    for words in (["--out", "run"], ["--dry-run"]):
        done = inside.run("run", "fast", "in.parquet", *words)
        done.assert_one_line(2, "pip install 'lambda-fanout[parquet]'")
    assert not (inside.directory / "run").exists()


def test_an_option_of_one_of_several_inputs_holds(inside: Inside) -> None:
    """A delimiter beside a CSV file, and where a name says nothing."""
    inside.write("in.jsonl", 1)
    (inside.directory / "b.csv").write_text("a;b\n1;2\n")
    assert inside.run("run", "f", "in.jsonl", "b.csv", "--csv-delimiter", ";", "--dry-run").code == 0
    assert inside.run("run", "f", "*.csv", "--csv-delimiter", ";", "--dry-run").code == 0


def test_an_unknown_function_stops_the_run(shell: Shell) -> None:
    """Exit code 4; it says which function, and that there is none; not once for each record."""
    shell.write("in.jsonl", 10_000)
    done = shell.run("run", "nosuch", "in.jsonl", "--out", "run", "-q")
    assert (done.code, done.out) == (4, "")
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 2
    assert "nosuch" in done.err
    assert "not found" in done.err.lower() or "no such function" in done.err
    again = shell.run("run", "nosuch", "in.jsonl", "--json", "-q")
    assert (again.code, json.loads(again.out)["exit_code"]) == (4, 4)


def test_a_function_switched_off_stops_the_run(shell: Shell) -> None:
    """Reserved concurrency 0 is told as such, before anything is sent."""
    shell.write("in.jsonl", 10)
    done = shell.run("run", "off", "in.jsonl")
    done.assert_one_line(4, "off: reserved concurrency is 0", "raise it or remove it")
    assert not (shell.directory / "runs").exists()


@pytest.mark.parametrize("transport", ["direct", "sdk"])
def test_an_endpoint_that_nobody_listens_at_stops_the_run(shell: Shell, transport: str) -> None:
    """Within seconds, whatever the length of the input, and in a line or two."""
    shell.write("in.jsonl", 20_000)
    url = "http://127.0.0.1:1"
    done = shell.run(
        *("run", "f", "in.jsonl", "--out", "run", "--endpoint-url", url, "--transport", transport, "-q"),
        timeout_s=25,
    )
    assert (done.code, done.out) == (4, "")
    assert "Traceback" not in done.err
    assert len(done.err.splitlines()) <= 2
    assert url in done.err
