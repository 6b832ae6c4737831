"""The recorded terminal session of README: real commands in a pseudo-terminal, drawn as one animated SVG.

    python docs/.site/terminal.py [FILE.svg]      # default: docs/images/terminal.svg

The commands run for real, against an emulator on this machine. Needs the dependency group `docs`. The
picture has no script: a strip of frames is moved by CSS keyframes, which plays inside an <img>, too.
"""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

COLUMNS, ROWS = 100, 22
CELL_W, CELL_H, MARGIN, BAR = 8.4, 18.0, 14.0, 30.0
FRAME_S = 0.12  # at most eight pictures a second
PAUSE_S, READ_S, END_S = 0.9, 2.6, 6.0  # the longest silence shown; after a command; at the end
KEY_S = 0.035

SIMULATE = "name=price-order,latency=lognormal(400ms,1500ms),concurrency=200,error_rate=1%"
RECORDS = 3_000


@dataclass(frozen=True, slots=True)
class Step:
    """A command to type, and after how many seconds Ctrl-C is pressed, if at all."""

    command: str
    interrupt_after_s: float | None = None


STEPS = (
    Step("fanout run price-order orders.jsonl --key id --out runs/orders", interrupt_after_s=3.5),
    Step("fanout resume runs/orders"),
    Step("fanout redrive runs/orders"),
)


@dataclass(frozen=True, slots=True)
class Write:
    """What reached the terminal, and when, in seconds from the start."""

    at_s: float
    text: str


def record(step: Step, folder: Path, environ: dict[str, str]) -> Iterator[Write]:
    """Run a command in a pseudo-terminal and yield what it writes; raises RuntimeError after two minutes."""
    pid, terminal = pty.fork()
    if pid == 0:  # the child
        os.chdir(folder)
        os.execve("/bin/sh", ["sh", "-c", f"exec {step.command}"], environ)
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
    decoder = codecs.getincrementaldecoder("utf-8")()
    began_s, interrupt_s = time.monotonic(), step.interrupt_after_s
    try:
        while True:
            elapsed_s = time.monotonic() - began_s
            if elapsed_s > 120:
                raise RuntimeError(f"{step.command}: did not end within two minutes")
            if interrupt_s is not None and elapsed_s >= interrupt_s:
                interrupt_s = None
                os.write(terminal, b"\x03")
            if select.select([terminal], [], [], 0.05)[0]:
                try:
                    data = os.read(terminal, 65_536)
                except OSError:  # Linux: the other end is closed
                    data = b""
                if not data:
                    return
                yield Write(time.monotonic() - began_s, decoder.decode(data))
    finally:
        os.close(terminal)
        os.waitpid(pid, 0)


def session(steps: tuple[Step, ...], folder: Path, environ: dict[str, str]) -> list[Write]:
    """Type and run each command; silences are shortened, pauses for the reader added."""
    writes: list[Write] = []
    now_s = 0.5
    for step in steps:
        writes.append(Write(now_s, "\x1b[1;32m$\x1b[0m "))
        for key in step.command:
            now_s += KEY_S
            writes.append(Write(now_s, key))
        now_s += 0.4
        writes.append(Write(now_s, "\r\n"))
        last_s = 0.0
        for write in record(step, folder, environ):
            now_s += min(write.at_s - last_s, PAUSE_S)
            last_s = write.at_s
            writes.append(Write(now_s, write.text))
        now_s += READ_S
    return writes


Row = tuple[tuple[str, str], ...]  # runs of text with their CSS classes


def frames(writes: list[Write]) -> list[tuple[float, tuple[Row, ...]]]:
    """The screens that differ, each with the time at which it appears."""
    import pyte

    screen = pyte.Screen(COLUMNS, ROWS)
    screen.set_mode(pyte.modes.LNM)
    stream = pyte.Stream(screen)
    found: list[tuple[float, tuple[Row, ...]]] = []
    for index, write in enumerate(writes):
        stream.feed(write.text)
        next_s = writes[index + 1].at_s if index + 1 < len(writes) else float("inf")
        if next_s - (found[-1][0] if found else -1.0) < FRAME_S:
            continue  # the next one comes before this could be seen
        rows = tuple(_row(screen, number) for number in range(ROWS))
        if not found or rows != found[-1][1]:
            found.append((write.at_s, rows))
    return found


def _row(screen: Any, number: int) -> Row:
    runs: list[tuple[str, str]] = []
    for column in range(COLUMNS):
        cell = screen.buffer[number][column]
        style = _style(cell)
        if runs and runs[-1][1] == style:
            runs[-1] = (runs[-1][0] + cell.data, style)
        else:
            runs.append((cell.data, style))
    while runs and not runs[-1][0].strip():
        runs.pop()
    return tuple(runs)


COLOURS = {
    "red": "#f7768e", "green": "#9ece6a", "brown": "#e0af68", "blue": "#7aa2f7",
    "magenta": "#bb9af7", "cyan": "#7dcfff", "white": "#c0caf5", "black": "#565f89",
    "brightblack": "#737aa2",
}  # fmt: skip


