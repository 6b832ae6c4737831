"""What an open live page costs the run that it shows: CPU time of the run, with and without a reader.

    python -m benchmarks.dashboard

A run of 12 s at 2,000 calls a second, its page open in one reader of its events or in none, in turns.
"""

from __future__ import annotations

import os
import re
import subprocess
import tempfile
import threading
import urllib.request
from functools import partial
from pathlib import Path

from benchmarks.endpoint import Endpoint
from benchmarks.measuring import FANOUT, arguments, interleaved, save, shown, summary, write_records

_PER_S = 2_000


def main() -> None:
    chosen = arguments(__doc__)
    seconds = 2 if chosen.tiny else 6 if chosen.quick else 12
    with Endpoint((10,)) as endpoint, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "in.jsonl")
        write_records(file, _PER_S * seconds)
        runs = {
            name: partial(_run, endpoint, file, Path(folder), is_read=is_read)
            for name, is_read in (("no reader", False), ("page open", True))
        }
        told = interleaved(runs, rounds=chosen.rounds, say=lambda _: None)
    cpu = {name: [each["cpu_s"] for each in figures] for name, figures in told.items()}
    more = [100 * (read / alone - 1) for read, alone in zip(cpu["page open"], cpu["no reader"], strict=True)]
    results = {**{name: summary(values) for name, values in cpu.items()}, "more": summary(more)}
    for name in cpu:
        print(f"  {name:12} {shown(results[name], ' s of CPU', 2)}")
    print(f"  more         {shown(results['more'], ' %', 1)}")
    save("dashboard", {"per_s": _PER_S, "seconds": seconds, "runs": results})


def _run(endpoint: Endpoint, file: Path, folder: Path, *, is_read: bool) -> dict[str, float]:
    out = folder / ("read" if is_read else "alone")
    command = [FANOUT, "run", "lab-100000", str(file), "--rate", str(_PER_S), "-j", "64", "--no-report"]
    command += ["--endpoint-url", endpoint.url(10), "--out", str(out), "--dashboard", "0"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=endpoint.environment())
    assert process.stderr is not None
    address = ""
    while not address and (line := process.stderr.readline()):
        if found := re.search(r"dashboard: (http\S+)", line):
            address = found[1]
    reader = threading.Thread(target=_read, args=(address.replace("/?", "/events?"),))
    if is_read:
        reader.start()
    rest = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stderr.close()
    if is_read:
        reader.join()
    if process.returncode:
        raise SystemExit(rest)
    for each in out.iterdir():
        each.unlink()
    out.rmdir()
    return {"cpu_s": used.ru_utime + used.ru_stime}


def _read(address: str) -> None:
    with urllib.request.urlopen(address, timeout=60) as events:
        while events.read1(65_536):
            pass


if __name__ == "__main__":
    main()
