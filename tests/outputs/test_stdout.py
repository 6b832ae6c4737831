"""Standard output as a sink: in time, in order if asked, and with readers that are slow or gone."""

from __future__ import annotations

import asyncio
import fcntl
import json
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import msgspec
import pytest

from fanout.model import ErrorDetail, Outcome
from fanout.outputs.stdout import BACKED_UP_BYTES, StdoutSink

asyncio.set_event_loop(None)  # on Python 3.11 pytest-asyncio would leave one open


def outcome(seq: int, output: bytes = b'{"ok":true}') -> Outcome:
    return Outcome(seq=seq, status="succeeded", attempts=1, throttles=0, output_raw=msgspec.Raw(output))


Pipe = tuple[IO[bytes], IO[bytes]]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    """The reading and the writing end."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb", buffering=0) as reader, os.fdopen(writing, "wb", buffering=0) as writer:
        yield reader, writer


async def test_outcomes_are_lines_and_soon(pipe: Pipe) -> None:
    """Each outcome is one line, there without being asked for, and on_commit comes after the write."""
    reading, writing = pipe
    committed: list[int] = []
    sink = StdoutSink(
        descriptor=writing.fileno(), on_commit=lambda batch: committed.extend(o.seq for o in batch)
    )
    runner = asyncio.create_task(sink.run())
    sink.write([outcome(0)])
    sink.write([outcome(1, b'{"a":\n1}')])
    lines = await asyncio.wait_for(asyncio.to_thread(reading.read, 10_000), 60)
    assert [json.loads(line)["seq"] for line in lines.splitlines()] == [0, 1]
    while len(committed) < 2:
        await asyncio.sleep(0.001)
    assert committed == [0, 1]
    runner.cancel()
    await asyncio.wait([runner])
    await sink.aclose()


async def test_order_is_kept_when_asked(tmp_path: Path) -> None:
    """However outcomes come, lines go out in the order of the input; gaps at the end hold up nothing."""
    seqs = list(range(500))
    random.Random(3).shuffle(seqs)
    with (tmp_path / "out").open("wb") as file:
        sink = StdoutSink(descriptor=file.fileno(), keep_order=True)
        runner = asyncio.create_task(sink.run())
        for seq in seqs:
            sink.write([outcome(seq)])
            if seq % 50 == 0:
                await asyncio.sleep(0.002)
        for seq in (509, 503):
            sink.write([outcome(seq)])
        runner.cancel()
        await asyncio.wait([runner])
        await sink.aclose()
    lines = (tmp_path / "out").read_bytes().splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [*range(500), 503, 509]


async def test_a_slow_reader_holds_up_nothing_but_admission(pipe: Pipe) -> None:
    """With a full pipe the loop goes on, the sink says that it is backed up, and nothing is lost."""
    reading, writing = pipe
    sink = StdoutSink(descriptor=writing.fileno())
    runner = asyncio.create_task(sink.run())
    seq = 0
    while not sink.is_backed_up:
        sink.write([outcome(seq, b'"' + b"x" * 10_000 + b'"')])
        seq += 1
    await asyncio.sleep(0.05)  # which would never end if the loop waited for the pipe
    assert sink.is_backed_up
    received = bytearray()

    def drain() -> None:
        while chunk := reading.read(1 << 16):
            received.extend(chunk)

    reader = threading.Thread(target=drain)
    reader.start()
    runner.cancel()
    await asyncio.wait([runner])
    await sink.aclose()
    writing.close()
    reader.join()
    assert [json.loads(line)["seq"] for line in bytes(received).splitlines()] == list(range(seq))
    assert not sink.is_backed_up


async def test_a_reader_that_goes_away_ends_it_quietly(pipe: Pipe) -> None:
    """`| head` closes the pipe: told once, and what comes after is dropped without waiting."""
    reading, writing = pipe
    reading.close()
    failures: list[OSError] = []
    sink = StdoutSink(descriptor=writing.fileno(), on_failure=failures.append)
    runner = asyncio.create_task(sink.run())
    sink.write([outcome(0)])
    while not sink.closed:
        await asyncio.sleep(0.001)
    for seq in range(1, 100_000):
        sink.write([outcome(seq)])
    assert not sink.is_backed_up
    runner.cancel()
    await asyncio.wait([runner])
    await sink.aclose()
    assert [type(failure) for failure in failures] == [BrokenPipeError]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
async def test_a_full_disk_is_told(tmp_path: Path) -> None:
    """`> file` on a full disk is a failure that is no closed pipe."""
    with Path("/dev/full").open("wb", buffering=0) as full:
        sink = StdoutSink(descriptor=full.fileno())
        sink.write([outcome(0)])
        await sink.aclose()
    assert not sink.closed
    assert sink.failure is not None
    assert "No space left" in str(sink.failure)


async def test_what_utf8_cannot_carry_is_escaped(tmp_path: Path) -> None:
    """A lone surrogate in a key or an error still makes a line of JSON."""
    with (tmp_path / "out").open("wb") as file:
        sink = StdoutSink(descriptor=file.fileno())
        odd = outcome(0, b'{"a":"\\ud800"}')
        odd.key = "\ud800"
        odd.error = ErrorDetail("E", "\udfff")
        sink.write([odd])
        await sink.aclose()
    line = json.loads((tmp_path / "out").read_bytes())
    assert (line["key"], line["error"]["message"], line["output"]) == ("\ud800", "\udfff", {"a": "\ud800"})


BLOCKED = """
import asyncio, sys
import msgspec
from fanout.model import Outcome
from fanout.outputs.stdout import StdoutSink
async def main():
    sink = StdoutSink()
    runner = asyncio.create_task(sink.run())
    for seq in range(200):
        output = msgspec.Raw(b'"' + b"x" * 10000 + b'"')
        sink.write([Outcome(seq=seq, status="succeeded", attempts=1, throttles=0, output_raw=output)])
    await asyncio.sleep(0.1)
    runner.cancel()
asyncio.run(main())
"""


def test_a_reader_that_never_reads_does_not_keep_the_process() -> None:
    """Left without closing, as a second Ctrl-C leaves it, the process ends though its pipe is full."""
    with subprocess.Popen([sys.executable, "-c", BLOCKED], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        assert process.wait(timeout=60) == 0


def test_backed_up_is_a_bound_in_bytes() -> None:
    """A megabyte may wait: thousands of small outcomes, or one large."""
    sink = StdoutSink(descriptor=-1)
    count = 0
    while not sink.is_backed_up:
        sink.write([outcome(count)])
        count += 1
    assert BACKED_UP_BYTES / 100 < count < BACKED_UP_BYTES / 50
