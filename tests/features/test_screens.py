"""What a person sees, on terminals of 40 and 80 columns, in pipes, and on the page after several goes."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import termios
from pathlib import Path

import pytest

import fanout
from fanout.emulator import EmulatorProcess
from tests.cli.running import FANOUT, Shell
from tests.report.test_html import Page

_MOVES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_COLOURS = re.compile(r"\x1b\[(?:[0-9;]*;)?(?:3|4|9|10)[0-9][0-9;]*m")  # bold and dim are none


def on_terminal(user: Shell, columns: int, *words: str, **environment: str) -> tuple[int, str]:
    """Exit code and raw screen of a command on a terminal so wide; ``sys.stdin`` is none."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, columns, 0, 0))
    clean = {name: value for name, value in user.environment.items() if name not in ("NO_COLOR", "COLUMNS")}
    process = subprocess.Popen(
        [FANOUT, *words],
        cwd=user.directory,
        env={**clean, "TERM": "xterm-256color", **environment},
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    shown = b""
    with process:
        while select.select([ours], [], [], 30)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:  # how Linux tells that the other side is closed
                break
            if not data:
                break
            shown += data
        code = process.wait(100)
    os.close(ours)
    return code, shown.decode().replace("\r\n", "\n")


def lines_of(shown: str) -> list[str]:
    """Every line that was ever drawn, without what moves and colours."""
    return re.split(r"[\r\n]", _MOVES.sub("", shown))


@pytest.mark.parametrize("columns", [40, 80])
def test_a_run_fits_its_terminal(user: Shell, columns: int) -> None:
    """Progress while it goes and the summary at its end; only commands may be longer, to stay whole."""
    path = user.write("in.jsonl", 60)
    code, shown = on_terminal(user, columns, "run", "sim", str(path), "--rate", "100", "--out", "run")
    assert code == 0
    assert "60 of 60" in shown
    assert "in flight" in shown
    assert all(len(line) <= columns for line in lines_of(shown) if not line.startswith("  fanout "))


def test_no_color_and_hostile_text(user: Shell) -> None:
    """With NO_COLOR no colour is sent; what a function says never moves the cursor."""
    (user.directory / "in.jsonl").write_text('{"do":"fail"}\n{"do":"print"}\n')
    words = ["run", "app", "in.jsonl", "--log-type", "Tail", "--out", "run", "--no-report"]
    code, shown = on_terminal(user, 80, *words, NO_COLOR="1")
    assert code == 1
    assert re.search(r"ValueError: bad +record \(app.py:\d+ in handler\)", shown)
    assert not _COLOURS.search(shown)
    for verb in ("report", "export"):
        code, shown = on_terminal(user, 80, verb, "run")
        assert code == 0
        assert "\x1b[31mrecord" not in shown
        assert "\x07" not in shown
    assert "\x1b" not in user.run("report", "run").out


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["limits", "sim"], "calls in flight"),
        (["functions"], "sim"),
        (["invoke", "sim", '{"n":1}'], '"n": 1'),
        (["plan", "sim", "in.jsonl", "--yes", "--canary", "3"], "fanout run sim "),
    ],
)
def test_every_other_screen_fits_80_columns(user: Shell, words: list[str], said: str) -> None:
    """Tables and projections, on the usual terminal."""
    user.write("in.jsonl", 10)
    code, shown = on_terminal(user, 80, *words)
    assert code == 0
    assert said in shown
    assert all(len(line) <= 80 for line in lines_of(shown) if not line.startswith("  fanout "))


def test_the_page_is_right_after_a_redrive_and_after_a_resume(
    user: Shell, at_emulator: EmulatorProcess
) -> None:
    """Its figures are run.json's: a record that was sent again counts once."""

    def figures(run: str) -> dict[str, int]:
        page = Page((user.directory / run / "report.html").read_text(encoding="utf-8")).figures
        state = user.state(run)
        told = fanout.RunReport.from_run_dir(str(user.directory / run)).to_dict()
        assert page["records"] == state["records_read"] == told["records"]
        for status, count in state["counts"].items():
            assert page[f"count-{status}"] == count == told["counts"][status]
        return {status: int(count) for status, count in state["counts"].items()}

    events = [{"do": "flaky", "name": "page", "times": 1}, {"n": 1}, {"do": "fail"}]
    one, two = user.directory / "one", user.directory / "two"
    fanout.run("app", events, out=one)
    assert figures("one") == {"succeeded": 1, "function_error": 2}
    assert user.run("redrive", "one", "-q").code == 1
    assert figures("one") == {"succeeded": 2, "function_error": 1}
    assert fanout.run("sim", range(40), out=two, rate=50, deadline=0.4).exit_code == 5
    assert 0 < sum(figures("two").values()) < 40
    fanout.run("sim", range(40), out=two, resume=True, deadline=60)
    assert figures("two") == {"succeeded": 40}


def test_the_page_goes_wherever_a_program_says(at_emulator: EmulatorProcess, tmp_path: Path) -> None:
    """Paths may be text."""
    report = fanout.run("app", [1])
    report.write_html(f"{tmp_path}/page.html")
    assert "<html" in (tmp_path / "page.html").read_text()
