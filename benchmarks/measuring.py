"""How a figure is taken: a process and what it used, runs interleaved, medians with their spread, JSON."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from benchmarks.endpoint import BUSY, Endpoint

ROOT = Path(__file__).parent.parent
RESULTS = Path(__file__).parent / "results"
_results: Path | None = None
FANOUT = str(Path(sys.executable).with_name("fanout"))
_QUICK_S = 8.0  # a quick benchmark takes no further round that would end later


@dataclass(frozen=True)
class Usage:
    """What one process used, its whole life through."""

    wall_s: float
    cpu_s: float
    peak_rss_mb: float
    exit_code: int
    stdout: str
    stderr: str
    busy: float | None = None  # of the endpoint meanwhile: a share of one core

    def cpu_us_per(self, records: int) -> float:
        """CPU time for each record, in microseconds, start-up and all."""
        return self.cpu_s / records * 1e6

    @property
    def is_endpoint_bound(self) -> bool:
        """Whether the endpoint set the pace, so that the figure says nothing of the client."""
        return self.busy is not None and self.busy > BUSY


def run_process(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str] | None = None,
    endpoint: Endpoint | None = None,
    timeout_s: float = 600.0,
) -> Usage:
    """Run to the end; CPU time is the kernel's, children included; the peak is of the program alone."""
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        cpu_before_s = None if endpoint is None else endpoint.cpu_s()
        began_s = time.perf_counter()
        process = subprocess.Popen(argv, stdout=out, stderr=err, env=environment, cwd=ROOT)
        killed_at_s = began_s + timeout_s
        peak_mb: float | None = None
        while True:
            pid, status, used = os.wait4(process.pid, os.WNOHANG)
            if pid:
                break
            peak_mb = peak_rss_mb(process.pid) or peak_mb
            if time.perf_counter() > killed_at_s:
                process.kill()
            time.sleep(0.002)
        wall_s = time.perf_counter() - began_s
        process.returncode = os.waitstatus_to_exitcode(status)
        busy = None
        if endpoint is not None and cpu_before_s is not None and (after_s := endpoint.cpu_s()) is not None:
            busy = (after_s - cpu_before_s) / wall_s
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read())
    if peak_mb is None:  # no /proc here: the kernel's count of a child, which begins with its parent's
        peak_mb = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024) / 1e6
    return Usage(
        wall_s=wall_s,
        cpu_s=used.ru_utime + used.ru_stime,
        peak_rss_mb=peak_mb,
        exit_code=process.returncode,
        stdout=texts[0],
        stderr=texts[1],
        busy=busy,
    )


def run_fanout(
    endpoint: Endpoint,
    file: Path,
    url: str,
    *more: str,
    function: str = "lab-100000",
    concurrency: int,
    keep: Path | None = None,
) -> Usage:
    """``fanout run`` of a file, to the end. Its directory is removed afterwards, or is ``keep``.

    The standard output is the summary as JSON.
    """
    out = file.with_name("run-measured") if keep is None else keep
    argv = [FANOUT, "run", function, str(file), "-j", str(concurrency), "--endpoint-url", url]
    usage = run_process(
        [*argv, "--out", str(out), "--quiet", "--json", *more],
        environment=endpoint.environment(),
        endpoint=endpoint,
    )
    if keep is None:
        shutil.rmtree(out, ignore_errors=True)
    return usage


