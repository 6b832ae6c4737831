"""How fast are records read, from a file and from S3, and does memory stay where it is?

    python -m benchmarks.inputs             200 MB
    python -m benchmarks.inputs --full      memory up to 5 GB too
    python -m benchmarks.inputs --others P  with smart_open and s3fs too, where the Python P has them

Reading alone: lines split, JSON checked, no call; from the first record to the last. A whole run: over the
transport that answers at once, journal and all, from a file and from S3. The server is a process of its own.
"""

from __future__ import annotations

import asyncio
import functools
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import fanout
from benchmarks.measuring import (
    Rounds,
    arguments,
    interleaved,
    peak_rss_mb,
    ratios,
    run_process,
    save,
    shown,
    summary,
)
from benchmarks.null_transport import NullTransport
from fanout.aws import ServiceClients
from fanout.inputs import open_source

_WORDS = ["lorem", "ipsum", "dolor", "sit", "amet", "consectetur"]


def main() -> None:
    chosen = arguments(
        __doc__,
        full={"action": "store_true", "help": "memory up to 5 GB too"},
        others={
            "default": None,
            "help": "a Python with smart_open or s3fs: a loop over each, too",
        },
        megabytes={"type": int, "default": None, "help": "of JSON Lines; default 200"},
        case={"nargs": "+", "default": None},
        only={"choices": ("read", "run", "memory"), "default": None},
    )
    if chosen.case:
        print(json.dumps(_case(*chosen.case)))
        return
    megabytes = chosen.megabytes or (2 if chosen.tiny else 40 if chosen.quick else 200)
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        records = _make(folder, megabytes)
        with _server(folder) as environment:
            if chosen.only in (None, "read"):
                results["read"] = _of_reading(folder, environment, chosen.rounds, chosen.others)
            if chosen.only in (None, "run"):
                count = 2_000 if chosen.tiny else 50_000 if chosen.quick else 200_000
                results["run"] = _of_run(folder, environment, chosen.rounds, min(count, records))
            if chosen.only in (None, "memory"):
                steps = (1, 10) if chosen.tiny else (10, 100) if chosen.quick else (10, 100, 1_000)
                results["memory"] = _of_memory((*steps, 5_000) if chosen.full else steps, environment)
    save("inputs", results)


