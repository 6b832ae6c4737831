"""The display of a run: a few live lines on a terminal, else one plain line every ten seconds."""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, TextIO

from fanout.quantities import count_of, dollars, milliseconds, number, percent, seconds
from fanout.stats.causes import cause_words
from fanout.stats.snapshot import Snapshot
from fanout.stats.text import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.live import Live
    from rich.text import Text

PLAIN_INTERVAL_S = 10.0
LIVE_INTERVAL_S = 0.2
_NOTEBOOK_INTERVAL_S = 0.5
_BAR_CHARS = 40
_MOST_WORKERS = 8  # that are shown by name
_FAILED = ("function_error", "rejected", "undelivered", "unknown")
_WORDS = {"function_error": ("function error", "function errors")}


class Progress:
    """Draws snapshots on ``stderr``; with ``quiet`` nothing but messages.

    A terminal that has gone away is no reason to end a run: nothing more is drawn then.
    """

    def __init__(self, *, stderr: TextIO, is_terminal: bool, quiet: bool) -> None:
        self._stderr = stderr
        self._quiet = quiet
        self._is_live = is_terminal and not quiet and os.environ.get("TERM") != "dumb"
        self._console: Console | None = None
        self._live: Live | None = None
        self._told_at_s = 0.0
        self._is_gone = False

    @property
    def interval_s(self) -> float:
        """The seconds between two calls of ``update`` that are worth making."""
        return LIVE_INTERVAL_S if self._is_live else 1.0

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot. Where there is no terminal, only every ten seconds of the run."""
        if self._quiet or self._is_gone:
            return
        try:
            if self._is_live:
                self._draw(snapshot)
            elif snapshot.elapsed_s - self._told_at_s >= PLAIN_INTERVAL_S:
                self._told_at_s = snapshot.elapsed_s
                self._print(plain_line(snapshot))
        except OSError:
            self._is_gone = True

    def message(self, text: str) -> None:
        """Print one line above the bar. Control characters in it do nothing."""
        if self._is_gone:
            return
        line = printable(text, 2000)
        try:
            self._write_line(line)
        except OSError:
            self._is_gone = True

    def _write_line(self, line: str) -> None:
        if self._live is not None and self._console is not None:
            from rich.text import Text

            self._console.print(Text(line), soft_wrap=True)
        else:
            self._print(line)

    def close(self) -> None:
        """Leave the last state on the screen and give the terminal back. Closing twice does nothing."""
        live, self._live = self._live, None
        if live is not None:
            with suppress(OSError):
                live.stop()

    def _print(self, line: str) -> None:
        print(_encodable(line, self._stderr), file=self._stderr, flush=True)

    def _draw(self, snapshot: Snapshot) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            # The caller keeps the beat: a refresh thread of rich's own would draw the same twice.
            self._console = Console(file=self._stderr, force_terminal=True, highlight=False, emoji=False)
            self._live = Live(console=self._console, auto_refresh=False, redirect_stdout=False)
            self._live.start()
        assert self._console is not None
        self._live.update(render(snapshot, self._console.width, _is_unicode(self._stderr)), refresh=True)


class Closing(Progress):
    """A display that leaves its last line behind, also where there is no terminal: for programs."""

    def __init__(self, *, stderr: TextIO, is_terminal: bool) -> None:
        super().__init__(stderr=stderr, is_terminal=is_terminal, quiet=False)
        self._last: Snapshot | None = None

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot."""
        self._last = snapshot
        super().update(snapshot)

    def close(self) -> None:
        """Leave the last state behind."""
        last, self._last = self._last, None
        super().close()
        if last is not None and not self._is_live:
            self.message(plain_line(last))


class NotebookLine:
    """One line in a notebook's cell that is renewed in place. Text in it does nothing."""

    def __init__(self) -> None:
        self._handle: Any = None
        self._last: Snapshot | None = None
        self._shown_at_s = 0.0

    def update(self, snapshot: Snapshot) -> None:
        """Show a snapshot, twice a second at the most until the last."""
        self._last = snapshot
        now_s = time.monotonic()
        if now_s - self._shown_at_s >= _NOTEBOOK_INTERVAL_S:
            self._shown_at_s = now_s
            self._draw()

    def message(self, text: str) -> None:
        """Print one line under the cell."""
        print(printable(text, 2000))  # noqa: T201 - what a cell prints is its output

    def close(self) -> None:
        """Show the last state."""
        self._draw()

    def _draw(self) -> None:
        from IPython.display import display

        if self._last is None:
            return
        data = {"text/plain": plain_line(self._last)}
        if self._handle is None:
            self._handle = display(data, raw=True, display_id=True)
        else:
            self._handle.update(data, raw=True)


def progress_display() -> Closing | NotebookLine:
    """The display that suits where the program runs: a terminal, a notebook, or a log."""
    if _is_notebook():
        return NotebookLine()
    return Closing(stderr=sys.stderr, is_terminal=sys.stderr is not None and sys.stderr.isatty())


def _is_notebook() -> bool:
    # A kernel has imported IPython; a program that has not is in no notebook.
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return type(shell).__name__ == "ZMQInteractiveShell"


def render(snapshot: Snapshot, width: int, is_unicode: bool = True) -> RenderableType:
    """The live lines for a terminal of ``width`` columns; no line is longer."""
    from rich.text import Text

    room = max(width - 1, 20)  # a full last column wraps on some consoles
    lines = [_headline(snapshot, room, is_unicode)]
    separator = " · " if is_unicode else " | "
    for parts in (_flow(snapshot), _workers(snapshot), _troubles(snapshot)):
        lines += _packed(parts, room, separator)
    return Text("\n", no_wrap=True, overflow="crop").join(lines)