def peak_rss_mb(pid: int | None = None) -> float | None:
    """The most that a living process, or this one, has held; None once it is over, or without /proc.

    Not ``ru_maxrss``: the kernel's count of a child begins with what its parent held.
    """
    for line in _lines(f"/proc/{'self' if pid is None else pid}/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024 / 1e6
    return None


@dataclass(frozen=True, slots=True)
class Rounds:
    """How often each thing is measured: ``most`` times, or less often where the time is short.

    Iterating gives the numbers of the rounds, 0-based: one in any case, and no further one that would end
    after ``within_s``, by the mean of those before it.
    """

    most: int
    within_s: float = math.inf

    def __iter__(self) -> Iterator[int]:
        began_s = time.perf_counter()
        for number in range(self.most):
            yield number
            took_s = time.perf_counter() - began_s
            if took_s + took_s / (number + 1) > self.within_s:
                return


def interleaved(
    runs: Mapping[str, Callable[[], Any]], *, rounds: Rounds, say: Callable[[str], None] = print
) -> dict[str, list[Any]]:
    """Each of ``runs`` once a round, in turns, so that a change of the machine meets all of them."""
    results: dict[str, list[Any]] = {name: [] for name in runs}
    for round_number in rounds:
        for name, run in runs.items():
            results[name].append(run())
        say(f"  round {round_number + 1} done")
    return results


def summary(values: Iterable[float]) -> dict[str, float | int]:
    """Median, extremes and number of repeated figures."""
    held = sorted(values)
    return {
        "median": statistics.median(held),
        "least": held[0],
        "most": held[-1],
        "runs": len(held),
    }


def ratios(one: Sequence[float], other: Sequence[float]) -> dict[str, float | int]:
    """``one`` against ``other``, round by round: the machine was the same for both."""
    return summary(a / b for a, b in zip(one, other, strict=True))


def shown(figure: Mapping[str, float | int], unit: str = "", digits: int = 0) -> str:
    """A median with its spread, for a terminal."""
    median, least, most = (f"{figure[name]:,.{digits}f}" for name in ("median", "least", "most"))
    return f"{median}{unit} ({least} to {most})"


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    cpu = platform.processor() or platform.machine()
    for line in _lines("/proc/cpuinfo"):
        if line.startswith("model name"):
            cpu = line.partition(":")[2].strip()
            break
    packages = {}
    for name in ("lambda-fanout", "aiobotocore", "boto3", "httptools", "uvloop", "msgspec", "aiometer"):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            packages[name] = "absent"
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "packages": packages,
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def save(name: str, results: dict[str, Any]) -> Path:
    """Write the results of one benchmark, with the machine and the time."""
    folder = _results or RESULTS
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    document = {
        "benchmark": name,
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
    }
    path.write_text(json.dumps(document | results, indent=2) + "\n", encoding="utf-8")
    return path


def load(name: str) -> dict[str, Any] | None:
    """The last results of a benchmark; None when it has not been run."""
    path = (_results or RESULTS) / f"{name}.json"
    if not path.exists():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def arguments(
    description: str | None, *, quick_rounds: int = 3, full_rounds: int = 5, **more: dict[str, Any]
) -> argparse.Namespace:
    """The options that every benchmark has, and ``more`` of its own; ``rounds`` of them are ``Rounds``."""
    parser = argparse.ArgumentParser(
        description=(description or "").partition("\n")[0], formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="smaller runs, and as many as soon are done")
    parser.add_argument(
        "--tiny", action="store_true", help="only to see that it works; the figures mean nothing"
    )
    parser.add_argument("--rounds", type=int, default=None, help="how often each thing is measured")
    for name, settings in more.items():
        parser.add_argument(f"--{name.replace('_', '-')}", **settings)
    parser.add_argument("--results", type=Path, default=None, help="the folder for results.json")
    chosen = parser.parse_args()
    global _results  # noqa: PLW0603 - one benchmark to a process
    _results = chosen.results
    if chosen.rounds is not None:
        chosen.rounds = Rounds(chosen.rounds)
    elif chosen.tiny:
        chosen.rounds = Rounds(1)
    else:
        chosen.rounds = Rounds(quick_rounds, _QUICK_S) if chosen.quick else Rounds(full_rounds)
    return chosen


def write_records(path: Path, count: int, payload_bytes: int = 100) -> None:
    """A JSON Lines file of ``count`` orders, each of about ``payload_bytes``."""
    bare = len('{"order":12345678,"note":""}')
    note = "x" * max(0, payload_bytes - bare)
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, count, 10_000):
            file.writelines(
                f'{{"order":{number:08d},"note":"{note}"}}\n'.replace(":0", ":1", 1)
                for number in range(start, min(start + 10_000, count))
            )


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
