"""Progress: what is drawn at every width, what is printed without a terminal, and that text is inert."""

from __future__ import annotations

import io
import re
import sys
import time
from types import FrameType, ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fanout.progress import Closing, NotebookLine, Progress, plain_line, progress_display, render
from fanout.stats import Snapshot, WorkerPace


def snapshot(**members: object) -> Snapshot:
    """A run a third through, throttled."""
    given_: dict[str, object] = {
        "elapsed_s": 12.0,
        "done": 33_000,
        "total": 100_000,
        "fraction": 0.33,
        "counts": {"succeeded": 32_900, "function_error": 98, "unknown": 2},
        "in_flight": 823,
        "limit": 1000.0,
        "cause": "reserved",
        "rate_now_per_s": 9321.4,
        "rate_mean_per_s": 9000.0,
        "eta_s": 75.0,
        "throttles": 412,
        "retries": 7,
        "p50_ms": 103.0,
        "p95_ms": 204.0,
        "p99_ms": 1031.0,
        "cost_usd": 0.0123,
    }
    return Snapshot(**(given_ | members))  # type: ignore[arg-type]


def drawn(width: int, *, is_unicode: bool = True, **members: object) -> list[str]:
    """The live lines as text."""
    from rich.console import Console

    out = io.StringIO()
    console = Console(file=out, width=width, force_terminal=False, color_system=None)
    console.print(render(snapshot(**members), width, is_unicode))
    return out.getvalue().splitlines()


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """It is one."""
        return True


def test_lost_calls_are_named_and_until_when() -> None:
    """Permits that a lost connection keeps are shown, with the time of day when the last comes back."""
    lost: dict[str, Any] = {"in_flight": 0, "lingering": 20, "linger_until": 1_795_248_903.0}
    until = time.strftime("%H:%M:%S", time.localtime(1_795_248_903.0))
    text = f"20 lost, may run until {until}: permits kept"
    assert any(text in line for line in drawn(120, **lost))
    assert text in plain_line(snapshot(**lost))
    assert "lost" not in plain_line(snapshot())


def test_a_program_without_a_terminal_gets_a_line_at_the_end() -> None:
    """What stands when it closes, once; before that a line every ten seconds, as the command does."""
    stream = io.StringIO()
    shown = Closing(stderr=stream, is_terminal=False)
    shown.update(snapshot(elapsed_s=1.0))
    shown.update(snapshot(elapsed_s=2.0, done=40_000))
    assert stream.getvalue() == ""
    shown.close()
    shown.close()
    assert stream.getvalue().startswith("2.0s: 40,000 of 100,000")
    assert stream.getvalue().count("\n") == 1


def test_a_notebook_has_one_line_that_is_renewed(monkeypatch: pytest.MonkeyPatch) -> None:
    """In a kernel the first snapshot makes an output, and the later ones take its place; text is plain."""
    told: list[tuple[str, str]] = []

    class Handle:
        def update(self, data: dict[str, str], *, raw: bool) -> None:
            assert raw
            told.append(("update", data["text/plain"]))

    def display(data: dict[str, str], *, raw: bool, display_id: bool) -> Handle:
        assert (raw, display_id) == (True, True)
        told.append(("display", data["text/plain"]))
        return Handle()

    kernel = type("ZMQInteractiveShell", (), {})()
    module, shown = ModuleType("IPython"), ModuleType("IPython.display")
    module.get_ipython = lambda: kernel  # type: ignore[attr-defined]
    shown.display = display  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", module)
    monkeypatch.setitem(sys.modules, "IPython.display", shown)
    line = progress_display()
    line.update(snapshot())
    line.update(snapshot(done=50_000))
    line.close()
    assert [kind for kind, _ in told] == ["display", "update"]
    assert "50,000 of 100,000" in told[1][1]


def test_a_pause_is_said() -> None:
    """A run that was paused from elsewhere says so, and names no limit."""
    assert "paused" in plain_line(snapshot(cause="paused"))
    assert "limit" not in plain_line(snapshot(cause="paused"))


def test_one_is_no_plural() -> None:
    """One function error, one throttle, one retry."""
    line = plain_line(snapshot(counts={"function_error": 1, "rejected": 1}, throttles=1, retries=1))
    assert line.endswith("1 function error, 1 rejected, 1 throttle, 1 retry, $0.0123")


