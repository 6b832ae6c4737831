"""What a record of a whole run costs beside the leanest client there is, in turns.

    python -m benchmarks.leanest

CPU time of the process. fanout: from its start to its exit, with the file, signatures, journal and report.
The leanest client writes the same bytes again and again, without start-up: below that no client comes.
64 in flight of a function that answers at once, plain and TLS; and 1,000 in flight at 100 ms over TLS.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.endpoint import Endpoint
from benchmarks.measuring import (
    arguments,
    interleaved,
    ratios,
    run_fanout,
    run_process,
    save,
    shown,
    summary,
    write_records,
)

_SCENES = {
    "plain, 64 in flight, 0 ms": (False, 64, 0),
    "TLS, 64 in flight, 0 ms": (True, 64, 0),
    "TLS, 1,000 in flight, 100 ms": (True, 1_000, 100),
}


def main() -> None:
    chosen = arguments(__doc__)
    records = 300 if chosen.tiny else 30_000 if chosen.quick else 100_000
    seconds = 0.3 if chosen.tiny else 3.0
    scenes: dict[str, Any] = {}
    with Endpoint((0, 100)) as endpoint, tempfile.TemporaryDirectory() as text:
        file = Path(text, "in.jsonl")
        write_records(file, records)
        runs: dict[str, Callable[[], float]] = {}
        for name, (tls, width, delay_ms) in _SCENES.items():
            url = endpoint.url(delay_ms, tls=tls)
            runs[f"run {name}"] = lambda url=url, width=width: _run(endpoint, file, url, width)  # type: ignore[misc]
            runs[f"leanest {name}"] = lambda url=url, width=width: _leanest(endpoint, url, width, seconds)  # type: ignore[misc]
        figures = interleaved(runs, rounds=chosen.rounds)
    for name in _SCENES:
        run, leanest = figures[f"run {name}"], figures[f"leanest {name}"]
        scenes[name] = {"run_us": summary(run), "leanest_us": summary(leanest), "ratio": ratios(run, leanest)}
        print(f"  {name}: run {shown(scenes[name]['run_us'], ' µs', 1)}, ", end="")
        print(
            f"leanest {shown(scenes[name]['leanest_us'], ' µs', 1)}, {shown(scenes[name]['ratio'], ' x', 2)}"
        )
    save("leanest", {"records": records, "endpoint": endpoint.kind, "scenes": scenes})


def _run(endpoint: Endpoint, file: Path, url: str, width: int) -> float:
    usage = run_fanout(endpoint, file, url, concurrency=width)
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    return usage.cpu_us_per(json.loads(usage.stdout)["counts"]["succeeded"])


def _leanest(endpoint: Endpoint, url: str, width: int, seconds: float) -> float:
    argv = [sys.executable, "-m", "benchmarks.raw_client", url, str(width), str(seconds)]
    usage = run_process(argv, environment=endpoint.environment())
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    return float(json.loads(usage.stdout)["cpu_us"])


if __name__ == "__main__":
    main()