def _style(cell: Any) -> str:
    colour = COLOURS.get(cell.fg, f"#{cell.fg}" if len(cell.fg) == 6 and cell.fg.isalnum() else "")
    if cell.fg == "default":
        colour = ""
    return f"{'b' if cell.bold else ''} {colour}".strip()


def svg(shown: list[tuple[float, tuple[Row, ...]]], title: str, description: str) -> str:
    """Draw one animated picture, each different row stored once. Who wants no motion sees its end."""
    width, height = COLUMNS * CELL_W + 2 * MARGIN, ROWS * CELL_H + 2 * MARGIN + BAR
    length_s = shown[-1][0] + END_S
    kept: dict[Row, str] = {}
    strip = []
    for number, (_, rows) in enumerate(shown):
        uses = []
        for line, row in enumerate(rows):
            if row:
                name = kept.setdefault(row, f"r{len(kept)}")
                uses.append(f'<use href="#{name}" y="{line * CELL_H:g}"/>')
        strip.append(f'<g transform="translate({number * width:g})">{"".join(uses)}</g>')
    moves = "".join(
        f"{100 * at_s / length_s:.3f}%{{transform:translateX({-number * width:g}px)}}"
        for number, (at_s, _) in enumerate(shown)
    )
    last = -(len(shown) - 1) * width
    rows_drawn = "".join(f'<g id="{name}">{_text(row)}</g>' for row, name in kept.items())
    return f"""<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" width="{width:g}" \
height="{height:g}" role="img" aria-labelledby="t d">
<title id="t">{escape(title)}</title><desc id="d">{escape(description)}</desc>
<style>text{{font:14px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#c0caf5;\
white-space:pre}}.b{{font-weight:700}}
#s{{animation:s {length_s:.1f}s step-end infinite}}@keyframes s{{0%{{transform:translateX(0)}}{moves}\
100%{{transform:translateX({last:g}px)}}}}
@media(prefers-reduced-motion:reduce){{#s{{animation:none;transform:translateX({last:g}px)}}}}</style>
<defs>{rows_drawn}<clipPath id="c"><rect width="{width:g}" height="{height:g}"/></clipPath></defs>
<rect width="{width:g}" height="{height:g}" rx="8" fill="#1a1b26"/>
<g fill="#3b4261"><circle cx="20" cy="20" r="6"/><circle cx="40" cy="20" r="6"/>\
<circle cx="60" cy="20" r="6"/></g>
<g clip-path="url(#c)"><g transform="translate({MARGIN:g} {MARGIN + BAR:g})">\
<g id="s">{"".join(strip)}</g></g></g>
</svg>
"""


def _text(row: Row) -> str:
    drawn, column = [], 0
    for text, style in row:
        if text.strip():
            bold, _, colour = style.partition(" ") if style.startswith("b") else ("", "", style)
            marks = (' class="b"' if bold else "") + (f' style="fill:{colour}"' if colour else "")
            start = column + len(text) - len(text.lstrip())
            body = text.strip()
            # A fixed length keeps the columns where they are, whatever font is found.
            drawn.append(
                f'<text x="{start * CELL_W:.1f}" y="13" textLength="{len(body) * CELL_W:.1f}"{marks}>'
                f"{escape(body, quote=False)}</text>"
            )
        column += len(text)
    return "".join(drawn)


def main() -> None:
    root = Path(__file__).resolve().parents[2]
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else root / "docs" / "images" / "terminal.svg"
    commands = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        orders = "".join(f'{{"id":"order-{n + 10_001}","quantity":{n % 7}}}\n' for n in range(RECORDS))
        (folder / "orders.jsonl").write_text(orders, "utf-8")
        emulator = subprocess.Popen(
            [commands / "fanout", "emulate", "--simulate", SIMULATE, "--port", "0", "--ready-json", "--quiet",
             "--die-with-parent", "--seed", "7"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            import json

            assert emulator.stdout is not None
            address = json.loads(emulator.stdout.readline())["endpoint_url"]
            environ = {
                "PATH": f"{commands}:/usr/bin:/bin", "HOME": name, "TERM": "xterm-256color",
                "LANG": "C.UTF-8",
                "AWS_ENDPOINT_URL_LAMBDA": address, "AWS_REGION": "eu-west-1",
                "AWS_ACCESS_KEY_ID": "local", "AWS_SECRET_ACCESS_KEY": "local",
            }  # fmt: skip
            writes = session(STEPS, folder, environ)
        finally:
            emulator.send_signal(signal.SIGTERM)
            emulator.wait(20)
    shown = frames(writes)
    said = "; then ".join(step.command for step in STEPS)
    picture = svg(shown, "A run that is stopped, resumed and redriven", f"A terminal session: {said}.")
    target.write_text(picture, "utf-8")
    print(f"{target}: {len(shown)} frames, {shown[-1][0] + END_S:.0f} s, {len(picture) // 1000} kB")


if __name__ == "__main__":
    main()
