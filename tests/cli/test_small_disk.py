"""Every verb on a disk that is full, has no inode left or is read-only, at any of its writes: one line."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from tests.cli.running import Ended, Shell

RECORDS = 60
pytestmark = pytest.mark.slow

Mount = Callable[[str], None]


@pytest.fixture
def mount(tmp_path: Path) -> Iterator[Mount]:
    """Mounts, or mounts again with other options, a disk of its own at ``disk``."""
    disk = tmp_path / "disk"
    disk.mkdir()
    is_mounted = False

    def do(options: str) -> None:
        nonlocal is_mounted
        again = "remount," if is_mounted else ""
        command = ["mount", "-t", "tmpfs", "-o", again + options, "tmpfs", str(disk)]
        if subprocess.run(command, check=False, capture_output=True).returncode:
            pytest.skip("needs the right to mount")
        is_mounted = True

    yield do
    if is_mounted:
        subprocess.run(["umount", "-l", str(disk)], check=True)


def said_in_a_line(done: Ended, codes: set[int]) -> None:
    """A code of these; no traceback; what went wrong is named."""
    assert "Traceback" not in done.err, done
    assert done.code in codes, done
    if done.code not in (0, 1):
        assert "No space left on device" in done.err or "full" in done.err, done


def run_is_whole(shell: Shell, *options: str) -> None:
    """Going on with what is there, or beginning where nothing is, ends with one outcome for each record."""
    words = ("run", "sometimes", "in.jsonl", "--out", "disk/run", "--resume", "--may-have-run", "send")
    done = shell.run(*words, *options)
    assert done.code == 1, done
    latest = {outcome["seq"] for outcome in shell.outcomes("disk/run")}
    assert latest == set(range(RECORDS))
    assert shell.state("disk/run")["state"] == "finished"


SIZES = [f"size={4 * pages}k" for pages in (1, 2, 3, 4, 6, 8, 12, 16)]
INODES = [f"size=8m,nr_inodes={count}" for count in range(2, 12)]


@pytest.mark.parametrize("options", SIZES)
def test_a_streamed_run(shell: Shell, mount: Mount, options: str) -> None:
    """Its replies have files on the same disk."""
    shell.write("in.jsonl", RECORDS)
    mount(options)
    words = ("run", "sometimes", "in.jsonl", "--out", "disk/run", "-j", "5", "-q", "--stream")
    said_in_a_line(shell.run(*words), {0, 1, 2, 5})
    mount("size=32m,nr_inodes=1000")
    run_is_whole(shell, "--stream")


@pytest.mark.parametrize("options", [*SIZES, *INODES])
def test_a_run(shell: Shell, mount: Mount, options: str) -> None:
    """It ends or stops; with room it goes on to its end."""
    shell.write("in.jsonl", RECORDS)
    mount(options)
    words = ("run", "sometimes", "in.jsonl", "--out", "disk/run", "-j", "5", "-q")
    said_in_a_line(shell.run(*words), {0, 1, 2, 5})
    mount("size=32m,nr_inodes=100")
    run_is_whole(shell)


def fill(disk: Path, what: str) -> None:
    """Leave no inode, or no byte."""
    with suppress(OSError):
        if what == "inodes":
            for number in range(100_000):
                (disk / f"filler-{number}").touch()
        else:
            with (disk / "filler").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(4096))


def make_room(disk: Path) -> None:
    for path in disk.glob("filler*"):
        path.unlink()


@pytest.mark.parametrize("what", ["inodes", "bytes", "read-only"])
@pytest.mark.parametrize(
    "words",
    [
        ("redrive", "disk/run"),
        ("resume", "disk/run"),
        ("report", "disk/run", "--html"),
        ("report", "disk/run", "--json", "-o", "disk/report.json"),
        ("export", "disk/run", "-o", "disk/failed.jsonl"),
        ("export", "disk/run", "--outcomes", "--format", "csv", "-o", "disk/outcomes.csv"),
        ("export", "disk/run", "--outcomes", "--format", "parquet", "-o", "disk/outcomes.parquet"),
        ("collect", "disk/run", "--from", "sqs://nowhere"),
        ("tune", "disk/run", "-j", "3"),
        ("plan", "sometimes", "in.jsonl", "--yes", "--out", "disk/plan"),
        ("run", "sometimes", "in.jsonl", "--out", "disk/other"),
    ],
    ids=lambda words: "-".join(words[:1]) + ("-" + words[-1].rpartition(".")[2] if "." in words[-1] else ""),
)
def test_a_finished_run_stays_finished(shell: Shell, mount: Mount, words: tuple[str, ...], what: str) -> None:
    """Whatever is tried on the full disk; and with room again the verb does what it is for."""
    shell.write("in.jsonl", RECORDS)
    mount("size=4m,nr_inodes=60")
    assert shell.run("run", "sometimes", "in.jsonl", "--out", "disk/run", "-q").code == 1
    before = (shell.directory / "disk/run/outcomes.jsonl").read_bytes()
    disk = shell.directory / "disk"
    if what == "read-only":
        mount("ro")
    else:
        fill(disk, what)
    done = shell.run(*words)
    assert "Traceback" not in done.err, done
    assert done.code in (0, 1, 2, 4, 5), done
    assert (disk / "run/outcomes.jsonl").read_bytes().startswith(before)
    state = json.loads((disk / "run/run.json").read_bytes())
    assert state["state"] == "finished" or words[0] == "redrive", (state, done)
    if what == "read-only":
        mount("rw")
    make_room(disk)
    os.sync()
    if words[0] == "redrive" and state.get("redrive"):
        again = shell.run("resume", "disk/run", "--may-have-run", "send")
        assert again.code in (0, 1), again
        assert shell.state("disk/run")["state"] == "finished"
    elif words[0] not in ("collect", "tune", "resume"):
        assert shell.run(*words).code in (0, 1)