def plain_line(snapshot: Snapshot) -> str:
    """One line for a log, ASCII only: it says the same as the live lines."""
    if snapshot.state != "running":
        parts = [f"{snapshot.state} after {seconds(snapshot.elapsed_s)}: {_done(snapshot)}"]
        return ", ".join([*parts, *(text for text, _ in _troubles(snapshot))])
    parts = [f"{seconds(snapshot.elapsed_s)}: {_done(snapshot)}", f"{number(snapshot.rate_now_per_s)}/s"]
    if snapshot.eta_s is not None:
        parts.append(f"ETA {seconds(snapshot.eta_s)}")
    parts += [text for text, _ in _flow(snapshot)[1:]]
    parts += [text for text, _ in _workers(snapshot)]
    parts += [text for text, _ in _troubles(snapshot)]
    return ", ".join(parts)


def _workers(snapshot: Snapshot) -> list[tuple[str, str]]:
    """A line for each worker; of many for the first ones."""
    workers = [each for each in snapshot.workers if each.lost_records is None]
    shown = [
        (f"{printable(each.name, 60)}: {number(each.in_flight)} in flight, {number(each.per_s)}/s", "dim")
        for each in workers[:_MOST_WORKERS]
    ]
    more = len(workers) - len(shown) + snapshot.more_workers
    if more:
        shown.append((f"{more:,} more workers", "dim"))
    return shown


def _headline(snapshot: Snapshot, room: int, is_unicode: bool) -> Text:
    from rich.text import Text

    tail = Text(f" {_done(snapshot)}")
    if snapshot.fraction is not None:
        tail.append(f" {percent(snapshot.fraction)}", "bold")
    end = seconds(snapshot.elapsed_s)
    if snapshot.eta_s is not None and not snapshot.draining:
        end += f", ETA {seconds(snapshot.eta_s)}"
    if snapshot.draining:
        tail.append(" draining", "yellow bold")
    if room >= len(tail) + len(end) + 2:
        tail.append(f"  {end}", "dim")
    bar_chars = min(_BAR_CHARS, room - len(tail))
    if snapshot.fraction is None or bar_chars < 8:
        tail = tail[1:]
        tail.truncate(room)
        return tail
    full, empty = ("━", "─") if is_unicode else ("#", ".")
    filled = int(bar_chars * snapshot.fraction)
    bar = Text(full * filled, "green")
    bar.append(empty * (bar_chars - filled), "dim")
    return bar + tail


def _flow(snapshot: Snapshot) -> list[tuple[str, str]]:
    of = "" if snapshot.limit is None else f" of {number(snapshot.limit)}"
    parts = [
        (f"{number(snapshot.rate_now_per_s)}/s", "bold"),
        (f"{snapshot.in_flight:,}{of} in flight", "cyan"),
    ]
    if snapshot.cause and not snapshot.draining:
        cause = cause_words(snapshot.cause)
        text = cause if snapshot.cause == "paused" else f"limit: {cause}"
        parts.append((text, "yellow" if snapshot.cause in ("throttles", "paused") else ""))
    if snapshot.lingering and snapshot.linger_until is not None:
        until = time.strftime("%H:%M:%S", time.localtime(snapshot.linger_until))
        text = f"{snapshot.lingering:,} lost, may run until {until}: permits kept"
        parts.append((text, "magenta"))
    if snapshot.p50_ms:
        p50, p95, p99 = map(milliseconds, (snapshot.p50_ms, snapshot.p95_ms, snapshot.p99_ms))
        parts.append((f"p50 {p50} p95 {p95} p99 {p99}", ""))
    return parts


def _troubles(snapshot: Snapshot) -> list[tuple[str, str]]:
    parts = [
        (_counted(count, *_WORDS.get(status, (status, status))), "red")
        for status in _FAILED
        if (count := snapshot.counts.get(status))
    ]
    if not parts:
        parts.append(("no failures", "green"))
    if snapshot.throttles:
        parts.append((_counted(snapshot.throttles, "throttle", "throttles"), "yellow"))
    if snapshot.retries:
        parts.append((_counted(snapshot.retries, "retry", "retries"), ""))
    if snapshot.cost_usd is not None:
        parts.append((dollars(snapshot.cost_usd), ""))
    return parts


def _counted(count: int, one: str, many: str) -> str:
    return f"{count:,} {one if count == 1 else many}"


def _packed(parts: list[tuple[str, str]], room: int, separator: str) -> list[Text]:
    """The parts on as few lines as hold them; a part longer than a line is cut."""
    from rich.text import Text

    lines: list[Text] = []
    for text, style in parts:
        piece = Text(text, style)
        piece.truncate(room)
        if lines and len(lines[-1]) + len(separator) + len(piece) <= room:
            lines[-1].append(separator, "dim").append_text(piece)
        else:
            lines.append(Text().append_text(piece))
    return lines


def _done(snapshot: Snapshot) -> str:
    calls = f" in {count_of(snapshot.calls, 'call')}" if 0 < snapshot.calls < snapshot.done else ""
    if snapshot.total is None:
        return f"{count_of(snapshot.done, 'record')}{calls}"
    return f"{snapshot.done:,} of {snapshot.total:,}{calls}"


def _is_unicode(stream: TextIO) -> bool:
    return (getattr(stream, "encoding", None) or "ascii").lower().replace("-", "").startswith("utf")


def _encodable(line: str, stream: TextIO) -> str:
    encoding = getattr(stream, "encoding", None) or "utf-8"
    return line.encode(encoding, "replace").decode(encoding)
