"""Options from run.json, the environment and ``--config``: which of them wins, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess
from tests.cli.running import environment
from tests.cli.serving import Terminal
from tests.transports.wire import Wire


@pytest.fixture
def terminal(
    shared_emulator: EmulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
    capfdbinary: pytest.CaptureFixture[bytes],
    tmp_path: Path,
    endpoint: Wire,
) -> Terminal:
    """The command in this process, in a directory with six records."""
    monkeypatch.chdir(tmp_path)
    Path("in.jsonl").write_text("1\n2\n3\n4\n5\n6\n")
    for name, value in environment(AWS_ENDPOINT_URL_LAMBDA=shared_emulator.endpoint_url).items():
        monkeypatch.setenv(name, value)
    return Terminal(monkeypatch, capfdbinary, tmp_path, endpoint)


def outcomes(directory: str) -> int:
    return len((Path(directory) / "outcomes.jsonl").read_text().splitlines())


def test_the_command_line_beats_the_environment_which_beats_the_file(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are the long options; --config goes with every verb."""
    Path("c.toml").write_text('take = 1\nconcurrency = 3\nretry-on = ["A", "B"]\nquiet = true\n')
    assert terminal.fanout("run", "fast", "in.jsonl", "--config", "c.toml", "--out", "a").code == 0
    assert outcomes("a") == 1
    assert json.loads(Path("a/run.json").read_text())["options"]["retry_on"] == ["A", "B"]
    monkeypatch.setenv("FANOUT_RUN_TAKE", "2")
    assert terminal.fanout("run", "fast", "in.jsonl", "--config", "c.toml", "--out", "b").code == 0
    assert outcomes("b") == 2
    assert (
        terminal.fanout("run", "fast", "in.jsonl", "--config", "c.toml", "--take", "4", "--out", "c").code
        == 0
    )
    assert outcomes("c") == 4


def test_what_the_run_has_beats_the_environment(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """A resume in a shell with other settings sends what the run would have sent."""
    assert terminal.fanout("run", "fast", "in.jsonl", "--take", "2", "-j", "2", "--out", "a").code == 0
    monkeypatch.setenv("FANOUT_RESUME_CONCURRENCY", "1")
    monkeypatch.setenv("FANOUT_RESUME_SELECT", "nope")
    assert terminal.fanout("resume", "a", "--take", "6").code == 0
    assert outcomes("a") == 6
    assert json.loads(Path("a/run.json").read_text())["limits"]["concurrency"] == 2


def test_a_default_of_many_runs_may_mean_nothing_in_one(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delimiter of CSV beside JSON Lines is refused on the command line alone."""
    Path("c.toml").write_text("csv-delimiter = ';'\nlocal-timeout = 3\nbatch-wait = '2s'\n")
    monkeypatch.setenv("FANOUT_RUN_NAN", "null")
    monkeypatch.setenv("FANOUT_RUN_REQUEST_PAYER", "1")
    words = ("run", "fast", "in.jsonl", "--config", "c.toml", "--no-report", "--out")
    assert terminal.fanout(*words, "a").code == 0
    assert outcomes("a") == 6
    assert terminal.fanout(*words, "b", "--nan", "null").code == 2
    assert not Path("b").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("concurency = 3\n", "has no option --concurency"),
        ("take = [\n", "is not valid TOML"),
        ("[take]\na = 1\n", "is a table"),
    ],
)
def test_a_file_that_is_wrong_is_one_line(terminal: Terminal, text: str, words: str) -> None:
    """It names the file and the key; exit 2."""
    Path("c.toml").write_text(text)
    done = terminal.fanout("run", "fast", "in.jsonl", "--config", "c.toml")
    assert done.code == 2
    assert words in done.err
    assert len(done.err.splitlines()) == 1
    assert terminal.fanout("run", "fast", "in.jsonl", "--config", "none.toml").code == 2


def test_run_dir_may_be_left_out(terminal: Terminal) -> None:
    """The latest run is taken, and said; a verb that sends refuses without a terminal."""
    assert terminal.fanout("report").code == 2
    assert terminal.fanout("run", "fast", "in.jsonl", "--take", "2").code == 0
    reported = terminal.fanout("report", "--json")
    assert reported.code == 0
    assert "RUN_DIR is the latest run, runs/fast-" in reported.err
    for verb in ("resume", "redrive"):
        refused = terminal.fanout(verb)
        assert refused.code == 2
        assert "RUN_DIR is missing" in refused.err


def test_on_finish_gets_the_summary(terminal: Terminal) -> None:
    """As JSON on stdin; a command that fails is said, and changes no exit code."""
    done = terminal.fanout("run", "fast", "in.jsonl", "--out", "a", "--on-finish", "cat > done.json; exit 3")
    assert done.code == 0
    assert "--on-finish ended with exit code 3" in done.err
    assert json.loads(Path("done.json").read_text())["counts"]["succeeded"] == 6