def test_120_columns() -> None:
    """On a wide terminal three lines say all of it."""
    assert drawn(120) == [
        "━━━━━━━━━━━━━─────────────────────────── 33,000 of 100,000 33.0%  12s, ETA 1m15s",
        "9,321/s · 823 of 1,000 in flight · limit: reserved concurrency · p50 103ms p95 204ms p99 1,031ms",
        "98 function errors · 2 unknown · 412 throttles · 7 retries · $0.0123",
    ]


def test_80_columns() -> None:
    """At the usual width nothing is lost: the bar gives way first."""
    assert drawn(80) == [
        "━━━━━━━━━━━━─────────────────────────── 33,000 of 100,000 33.0%  12s, ETA 1m15s",
        "9,321/s · 823 of 1,000 in flight · limit: reserved concurrency",
        "p50 103ms p95 204ms p99 1,031ms",
        "98 function errors · 2 unknown · 412 throttles · 7 retries · $0.0123",
    ]


def test_40_columns() -> None:
    """A narrow terminal gets more lines, none of them too long, and no bar where there is no room for one."""
    lines = drawn(40)
    assert all(len(line) < 40 for line in lines)
    text = " ".join(lines)
    for part in (
        "33,000 of 100,000 33.0%",
        "9,321/s",
        "823 of 1,000",
        "98 function errors",
        "412 throttles",
        "$0.0123",
    ):
        assert part in text


@given(st.integers(1, 300), st.booleans())
def test_no_line_is_longer_than_the_terminal(width: int, is_unicode: bool) -> None:
    """Whatever the width, from 21 columns on, no line wraps."""
    assert all(len(line) < max(width, 21) for line in drawn(width, is_unicode=is_unicode))


def test_a_terminal_without_unicode_gets_ascii() -> None:
    """An old Windows console shows no boxes and no question marks."""
    assert "".join(drawn(100, is_unicode=False)).isascii()


def test_unknown_total() -> None:
    """From a pipe no share and no end are claimed."""
    lines = drawn(80, total=None, fraction=None, eta_s=None)
    assert lines[0] == "33,000 records  12s"


def test_draining_is_said() -> None:
    """After the first Ctrl-C the display says that no new calls are made, and no ETA and no limit."""
    lines = drawn(120, draining=True)
    assert "draining" in lines[0]
    assert "ETA" not in lines[0]
    assert "limit" not in lines[1]


def test_100_percent_is_said_only_when_it_is_so() -> None:
    """One record short of the end is 99.9 %, and no failure is said to be none."""
    assert "99.9%" in drawn(120, fraction=0.999999)[0]
    assert "100%" in drawn(120, fraction=1.0)[0]
    assert "no failures" in drawn(120, counts={"succeeded": 1})[-1]


@pytest.mark.parametrize(
    ("cause", "words"),
    [
        ("account", "account concurrency"),
        ("ramp", "Lambda's scaling rate"),
        ("source", "input"),
        ("throttles", "throttles"),
        ("new\x1b[2J word", "new word"),
    ],
)
def test_the_cause_is_in_words(cause: str, words: str) -> None:
    """What holds the calls back is said in words a person knows."""
    assert f"limit: {words}" in " ".join(drawn(200, cause=cause))


def test_plain_line_every_ten_seconds() -> None:
    """Without a terminal there is one line for each ten seconds of the run, ASCII, without colours."""
    out = io.StringIO()
    progress = Progress(stderr=out, is_terminal=False, quiet=False)
    for tenth in range(351):
        progress.update(snapshot(elapsed_s=tenth / 10))
    progress.close()
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == (
        "10s: 33,000 of 100,000, 9,321/s, ETA 1m15s, 823 of 1,000 in flight, limit: reserved concurrency, "
        "p50 103ms p95 204ms p99 1,031ms, 98 function errors, 2 unknown, 412 throttles, 7 retries, $0.0123"
    )
    assert out.getvalue().isascii()
    assert "\x1b" not in out.getvalue()


def test_quiet_says_nothing_but_messages() -> None:
    """With quiet there is no bar and no line; messages still come."""
    out = Terminal()
    progress = Progress(stderr=out, is_terminal=True, quiet=True)
    progress.update(snapshot(elapsed_s=100))
    progress.message("draining: no new calls")
    progress.close()
    assert out.getvalue() == "draining: no new calls\n"


