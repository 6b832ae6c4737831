"""On which core the command's two busy threads run: together, on the one where others do least.

Python's thread and the HTTP client's hand every call to one another under the interpreter lock. On two
cores each handing-over wakes a sleeping core; on one it costs half: see docs/performance.md. Other
threads and processes stay as they are. Linux only, as it needs /proc and affinities.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

SWITCH = "FANOUT_ONE_CORE"  # "0" leaves the threads to the operating system
_HTTP_THREAD = "pyreqwest"
_LOOK_S = 0.02
_CHECK_S = 1.0
_BEARABLE = 0.2  # share of a core that others may take before it is worth moving
_CROWDED = 0.5  # where every core is as full as that, the operating system does better


def share_one_core() -> Callable[[], None]:
    """Keep the two threads of the running event loop together; returns what ends that."""
    if not sys.platform.startswith("linux") or os.environ.get(SWITCH) == "0":
        return lambda: None
    task = asyncio.get_running_loop().create_task(_keep_together())

    def end() -> None:
        task.cancel()

    return end


def choose(others: Mapping[int, float], current: int | None) -> int | None:
    """The core to be on, given what others take of each (0 … 1) and where we are; None for anywhere."""
    best = min(others, key=lambda core: others[core])
    if current is not None:
        if others[current] <= _BEARABLE:
            return current
        if others[best] + _BEARABLE > others[current]:
            best = current
    return best if others[best] < _CROWDED else None


async def _keep_together() -> None:
    with contextlib.suppress(OSError, ValueError):  # no /proc, or a sandbox: nothing is gained, nothing lost
        allowed = os.sched_getaffinity(0)
        if len(allowed) < 2:
            return
        began = _cpu_times(allowed)
        while (http_thread := _http_thread()) is None:  # noqa: ASYNC110 - nobody would set an event
            await asyncio.sleep(_LOOK_S)
        threads = (threading.get_native_id(), http_thread)
        core: int | None = None
        ours_s = 0.0
        try:
            while True:
                now = _cpu_times(allowed)
                spent_s, ours_s = -ours_s, sum(map(_thread_cpu_s, threads))
                spent_s += ours_s
                chosen = choose(_others(began, now, spent_s, core), core)
                if chosen != core:
                    core = chosen
                    _move(threads, allowed if core is None else {core})
                began = now
                await asyncio.sleep(_CHECK_S)
        finally:
            _move(threads, allowed)


def _others(
    before: Mapping[int, tuple[float, float]],
    after: Mapping[int, tuple[float, float]],
    ours_s: float,
    core: int | None,
) -> dict[int, float]:
    """What other threads took of each core between two looks."""
    shares = {}
    for each, (busy_s, all_s) in after.items():
        span_s = all_s - before[each][1]
        mine_s = ours_s / len(after) if core is None else ours_s if each == core else 0.0
        shares[each] = max(0.0, busy_s - before[each][0] - mine_s) / span_s if span_s > 0 else 0.0
    return shares


def _cpu_times(cores: set[int]) -> dict[int, tuple[float, float]]:
    """Seconds that each core was busy, and all seconds."""
    times = {}
    for line in Path("/proc/stat").read_text(encoding="ascii").splitlines():
        name, *ticks = line.split()
        if name.startswith("cpu") and name[3:].isdigit() and int(name[3:]) in cores:
            values = [int(tick) / os.sysconf("SC_CLK_TCK") for tick in ticks[:8]]
            all_s = sum(values)
            times[int(name[3:])] = (all_s - values[3] - values[4], all_s)  # without idle and iowait
    return times


def _http_thread() -> int | None:
    for task in Path("/proc/self/task").iterdir():
        if (task / "comm").read_text(encoding="utf-8").strip() == _HTTP_THREAD:
            return int(task.name)
    return None


def _thread_cpu_s(thread: int) -> float:
    fields = Path(f"/proc/self/task/{thread}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _move(threads: tuple[int, int], cores: set[int]) -> None:
    for thread in threads:
        with contextlib.suppress(OSError):  # it has ended
            os.sched_setaffinity(thread, cores)
