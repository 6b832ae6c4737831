"""Where the command's two busy threads run: together, where others do least, or left alone."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from benchmarks.endpoint import Endpoint
from benchmarks.measuring import FANOUT, write_records

from fanout.cli.one_core import SWITCH, choose

needs_cores = pytest.mark.skipif(
    not sys.platform.startswith("linux") or len(os.sched_getaffinity(0)) < 2,
    reason="Linux, two cores or more",
)


@pytest.mark.parametrize(
    ("others", "current", "chosen"),
    [
        ({0: 0.3, 1: 0.1}, None, 1),  # where others do least
        ({0: 0.6, 1: 0.7}, None, None),  # nowhere is room: anywhere
        ({0: 0.2, 1: 0.0}, 0, 0),  # bearable: stay
        ({0: 0.4, 1: 0.3}, 0, 0),  # not worth moving
        ({0: 0.45, 1: 0.1}, 0, 1),  # worth moving
        ({0: 0.9, 1: 0.8}, 0, None),  # crowded everywhere
    ],
)
def test_the_core_is_the_one_with_most_room(
    others: dict[int, float], current: int | None, chosen: int | None
) -> None:
    """Others' share of each core decides, and a small difference moves nobody."""
    assert choose(others, current) == chosen


@needs_cores
@pytest.mark.parametrize("switch", ["1", "0"])
def test_the_two_threads_share_a_core_and_the_others_do_not(tmp_path: Path, switch: str) -> None:
    """Python's thread and the HTTP client's, once it is there; switched off, the system has its way."""
    write_records(tmp_path / "in.jsonl", 200)
    with Endpoint((100,), use_nginx=False) as endpoint:
        argv = [FANOUT, "run", "lab-4", str(tmp_path / "in.jsonl"), "-j", "4", "--quiet"]
        process = subprocess.Popen(
            [*argv, "--endpoint-url", endpoint.url(100), "--out", str(tmp_path / "run")],
            env=endpoint.environment() | {SWITCH: switch},
        )
        try:
            cores = _cores_of_both(process.pid)
        finally:
            process.kill()
            process.wait()
    everywhere = os.sched_getaffinity(0)
    crowded = cores == [everywhere, everywhere]  # every core was too full: then they are left alone
    if switch == "0":
        assert crowded
    else:
        assert crowded or (cores[0] == cores[1] and len(cores[0]) == 1)


def _cores_of_both(pid: int) -> list[set[int]]:
    """The cores of the main thread and the HTTP client's, half a second after the latter began."""
    ends_s = time.monotonic() + 30
    while time.monotonic() < ends_s:
        for task in Path(f"/proc/{pid}/task").iterdir():
            if (task / "comm").read_text().strip() == "pyreqwest":
                time.sleep(0.5)
                return [os.sched_getaffinity(pid), os.sched_getaffinity(int(task.name))]
        time.sleep(0.02)
    raise AssertionError("the HTTP client's thread did not begin")