def live(monkeypatch: pytest.MonkeyPatch, **environment: str) -> str:
    """What a terminal receives."""
    for name in ("NO_COLOR", "TERM", "FORCE_COLOR", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in ({"TERM": "xterm-256color", "COLUMNS": "80"} | environment).items():
        monkeypatch.setenv(name, value)
    out = Terminal()
    progress = Progress(stderr=out, is_terminal=True, quiet=False)
    progress.update(snapshot())
    progress.message("evil \x1b]0;title\x07\x1b[2J[bold]text\u202e")
    progress.update(snapshot(done=34_000))
    progress.close()
    progress.close()
    return out.getvalue()


def test_live_draws_in_colour_and_cleans_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a terminal the lines are coloured and redrawn; the cursor is back at the end."""
    text = live(monkeypatch)
    assert "\x1b[1;" in text or "\x1b[36m" in text
    assert "34,000 of 100,000" in text
    assert text.rstrip("\n").endswith("\x1b[?25h")


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    """With NO_COLOR no colour is sent: the cursor is all that moves."""
    text = live(monkeypatch, NO_COLOR="1")
    assert "34,000 of 100,000" in text
    assert not any(f"\x1b[{code}m" in text for code in (31, 32, 33, 36))


def test_dumb_terminal_gets_plain_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be redrawn, nothing is."""
    text = live(monkeypatch, TERM="dumb")
    assert "\x1b" not in text
    assert "12s: 33,000 of 100,000" in text


def test_messages_are_inert(monkeypatch: pytest.MonkeyPatch) -> None:
    """Text of functions can neither move the cursor nor name the window, and its brackets are no markup."""
    text = live(monkeypatch)
    assert "evil [bold]text" in text
    assert "\x1b]0;" not in text
    assert "\u202e" not in text


def test_interval() -> None:
    """A terminal is worth five looks a second; a log is not."""
    out = io.StringIO()
    assert Progress(stderr=out, is_terminal=True, quiet=False).interval_s == pytest.approx(0.2)
    assert Progress(stderr=out, is_terminal=False, quiet=False).interval_s >= 1


def test_a_log_that_is_not_utf8_gets_no_error() -> None:
    """A message with characters that the stream cannot show is shown as far as it can be."""
    raw = io.BytesIO()
    out = io.TextIOWrapper(raw, encoding="ascii")
    progress = Progress(stderr=out, is_terminal=False, quiet=False)
    progress.message("naïve")
    assert raw.getvalue() == b"na?ve\n"


@pytest.mark.timed
def test_drawing_costs_less_than_one_percent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Five a second take 1.4 ms, of 11,000 calls of functions; time would depend on the machine."""
    monkeypatch.setenv("TERM", "xterm-256color")
    progress = Progress(stderr=Terminal(), is_terminal=True, quiet=False)
    progress.update(snapshot())
    called = 0

    def note(frame: FrameType, event: str, function: Any) -> None:
        nonlocal called
        called += event in ("call", "c_call")

    sys.setprofile(note)
    try:
        for done in range(100):
            progress.update(snapshot(done=done))
    finally:
        sys.setprofile(None)
    assert called / 100 < 5_000
    progress.close()


def test_plain_line_without_a_limit() -> None:
    """Where no limit is known none is claimed."""
    assert "823 in flight" in plain_line(snapshot(limit=None))


class _GoneTerminal(io.StringIO):
    def write(self, _: str) -> int:
        raise OSError(5, "Input/output error")


@pytest.mark.parametrize("is_terminal", [True, False])
def test_a_terminal_that_went_away_ends_nothing(is_terminal: bool) -> None:
    """A closed ssh session must not end the run with an error of its display."""
    progress = Progress(stderr=_GoneTerminal(), is_terminal=is_terminal, quiet=False)
    for elapsed_s in (0.0, 11.0, 22.0):
        progress.update(snapshot(elapsed_s=elapsed_s))
        progress.message("still here")
    progress.close()


def test_many_workers_are_counted_and_a_notebook_without_a_run_is_left(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The first ones have a line each."""
    workers = [WorkerPace(f"w{number}", 1, 2.0, 3) for number in range(40)]
    assert re.search(r"w0: 1 in flight.* \d\d more workers", plain_line(snapshot(workers=workers)))
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", ModuleType("IPython.display"))
    sys.modules["IPython.display"].display = None  # type: ignore[attr-defined]
    line = NotebookLine()
    line.message("dashboard: \x1b[2Jhere")
    line.close()
    assert capsys.readouterr().out == "dashboard: here\n"
