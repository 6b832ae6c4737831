"""What the engine costs for each record, without a transport, and which of its stages costs how much.

    python -m benchmarks.overhead

The whole is measured by CPU time of all threads over a real ``fanout.run`` whose transport answers at
once; what the null transport itself costs is measured apart and taken off. Each stage is then timed
alone, on real objects; what no stage accounts for is the dispatcher's own.
"""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import fanout
from benchmarks.measuring import Rounds, arguments, run_process, save, shown, summary, write_records
from benchmarks.null_transport import BODY, NullTransport


def main() -> None:
    chosen = arguments(__doc__, part={"choices": ("journal", "library", "bare"), "default": None}, file={})
    if chosen.part:
        print(json.dumps(_cpu_of(chosen.part, Path(chosen.file))))
        return
    records = 2_000 if chosen.tiny else 50_000 if chosen.quick else 200_000
    parts: dict[str, list[float]] = {"journal": [], "library": [], "bare": []}
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "in.jsonl")
        write_records(file, records)
        for _ in chosen.rounds:
            for part, figures in parts.items():
                usage = run_process(
                    [sys.executable, "-m", "benchmarks.overhead", "--part", part, "--file", str(file)]
                )
                if usage.exit_code:
                    raise SystemExit(usage.stderr)
                figures.append(json.loads(usage.stdout)["cpu_us"])
    bare = summary(parts["bare"])["median"]
    whole = {
        "run with journal": summary(value - bare for value in parts["journal"]),
        "dispatcher.map": summary(value - bare for value in parts["library"]),
    }
    print(
        f"engine without transport, {records:,} records, CPU µs a record (transport's {bare:.1f} taken off)"
    )
    for name, figure in whole.items():
        print(f"  {name:24} {shown(figure, ' µs', 1)}")
    stages = asyncio.run(_stages(200 if chosen.tiny else 20_000, chosen.rounds))
    accounted = sum(figure["median"] for figure in stages.values())
    rest = whole["run with journal"]["median"] - accounted
    print("of which, each stage timed alone:")
    for name, figure in stages.items():
        print(f"  {name:24} {shown(figure, ' µs', 2)}")
    print(f"  {'dispatcher, event loop':24} {rest:.2f} µs (what is left)")
    save(
        "overhead",
        {"records": records, "transport_us": bare, "whole_us": whole, "stages_us": stages, "rest_us": rest},
    )


def _cpu_of(part: str, file: Path) -> dict[str, float]:
    """CPU time for each record, after the process has started."""
    records = sum(1 for _ in file.open("rb"))
    if part == "journal":
        with tempfile.TemporaryDirectory() as folder:
            # Once for what is set up on first use.
            _run(file, Path(folder, "first"), take=200)
            began_s = time.process_time()
            _run(file, Path(folder, "run"), take=records)
            used_s = time.process_time() - began_s
    elif part == "library":
        used_s = asyncio.run(_map(records))
    else:
        used_s = asyncio.run(_bare(records))
    return {"cpu_us": used_s / records * 1e6}


def _run(file: Path, out: Path, *, take: int) -> None:
    report = fanout.run(
        "lab", file, out=out, take=take, transport=NullTransport(), concurrency=64, report=False
    )
    assert report.counts["succeeded"] == take, report.counts


async def _map(records: int) -> float:
    payloads = (b'{"order":%d}' % (10_000_000 + number) for number in range(records))
    async with fanout.Dispatcher("lab", transport=NullTransport(), concurrency=64) as dispatcher:
        began_s = time.process_time()
        async for outcome in dispatcher.map(payloads):
            assert outcome.ok
        return time.process_time() - began_s


async def _bare(records: int) -> float:
    transport, numbers = NullTransport(), iter(range(records))

    async def work() -> None:
        for _ in numbers:
            await transport.send(None, BODY)  # type: ignore[arg-type]

    began_s = time.process_time()
    await asyncio.gather(*(work() for _ in range(64)))
    return time.process_time() - began_s


