"""What a record costs alone, in a batch of ten and in one of a hundred: CPU time of whole runs.

    python -m benchmarks.batches

64 calls in flight and a function that answers at once, over plain HTTP: the client is the limit. Every
run is a process of its own, reads the same file and writes its journal and its report.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.endpoint import Endpoint
from benchmarks.measuring import (
    Usage,
    arguments,
    interleaved,
    ratios,
    run_fanout,
    save,
    shown,
    summary,
    write_records,
)

SIZES = (1, 10, 100)
_CONCURRENCY = 64


def main() -> None:
    chosen = arguments(__doc__)
    records = 500 if chosen.tiny else 30_000 if chosen.quick else 200_000
    print(f"batches: {records:,} records, {_CONCURRENCY} calls in flight, no delay, plain HTTP")
    with Endpoint((0,)) as endpoint, tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "in.jsonl")
        write_records(file, records)

        def run(size: int) -> Callable[[], Usage]:
            return lambda: _run(endpoint, file, size)

        usages = interleaved({str(size): run(size) for size in SIZES}, rounds=chosen.rounds)
    each_us = {name: [usage.cpu_us_per(records) for usage in runs] for name, runs in usages.items()}
    figures = {name: summary(values) for name, values in each_us.items()}
    shares = {name: ratios(values, each_us["1"]) for name, values in each_us.items() if name != "1"}
    for name, figure in figures.items():
        share = f", {shown(shares[name], '', 3)} of one alone" if name in shares else ""
        print(f"  in batches of {name:>3}: {shown(figure, ' µs', 1)} a record{share}")
    save("batches", {"records": records, "cpu_us": figures, "shares": shares})


def _run(endpoint: Endpoint, file: Path, size: int) -> Usage:
    usage = run_fanout(endpoint, file, endpoint.url(0), "--batch", str(size), concurrency=_CONCURRENCY)
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    return usage


if __name__ == "__main__":
    main()