def _make(folder: Path, megabytes: int) -> int:
    """The inputs: orders of about 190 bytes, plain, packed and as rows of five columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    if sys.version_info >= (3, 14):
        from compression import zstd
    else:
        from backports import zstd

    rng, number, written = random.Random(1), 0, 0
    with (folder / "in.jsonl").open("wb") as file:
        while written < megabytes * 1_000_000:
            order = {
                "id": number,
                "customer": rng.randrange(10**9),
                "status": rng.choice(("new", "paid", "sent")),
                "total": rng.randrange(10**6) / 100,
                "sku": f"{rng.getrandbits(60):x}",
                "note": " ".join(rng.choices(_WORDS, k=8)),
                "at": "2026-11-21T08:00:00.123Z",
            }
            written += file.write(json.dumps(order).encode() + b"\n")
            number += 1
    (folder / "in.jsonl.zst").write_bytes(zstd.compress((folder / "in.jsonl").read_bytes()))
    rows = max(1_000, megabytes * 5_000)
    columns = {
        "id": pa.array(range(rows)),
        "customer": pa.array([i * 37 % 999_983 for i in range(rows)]),
        "status": pa.array([("new", "paid", "sent")[i % 3] for i in range(rows)]),
        "total": pa.array([i / 100 for i in range(rows)]),
        "sku": pa.array([f"{i * 2_654_435_761 % 2**40:x}" for i in range(rows)]),
    }
    pq.write_table(pa.table(columns), folder / "in.parquet", compression="zstd", row_group_size=200_000)
    return number


@contextmanager
def _server(folder: Path) -> Iterator[dict[str, str]]:
    """S3 for the folder; yields the environment that leads to it."""
    argv = [sys.executable, "-m", "benchmarks.object_files", str(folder)]
    process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield {
            **os.environ,
            "AWS_ENDPOINT_URL_S3": f"http://127.0.0.1:{int(process.stdout.readline())}",
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "a",
            "AWS_SECRET_ACCESS_KEY": "b",
        }
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _child(environment: dict[str, str], *case: str) -> dict[str, float]:
    usage = run_process(
        [sys.executable, "-m", "benchmarks.inputs", "--case", *case], environment=environment, timeout_s=3_600
    )
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    found: dict[str, float] = json.loads(usage.stdout)
    return found


def _loop(environment: dict[str, str], python: str, kind: str, location: str) -> dict[str, float] | None:
    """Another way to read lines; None where its library is missing."""
    script = str(Path(__file__).with_name("input_loops.py"))
    usage = run_process([python, script, kind, location], environment=environment, timeout_s=3_600)
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    return json.loads(usage.stdout) if usage.stdout else None


def _of_reading(
    folder: Path, environment: dict[str, str], rounds: Rounds, others: str | None
) -> dict[str, Any]:
    size_mb = (folder / "in.jsonl").stat().st_size / 1e6
    locations = {
        f"{where}, {name.removeprefix('in.')}": f"{prefix}/{name}"
        for name in ("in.jsonl", "in.jsonl.zst", "in.parquet")
        for where, prefix in (("file", str(folder)), ("S3", "s3://lake"))
    }
    ways: dict[str, Callable[[], Any]] = {
        name: functools.partial(_child, environment, "read", at) for name, at in locations.items()
    }
    for name in ("in.jsonl", "in.jsonl.zst"):
        ways[f"floor, {name.removeprefix('in.')}"] = functools.partial(
            _loop, environment, sys.executable, "floor", str(folder / name)
        )
    for kind in ("smart_open", "s3fs") if others else ():
        ways[f"{kind}, jsonl"] = functools.partial(_loop, environment, others, kind, "s3://lake/in.jsonl")
    found = interleaved(ways, rounds=rounds)
    results: dict[str, Any] = {}
    for name, runs in found.items():
        if None in runs:
            print(f"  {name:20} left out: not installed", flush=True)
            continue
        is_rows = name.endswith("parquet")
        amount = [run["records"] if is_rows else size_mb for run in runs]
        unit = " rows/s" if is_rows else " MB/s"
        speed, of_cpu = (
            summary(each / run[member] for each, run in zip(amount, runs, strict=True))
            for member in ("wall_s", "cpu_s")
        )
        results[name] = {"per_s": speed, "per_cpu_s": of_cpu, "first_s": summary(r["first_s"] for r in runs)}
        print(f"  {name:20} {shown(speed, unit)}; of one core's time {shown(of_cpu, unit)}", flush=True)
    return results


def _of_run(folder: Path, environment: dict[str, str], rounds: Rounds, records: int) -> dict[str, Any]:
    found = interleaved(
        {
            "file": lambda: _child(environment, "run", str(folder / "in.jsonl"), str(records)),
            "S3": lambda: _child(environment, "run", "s3://lake/in.jsonl", str(records)),
        },
        rounds=rounds,
    )
    ratio = ratios(*([run["cpu_s"] for run in found[name]] for name in ("S3", "file")))
    walls = ratios(*([run["wall_s"] for run in found[name]] for name in ("S3", "file")))
    print(f"  a run of {records:,} records from S3 against the file: CPU {shown(ratio, '', 3)}", flush=True)
    print(f"    and by the clock {shown(walls, '', 3)}", flush=True)
    return {"records": records, "cpu_ratio": ratio, "wall_ratio": walls, "runs": found}


def _of_memory(steps: tuple[int, ...], environment: dict[str, str]) -> list[dict[str, float]]:
    found = []
    for megabytes in steps:
        child = _child(environment, "read", f"s3://lake/stream-{megabytes * 1_000_000}.jsonl")
        found.append({"megabytes": megabytes, "peak_rss_mb": child["peak_rss_mb"]})
        print(f"  {megabytes:>6,} MB from S3: peak {child['peak_rss_mb']:.1f} MB resident", flush=True)
    return found


def _case(kind: str, location: str, records: str = "") -> dict[str, float]:
    runner = asyncio.run
    try:
        import uvloop

        runner = uvloop.run
    except ImportError:
        pass
    found = runner(_read(location)) if kind == "read" else _run(location, int(records))
    found["peak_rss_mb"] = peak_rss_mb() or 0.0
    return found


async def _read(location: str) -> dict[str, float]:
    source = open_source(location, clients=ServiceClients)
    records, first_s, began_s, cpu_s = 0, 0.0, time.perf_counter(), 0.0
    async for batch in source.batches():
        if not records:  # what came before is the session with S3 and the first bytes
            first_s = time.perf_counter() - began_s
            began_s, cpu_s = time.perf_counter(), time.process_time()
        records += len(batch)
    wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - cpu_s
    await source.aclose()
    return {"records": records, "first_s": first_s, "wall_s": wall_s, "cpu_s": cpu_s}


def _run(location: str, records: int) -> dict[str, float]:
    first: list[tuple[float, float]] = []

    def on_outcome(outcome: fanout.Outcome) -> None:
        if not first:
            first.append((time.perf_counter(), time.process_time()))

    with tempfile.TemporaryDirectory() as folder:
        report = fanout.run(
            "lab",
            location,
            out=Path(folder) / "run",
            transport=NullTransport(),
            concurrency=100,
            take=records,
            report=False,
            on_outcome=on_outcome,
        )
        wall_s, cpu_s = time.perf_counter() - first[0][0], time.process_time() - first[0][1]
        assert report.counts["succeeded"] == records
    return {"records": records, "wall_s": wall_s, "cpu_s": cpu_s}


if __name__ == "__main__":
    main()