async def _stages(calls: int, rounds: Rounds) -> dict[str, dict[str, float | int]]:
    """Median microseconds of each stage, alone."""
    from fanout.classify import classify
    from fanout.dispatcher.call import Attempt, Call
    from fanout.dispatcher.call_maker import CallMaker
    from fanout.dispatcher.outcomes import OutcomeMaker
    from fanout.dispatcher.record import InputRecord
    from fanout.gate import Gate, Release
    from fanout.inputs import open_source
    from fanout.journal import Journal, RunDir
    from fanout.limit import AdaptiveLimit, Ramp
    from fanout.pacer import Pacer
    from fanout.stats import Stats

    limit = AdaptiveLimit(64, ramp=Ramp())
    gate = Gate(limit, max_bytes_in_flight=1 << 28)
    pacer = Pacer(1e9)
    pacer._tokens = 1e12
    reply = await NullTransport(yields=False).send(None, b"")  # type: ignore[arg-type]
    body = b'{"order":12345678,"note":"' + b"x" * 70 + b'"}'

    async with fanout.Dispatcher("lab", transport=NullTransport(), concurrency=64) as dispatcher:
        calls_of, engine = CallMaker(dispatcher.options), dispatcher.engine
        maker, stats = OutcomeMaker(keeps_tail_of_successes=False), Stats()
        feed: Any = object()

        def make_call() -> Attempt:
            return Attempt(calls_of.of_record(feed, InputRecord(7, body, None, 8), engine.clock()), len(body))

        attempt = make_call()
        call: Call = attempt.call
        attempt.sent_s = call.first_sent_s = engine.clock()
        attempt.sent_wall_s = time.time()
        call.attempts = 1
        outcome = maker.of_success(attempt, reply, engine.clock() + 0.1)

        def pass_gate() -> None:
            now_s = engine.clock()
            if gate.has_room(now_s):
                gate.acquire(now_s)
            gate.add_bytes(100)
            gate.release(Release.SUCCESS, 100, now_s, now_s)

        def pass_pacer() -> None:
            pacer.try_take()
            pacer.on_success(1.0)

        with tempfile.TemporaryDirectory() as folder:
            source_file = Path(folder, "in.jsonl")
            write_records(source_file, calls)
            run_dir = RunDir.create(Path(folder, "run"), {"function": "lab", "state": "running"})
            journal = await Journal.open(run_dir.path, on_commit=lambda _: None)
            seqs: Iterator[int] = iter(range(1 << 60))

            def write() -> None:
                seq = next(seqs)
                journal.mark(seq)
                journal.sample(seq, body)
                journal.write([outcome])

            async def after_writing() -> None:
                await journal.flush()

            results = {
                "gate and limit": _timed(pass_gate, calls, rounds),
                "pacer": _timed(pass_pacer, calls, rounds),
                "call": _timed(make_call, calls, rounds),
                "classify": _timed(lambda: classify(reply, call.template), calls, rounds),
                "outcome": _timed(
                    lambda: maker.of_success(attempt, reply, attempt.sent_s + 0.1), calls, rounds
                ),
                "stats": _timed(lambda: stats.add(outcome), calls, rounds),
                "journal": await _timed_with(write, after_writing, calls, rounds),
            }
            await journal.aclose()
            results["source"] = await _timed_source(lambda: open_source(str(source_file)), calls, rounds)
    return results


def _timed(call: Callable[[], Any], calls: int, rounds: Rounds) -> dict[str, float | int]:
    figures = []
    for _ in rounds:
        gc.collect()
        began_s = time.process_time()
        for _ in range(calls):
            call()
        figures.append((time.process_time() - began_s) / calls * 1e6)
    return summary(figures)


async def _timed_with(
    call: Callable[[], Any], after: Callable[[], Any], calls: int, rounds: Rounds
) -> dict[str, float | int]:
    figures = []
    for _ in rounds:
        began_s = time.process_time()
        for _ in range(calls):
            call()
        await after()
        figures.append((time.process_time() - began_s) / calls * 1e6)
    return summary(figures)


async def _timed_source(open_it: Callable[[], Any], calls: int, rounds: Rounds) -> dict[str, float | int]:
    figures = []
    for _ in rounds:
        source = open_it()
        began_s = time.process_time()
        async for _ in source.batches():
            pass
        figures.append((time.process_time() - began_s) / calls * 1e6)
        await source.aclose()
    return summary(figures)


if __name__ == "__main__":
    main()
