"""What a record costs the coordinator of many workers, and how many messages a second a worker needs.

    python -m benchmarks.workers

Two scenes. *Cost*: workers are real processes placed by Dask, whose transport answers at once; so the
coordinator is what is measured: CPU time of its own process, all threads and the Dask scheduler in it
included, between a fifth and nine tenths of the records. The workers' own CPU is on other cores, or, where
there are none, in its way: then the records per second say little, and the CPU per record still holds.
*Payloads*: two workers against one process, over TLS with payloads of 100 kB, with an endpoint on the same
machine.
"""

from __future__ import annotations

import json
import os
import resource
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import fanout
import fanout.workers
from benchmarks.endpoint import Endpoint
from benchmarks.measuring import arguments, run_process, save, shown, summary, write_records
from benchmarks.null_transport import NullTransport
from fanout.stats import Snapshot
from fanout.workers.worker import Worker, WorkerActor

PAYLOADS = 8_000
PAYLOAD_BYTES = 100_000


class NullActor(WorkerActor):
    """A worker that calls nobody."""

    def __init__(self) -> None:
        super().__init__()
        self._worker = Worker(transport=NullTransport())


class NullCrew(fanout.workers.DaskCrew):
    """Places them."""

    actor_class = NullActor


def main() -> None:
    chosen = arguments(__doc__, workers={"type": int, "default": 2}, file={}, payloads={}, only={})
    if chosen.payloads:
        print(json.dumps(_measure_payloads(chosen.payloads, chosen.workers)))
        return
    if chosen.file:
        print(json.dumps(_measure(Path(chosen.file), chosen.workers)))
        return
    result: dict[str, Any] = {}
    if chosen.only in (None, "cost"):
        result |= _cost(chosen)
    if chosen.only in (None, "payloads"):
        result |= _payloads(chosen)
    save("workers", result)


def _cost(chosen: Any) -> dict[str, Any]:
    records = 5_000 if chosen.tiny else 100_000 if chosen.quick else 300_000
    figures: list[dict[str, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "in.jsonl")
        write_records(file, records)
        for _ in chosen.rounds:
            command = [sys.executable, "-m", "benchmarks.workers", "--file", str(file)]
            keys = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none"}  # signing needs some
            usage = run_process(
                [*command, "--workers", str(chosen.workers)], environment={**os.environ, **keys}
            )
            if usage.exit_code:
                raise SystemExit(usage.stderr)
            figures.append(json.loads(usage.stdout.splitlines()[-1]))
    print(f"coordinator of {chosen.workers} workers, {records:,} records")
    result: dict[str, Any] = {"records": records, "workers": chosen.workers}
    for name, unit in (
        ("cpu_us", " µs of CPU a record"),
        ("per_s", " records/s"),
        ("orders_per_s", " orders/s"),
    ):
        result[name] = summary(figure[name] for figure in figures)
        print(f"  {shown(result[name], unit, 1)}")
    return result


def _payloads(chosen: Any) -> dict[str, Any]:
    """Calls a second of one process and of two workers, interleaved, and how busy the endpoint was."""
    figures: dict[int, list[float]] = {0: [], 2: []}
    busy: dict[int, list[float]] = {0: [], 2: []}
    with Endpoint((0,)) as endpoint:
        environment = endpoint.environment()
        for _ in chosen.rounds:
            for workers, rates in figures.items():
                command = [sys.executable, "-m", "benchmarks.workers", "--workers", str(workers)]
                usage = run_process(
                    [*command, "--payloads", endpoint.url(tls=True)],
                    environment=environment,
                    endpoint=endpoint,
                )
                if usage.exit_code:
                    raise SystemExit(usage.stderr)
                rates.append(json.loads(usage.stdout.splitlines()[-1])["per_s"])
                busy[workers].append(usage.busy or 0.0)
    result = {f"payloads_{workers}_per_s": summary(each) for workers, each in figures.items()}
    result["payloads_ratio"] = summary(two / one for one, two in zip(figures[0], figures[2], strict=True))
    print(f"payloads of {PAYLOAD_BYTES:,} bytes over TLS, 64 in flight, {PAYLOADS:,} records")
    for workers in figures:
        print(f"  {workers or 'no'} workers {shown(result[f'payloads_{workers}_per_s'], ' calls/s', 0)}")
        print(f"    the endpoint took {summary(busy[workers])['median']:.2f} of a core")
    print(f"  ratio {shown(result['payloads_ratio'], '', 2)}")
    return result


def _measure_payloads(url: str, workers: int) -> dict[str, float]:
    marks: list[tuple[float, int]] = []
    body = json.dumps({"text": "x" * PAYLOAD_BYTES}).encode()
    with tempfile.TemporaryDirectory() as folder:
        report = fanout.run(
            "lab", (body for _ in range(PAYLOADS)), out=Path(folder, "run"), workers=workers, concurrency=64,
            report=False, function_timeout=60, rate=100_000, endpoint_url=url,
            on_progress=lambda snapshot: marks.append((time.perf_counter(), snapshot.done)),
        )  # fmt: skip
    assert report.counts["succeeded"] == PAYLOADS, f"{report.counts} {report.run['message']}"
    busy = [mark for mark in marks if 0.2 * PAYLOADS <= mark[1] <= 0.9 * PAYLOADS]
    return {"per_s": (busy[-1][1] - busy[0][1]) / (busy[-1][0] - busy[0][0])}


def _cpu_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


def _measure(file: Path, workers: int) -> dict[str, float]:
    fanout.workers.DaskCrew = NullCrew  # type: ignore[misc]
    orders = _count_orders()
    marks: list[tuple[float, float, int, int]] = []

    def note(snapshot: Snapshot) -> None:
        marks.append((time.perf_counter(), _cpu_s(), snapshot.done, orders[0]))

    records = sum(1 for _ in file.open("rb"))
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as nobody:
        report = fanout.run(
            "lab", file, out=Path(folder, "run"), workers=workers, concurrency=15_000, report=False,
            function_timeout=60, rate=200_000, on_progress=note, region="us-east-1",
            endpoint_url=f"http://127.0.0.1:{nobody.getsockname()[1]}",
        )  # fmt: skip
    assert report.counts["succeeded"] == records, f"{report.counts} {report.run['message']}"
    busy = [mark for mark in marks if 0.2 * records <= mark[2] <= 0.9 * records]
    (began_s, cpu_s, done, sent), (ended_s, cpu_end_s, done_end, sent_end) = busy[0], busy[-1]
    took_s, count = ended_s - began_s, done_end - done
    return {
        "cpu_us": (cpu_end_s - cpu_s) / count * 1e6,
        "per_s": count / took_s,
        "orders_per_s": (sent_end - sent) / took_s / workers,
    }


def _count_orders() -> list[int]:
    from fanout.workers.dask_crew import ActorLink

    count, exchange = [0], ActorLink.exchange

    async def counted(self: ActorLink, order: bytes) -> bytes:
        count[0] += 1
        return await exchange(self, order)

    ActorLink.exchange = counted  # type: ignore[method-assign]
    return count


if __name__ == "__main__":
    main()
