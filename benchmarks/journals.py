"""How long each verb takes over the journal of a large run, and how much memory it needs.

    python -m benchmarks.journals                     a journal of a million outcomes, in about a minute
    python -m benchmarks.journals --size 10000000     ten million: 3 GB of disk, some minutes
    python -m benchmarks.journals --only report resume

The journal is made here: outcomes of about 300 bytes in order of finishing, one in a hundred failed, with
input and error, a timeline, samples and places, as a run leaves them that was cut off. Resume and redrive
are timed from the start of their process to the first call that the endpoint sees, and to their end.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import tempfile
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from time import perf_counter
from typing import Any

from benchmarks.endpoint import Endpoint
from benchmarks.first_call import FirstCallServer
from benchmarks.measuring import FANOUT, Usage, arguments, run_process, save, write_records
from fanout.commands.checkpointer import EVERY_OUTCOMES, checkpoint_of
from fanout.cost import meter_of
from fanout.journal import RunDir, SeqSet
from fanout.journal.checkpoint import write_checkpoint
from fanout.journal.marks import write_marks
from fanout.journal.run_dir import CHECKPOINT_FILE
from fanout.journal.samples import SAMPLES_FILE, is_sampled, sample_entry
from fanout.report.outcomes import JournalTail
from fanout.stats import Stats

_LEFT = 500  # records of the input without an outcome: what a resume sends
_BEGUN_S = 1_790_000_000.0
_PER_S = 5_000
_BLOCK = 10_000


def main() -> None:
    chosen = arguments(
        __doc__,
        size={"type": int, "default": None, "help": "outcomes; default 1,000,000"},
        only={"nargs": "+", "choices": tuple(_VERBS), "default": None, "help": "only these verbs"},
        folder={"type": Path, "default": None, "help": "where the journal is made; default: a temporary one"},
        keep={"action": "store_true", "help": "leave the journal in --folder, and use it when it is there"},
    )
    size = chosen.size or (2_000 if chosen.tiny else 100_000 if chosen.quick else 1_000_000)
    folder = Path(chosen.folder or tempfile.mkdtemp(prefix="fanout-journals-"))
    results: dict[str, Any] = {}
    with FirstCallServer() as server:
        try:
            run_dir = _made(folder, size, server)
            bytes_ = (run_dir / "outcomes.jsonl").stat().st_size
            print(f"  {size:,} outcomes, {bytes_ / 1e6:,.0f} MB", flush=True)
            for name in chosen.only or _VERBS:
                results[name] = figures = _VERBS[name](run_dir, size, server)
                print(f"  {name:22} " + ", ".join(f"{k} {v:,.2f}" for k, v in figures.items()), flush=True)
        finally:
            if not chosen.keep:
                shutil.rmtree(folder, ignore_errors=True)
    save("journals", {"outcomes": size, "journal_mb": bytes_ / 1e6, "verbs": results})


# --- the journal ---------------------------------------------------------------------------------


def _made(folder: Path, size: int, server: FirstCallServer) -> Path:
    """A run directory with ``size`` outcomes that was cut off."""
    run_dir, records = folder / f"run-{size}", folder / f"records-{size}.jsonl"
    if (run_dir / "made").exists():
        return run_dir
    folder.mkdir(parents=True, exist_ok=True)
    write_records(records, size + _LEFT, payload_bytes=20)
    shutil.rmtree(run_dir, ignore_errors=True)
    argv = ["run", "lab", str(records), "-j", "8", "--take", "8", "--out", str(run_dir), "-q", "--no-report"]
    _run(server, argv)
    _write_outcomes(run_dir / "outcomes.jsonl", size)
    _write_samples(run_dir / SAMPLES_FILE, records, size)
    write_marks(run_dir, [size])
    state = json.loads((run_dir / "run.json").read_text())
    state["options"].pop("take")
    state |= {"state": "interrupted", "halted_by": "signal", "exit_code": 130, "records_read": size}
    state |= {"is_input_exhausted": False, "started_at": _iso(_BEGUN_S), "counts": {}}
    (run_dir / "run.json").write_text(json.dumps(state))
    _write_checkpoint(run_dir)
    (run_dir / "made").touch()
    return run_dir


def _write_outcomes(path: Path, size: int) -> None:
    """In order of finishing: records end up to a hundred places from where they began."""
    pick = random.Random(1)
    durations_ms = [round(pick.lognormvariate(math.log(100), 0.4), 1) for _ in range(4096)]
    with path.open("wb") as file:
        for begin in range(0, size, _BLOCK):
            seqs = list(range(begin, min(begin + _BLOCK, size)))
            order = sorted(range(len(seqs)), key=lambda i: i + pick.random() * 100)
            ended_s = [_BEGUN_S + (begin + i) / _PER_S for i in range(len(seqs))]
            lines = [
                _outcome(seqs[place], ended_s[at], durations_ms[pick.getrandbits(12)], pick)
                for at, place in enumerate(order)
            ]
            file.write("".join(lines).encode())
    timeline = [{"t": _BEGUN_S, "begins": True}]
    for second in range(1, size // _PER_S + 2):
        done = min(size, second * _PER_S)
        timeline.append(
            {"t": _BEGUN_S + second, "in_flight": 500, "limit": 600.0, "cause": "fixed", "done": done}
        )
    path.with_name("timeline.jsonl").write_text("".join(json.dumps(line) + "\n" for line in timeline))


def _outcome(seq: int, ended_s: float, ms: float, pick: random.Random) -> str:
    started = _iso(ended_s - ms / 1000)
    number = pick.getrandbits(48)
    request_id = f"6f2d1c3e-8f4b-4a53-9a39-{number:012x}"
    share = number % 1000
    if share < 10:
        status = "function_error" if share < 7 else "undelivered"
        error = (
            '"error":{"type":"ValueError","message":"bad total","stack_trace":'
            '["  File \\"/var/task/app.py\\", line 12, in handler\\n    raise ValueError\\n"]}'
            if share < 7
            else '"error":{"type":"ServiceException","message":"500 after 3 attempts"}'
        )
        return (
            f'{{"seq":{seq},"status":"{status}","attempts":1,"throttles":0,"request_id":"{request_id}",'
            f'"http_status":200,"executed_version":"$LATEST","started_at":"{started}","queued_ms":0.8,'
            f'"duration_ms":{ms},"billed_ms":{int(ms)},"memory_mb":128,"max_memory_mb":41,{error},'
            f'"input":{{"order":{10_000_000 + seq},"note":""}},"line":{seq + 1}}}\n'
        )
    return (
        f'{{"seq":{seq},"status":"succeeded","attempts":1,"throttles":0,"request_id":"{request_id}",'
        f'"http_status":200,"executed_version":"$LATEST","started_at":"{started}","queued_ms":0.8,'
        f'"duration_ms":{ms},"billed_ms":{int(ms)},"memory_mb":128,"max_memory_mb":41,'
        f'"output":{{"ok":true,"total":{seq}}},"line":{seq + 1}}}\n'
    )


def _write_checkpoint(run_dir: Path) -> None:
    """The latest that the run left before it was cut off."""
    run, journal = RunDir.open(run_dir), JournalTail(run_dir)
    stats, meter, finished = Stats(started_s=_BEGUN_S), meter_of(run.state), SeqSet()
    most = (run_dir / "outcomes.jsonl").stat().st_size - EVERY_OUTCOMES * 330
    for block in journal.read():
        if journal.position > max(most, 1 << 20):
            break
        finished.add_many([outcome.seq for outcome in block])
        stats.add_many(block)
        meter.add_many(block)
        checkpoint_at = journal.position
    checkpoint = checkpoint_of(run, checkpoint_at, finished, stats=stats, meter=meter)
    write_checkpoint(run_dir, checkpoint)


def _write_samples(path: Path, records: Path, size: int) -> None:
    """Samples of what was read, and the places of the input."""
    places = []
    with records.open("rb") as lines, path.open("wb") as file:
        at = 0
        for seq, line in enumerate(lines):
            if seq == size:
                break
            if seq and seq % 65_536 == 0:
                places.append({"seq": seq, "at": {"offset": at, "lines": seq}})
            if is_sampled(seq):
                file.write(sample_entry(seq, line.rstrip(b"\n")))
            at += len(line)
    path.with_name("places").write_text("".join(json.dumps(place) + "\n" for place in places))


_seconds: dict[int, str] = {}


def _iso(unix_s: float) -> str:
    whole = int(unix_s)
    text = _seconds.get(whole)
    if text is None:
        text = _seconds[whole] = datetime.fromtimestamp(whole, UTC).isoformat()[:19]
    return f"{text}.{int((unix_s - whole) * 1000):03d}Z"


# --- the verbs -----------------------------------------------------------------------------------


def _run(
    server: FirstCallServer, argv: Sequence[str], *, allowed: tuple[int, ...] = (0,), sends: bool = True
) -> Usage:
    environment = Endpoint(()).environment()
    for name in ("AWS_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        environment.pop(name)
    more = ["--endpoint-url", server.url] if sends else []
    usage = run_process([FANOUT, *argv, *more], environment=environment, timeout_s=1_800)
    if usage.exit_code not in allowed:
        raise SystemExit(f"{' '.join(argv)}: exit {usage.exit_code}: {usage.stderr}")
    return usage


def _report(run_dir: Path, size: int, server: FirstCallServer, *options: str) -> dict[str, float]:
    usage = _run(server, ["report", str(run_dir), *options], sends=False)
    return {
        "s": usage.wall_s,
        "cpu_s": usage.cpu_s,
        "cpu_us_each": usage.cpu_us_per(size),
        "peak_mb": usage.peak_rss_mb,
    }


def _report_page(run_dir: Path, size: int, server: FirstCallServer) -> dict[str, float]:
    page = run_dir / "page.html"
    figures = _report(run_dir, size, server, "--html", "-o", str(page))
    figures["page_kb"] = page.stat().st_size / 1e3
    page.unlink()
    return figures


def _export(run_dir: Path, size: int, server: FirstCallServer, *options: str) -> dict[str, float]:
    output = run_dir.with_name("exported")
    usage = _run(server, ["export", str(run_dir), "-o", str(output), *options], sends=False)
    output.unlink()
    return {
        "s": usage.wall_s,
        "cpu_s": usage.cpu_s,
        "per_s": size / usage.wall_s,
        "per_cpu_s": size / usage.cpu_s,
        "peak_mb": usage.peak_rss_mb,
    }


def _sends(
    run_dir: Path, server: FirstCallServer, argv: Sequence[str], *, has_checkpoint: bool
) -> dict[str, float]:
    """The directory is put back as it was afterwards."""
    journal = run_dir / "outcomes.jsonl"
    size = journal.stat().st_size
    before = {path: path.read_bytes() for path in run_dir.iterdir() if path != journal}
    if not has_checkpoint:
        (run_dir / CHECKPOINT_FILE).unlink()
    server.first_call_s = 0.0
    began_s = perf_counter()
    usage = _run(server, [argv[0], str(run_dir), *argv[1:], "-q", "--no-report"], allowed=(0, 1, 5))
    for path in run_dir.iterdir():
        if path != journal and path not in before:
            path.unlink()
    for path, content in before.items():
        path.write_bytes(content)
    os.truncate(journal, size)
    return {
        "first_call_s": server.first_call_s - began_s,
        "s": usage.wall_s,
        "cpu_s": usage.cpu_s,
        "peak_mb": usage.peak_rss_mb,
    }


def _resume(
    run_dir: Path,
    size: int,
    server: FirstCallServer,
    *,
    has_checkpoint: bool = True,
) -> dict[str, float]:
    return _sends(run_dir, server, ["resume"], has_checkpoint=has_checkpoint)


def _redrive(
    run_dir: Path,
    size: int,
    server: FirstCallServer,
    *,
    has_checkpoint: bool = True,
) -> dict[str, float]:
    """Of what failed, as much as is sent in three seconds: a measure of the start and the end."""
    return _sends(run_dir, server, ["redrive", "--deadline", "3s"], has_checkpoint=has_checkpoint)


def _runs(run_dir: Path, size: int, server: FirstCallServer) -> dict[str, float]:
    usage = _run(server, ["runs", str(run_dir.parent)], sends=False)
    return {"s": usage.wall_s, "cpu_s": usage.cpu_s, "peak_mb": usage.peak_rss_mb}


_VERBS: dict[str, Callable[[Path, int, FirstCallServer], dict[str, float]]] = {
    "report": _report,
    "report --json": lambda *given: _report(*given, "--json"),
    "report --html": _report_page,
    "export outcomes": lambda *given: _export(*given, "--outcomes"),
    "export outputs": lambda *given: _export(*given, "--outputs"),
    "export succeeded": lambda *given: _export(*given, "--status", "succeeded"),
    "export failed": _export,
    "export csv": lambda *given: _export(*given, "--outcomes", "--format", "csv"),
    "resume": _resume,
    "resume, no checkpoint": lambda *given: _resume(*given, has_checkpoint=False),
    "redrive": _redrive,
    "redrive, no checkpoint": lambda *given: _redrive(*given, has_checkpoint=False),
    "runs": _runs,
}


if __name__ == "__main__":
    main()
