"""Does memory stay where it is, however many records there are?

    python -m benchmarks.memory           up to a million records
    python -m benchmarks.memory --full    ten million, which takes minutes and 3 GB of disk

Peak resident memory of a process of its own, by the kernel's count. Records: a durable run with journal
over a transport that answers at once. Payloads and concurrency: the direct transport and the endpoint.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fanout
from benchmarks.endpoint import Endpoint
from benchmarks.measuring import Usage, arguments, load, run_process, save
from benchmarks.null_transport import NullTransport

_BUDGET = 10_000_000  # payload bytes for each scene with payloads


def main() -> None:
    chosen = arguments(
        __doc__,
        full={"action": "store_true", "help": "ten million records too"},
        case={"nargs": "+", "default": None},
        only={"choices": ("records",), "default": None},
    )
    if chosen.case:
        print(json.dumps(_case(*chosen.case)))
        return
    results: dict[str, Any] = (load("memory") or {}) if chosen.only else {}
    steps = (1_000,) if chosen.tiny else (10_000, 100_000) if chosen.quick else (10_000, 100_000, 1_000_000)
    results["records"] = _of_records((*steps, 10_000_000) if chosen.full else steps)
    if chosen.only:
        save(
            "memory",
            {name: results[name] for name in ("records", "payloads", "concurrency") if name in results},
        )
        return
    with Endpoint((0, 1000)) as endpoint:
        sizes = (100,) if chosen.tiny else (100, 10_000, 100_000, 1_000_000)
        results["payloads"] = [_of_payload(endpoint, size, 20 if chosen.tiny else 300) for size in sizes]
        widths = (10,) if chosen.tiny else (1, 100, 1_000) if chosen.quick else (1, 100, 1_000, 10_000)
        schemes = (True,) if chosen.tiny or chosen.quick else (False, True)
        results["concurrency"] = [
            _of_concurrency(endpoint, width, tls) for tls in schemes for width in widths
        ]
    save("memory", results)


def _of_records(steps: tuple[int, ...]) -> list[dict[str, float]]:
    """Each without the page at the end, which has a peak of its own, and with it."""
    found: list[dict[str, float]] = []
    for records in steps:
        plain, with_page = (_run_of(records, page=page) for page in ("no-page", "page"))
        found.append(
            {
                "records": records,
                "peak_rss_mb": plain.peak_rss_mb,
                "with_page_rss_mb": with_page.peak_rss_mb,
                "cpu_us": plain.cpu_us_per(records),
            }
        )
        print(
            f"  {records:>10,} records: {plain.peak_rss_mb:.1f} MB, with report.html at the end "
            f"{with_page.peak_rss_mb:.1f} MB; {plain.cpu_us_per(records):.1f} µs of CPU a record",
            flush=True,
        )
    if len(found) > 1:
        growth_mb = found[-1]["peak_rss_mb"] - found[0]["peak_rss_mb"]
        print(f"  growth from the first to the last: {growth_mb:+.1f} MB")
    return found


def _run_of(records: int, *, page: str) -> Usage:
    with tempfile.TemporaryDirectory() as folder:
        usage = run_process(
            [sys.executable, "-m", "benchmarks.memory", "--case", "records", str(records), folder, page],
            timeout_s=3_600,
        )
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    return usage


def _of_payload(endpoint: Endpoint, size: int, most: int) -> dict[str, float]:
    records = max(20, min(most, 100 * _BUDGET // size // 10))
    usage = run_process(
        [
            sys.executable,
            "-m",
            "benchmarks.memory",
            "--case",
            "calls",
            str(records),
            "16",
            str(size),
            endpoint.url(0),
        ],
        environment=endpoint.environment(),
    )
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    print(f"  payload {size:>9,} bytes, 16 in flight: {usage.peak_rss_mb:.1f} MB", flush=True)
    return {"payload_bytes": size, "concurrency": 16, "records": records, "peak_rss_mb": usage.peak_rss_mb}


def _of_concurrency(endpoint: Endpoint, width: int, tls: bool) -> dict[str, Any]:
    records = max(20, width * 3) if width >= 100 else width * 2
    usage = run_process(
        [
            sys.executable,
            "-m",
            "benchmarks.memory",
            "--case",
            "calls",
            str(records),
            str(width),
            "100",
            endpoint.url(1000, tls=tls),
        ],
        environment=endpoint.environment(),
    )
    scheme = "TLS" if tls else "plain"
    if usage.exit_code:
        raise SystemExit(usage.stderr)
    print(f"  {width:>6,} in flight, {scheme}: {usage.peak_rss_mb:.1f} MB", flush=True)
    return {"concurrency": width, "tls": tls, "peak_rss_mb": usage.peak_rss_mb}


def _case(kind: str, *values: str) -> dict[str, int]:
    if kind == "records":
        return _records_case(int(values[0]), Path(values[1]), has_page=values[2] == "page")
    import uvloop

    return uvloop.run(_calls_case(int(values[0]), int(values[1]), int(values[2]), values[3]))


def _records_case(records: int, folder: Path, *, has_page: bool) -> dict[str, int]:
    payloads: Iterator[bytes] = (b'{"order":%d}' % number for number in range(records))
    report = fanout.run(
        "lab", payloads, out=folder / "run", transport=NullTransport(), concurrency=64, report=has_page
    )
    assert report.counts["succeeded"] == records
    shutil.rmtree(folder / "run")
    return {"records": records}


async def _calls_case(records: int, width: int, size: int, url: str) -> dict[str, int]:
    done = 0
    async with fanout.Dispatcher(
        "lab-100000", qualifier="live", concurrency=width, endpoint_url=url
    ) as dispatcher:
        payloads = (b'{"order":"' + b"x" * (size - 12) + b'"}' for _ in range(records))
        async for outcome in dispatcher.map(payloads):
            assert outcome.ok, outcome
            done += 1
    await asyncio.sleep(0)
    return {"done": done}


if __name__ == "__main__":
    main()
