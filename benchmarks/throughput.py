"""How many records a second, and how much CPU for each, beside what people use instead.

    python -m benchmarks.throughput

Two scenes. *At once*: 64 calls in flight and a function that answers at once, so that the client is
the limit. *Account*: what a default account allows, 1,000 in flight at 100 ms over TLS, which is 10,000
calls a second. Every client is a process of its own and reads the same file; rates are those of the
whole process, from its start to its exit; fanout writes its journal and its report meanwhile.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.endpoint import Endpoint
from benchmarks.measuring import (
    Usage,
    arguments,
    interleaved,
    load,
    ratios,
    run_fanout,
    run_process,
    save,
    shown,
    summary,
    write_records,
)

BASELINE = "aiobotocore + Semaphore"
OURS = "fanout run"
LIBRARY = "fanout.Dispatcher.map"
GO = "Go SDK v2"
PROCESSES = "GNU parallel + AWS CLI"
_CLIENTS = Path(__file__).parent / "clients"
_DEBIAN_GO = Path("/usr/share/gocode")
_CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "fanout-lab"


def main() -> None:
    chosen = arguments(__doc__, only={"choices": ("at-once", "account"), "default": None})
    # With --only, the other scene's last figures are kept.
    before = load("throughput") or {} if chosen.only else {}
    results: dict[str, Any] = {name: before[name] for name in ("at_once", "account") if name in before}
    with Endpoint((0, 100)) as endpoint, tempfile.TemporaryDirectory() as folder:
        print(f"endpoint: {endpoint.kind}")
        results["endpoint"] = {"kind": endpoint.kind} | _capacity(endpoint, 0.3 if chosen.tiny else 2.0)
        print(
            f"  alone it answers {results['endpoint']['plain_per_s']:,.0f}/s plain, "
            f"{results['endpoint']['tls_per_s']:,.0f}/s over TLS for each second of its own CPU time"
        )
        if chosen.only in (None, "at-once"):
            results["at_once"] = _at_once(endpoint, Path(folder), chosen)
        if chosen.only in (None, "account"):
            results["account"] = _account(endpoint, Path(folder), chosen)
    if (go := _versions_of_go()) is not None:
        results["go"] = go
    save("throughput", results)


def _capacity(endpoint: Endpoint, seconds: float) -> dict[str, float]:
    """What the endpoint itself can do: calls for each second of its CPU time, from the leanest client."""
    found = {}
    for name, tls in (("plain_per_s", False), ("tls_per_s", True)):
        usage = run_process(
            [sys.executable, "-m", "benchmarks.raw_client", endpoint.url(0, tls=tls), "64", str(seconds)],
            endpoint=endpoint,
        )
        told = json.loads(usage.stdout)
        found[name] = told["calls"] / max(usage.busy * usage.wall_s, 0.01) if usage.busy else told["per_s"]
    return found


def _at_once(endpoint: Endpoint, folder: Path, chosen: Namespace) -> dict[str, Any]:
    """When quick, a client that makes a tenth of the calls a second has about a tenth of the records.

    So that each runs for about as long, and its start has the same share.
    """
    records = 300 if chosen.tiny else 20_000
    slow_records = 3_000 if chosen.quick else records
    file, short = folder / "at_once.jsonl", folder / "at_once_short.jsonl"
    write_records(file, records)
    write_records(short, slow_records)
    url, concurrency = endpoint.url(0), 64
    environment = endpoint.environment()

    def program(*argv: str) -> Callable[[], Usage]:
        return lambda: run_process(argv, environment=environment, endpoint=endpoint)

    def client(name: str, file: Path = short) -> Callable[[], Usage]:
        return program(sys.executable, "-m", f"benchmarks.clients.{name}", str(file), str(concurrency), url)

    def fanout(file: Path, *more: str) -> Callable[[], Usage]:
        return lambda: _fanout(endpoint, file, folder, "lab-100000", url, concurrency, *more)

    counts = dict.fromkeys((OURS, LIBRARY, GO), records)  # the others have the short file
    runs: dict[str, Callable[[], Usage]] = {
        OURS: fanout(file),
        BASELINE: client("aiobotocore_semaphore"),
    }
    if not chosen.tiny:
        runs |= {
            "fanout run --transport sdk": fanout(short, "--transport", "sdk"),
            LIBRARY: client("fanout_library", file),
            "boto3 + threads": client("boto3_threads"),
        }
        if (told := _absent("aiometer")) is None:
            runs["aiometer + aiobotocore"] = client("aiometer_aiobotocore")
        else:
            print(f"  aiometer: left out ({told})")
        processes = max(8, slow_records // 500)  # a second of CPU for each
        if (argv := _parallel(folder, url, processes)) is None:
            print("  GNU parallel + AWS CLI: left out (no parallel or no aws)")
        else:
            runs[PROCESSES] = program(*argv)
            counts[PROCESSES] = processes
        for name, argv, its in (("JavaScript SDK v3", _javascript(), short), (GO, _go(), file)):
            if isinstance(argv, str):
                print(f"  {name}: left out ({argv})")
            else:
                runs[name] = program(*argv, str(its), str(concurrency), url)
                environment = environment | {"FANOUT_LAB_MODULES": str(_CACHE / "javascript")}
    print(f"at once: {records:,} records, 64 in flight, no delay, plain HTTP", end="")
    print("" if slow_records == records else f"; slow clients have {slow_records:,}")
    usages = interleaved(runs, rounds=chosen.rounds)
    return _judge(usages, dict.fromkeys(runs, slow_records) | counts) | {
        "records": records,
        "slow_records": slow_records,
        "concurrency": concurrency,
    }


def _parallel(folder: Path, url: str, records: int) -> list[str] | None:
    """A process of the AWS CLI for each record: a few records, four processes at a time."""
    if shutil.which("parallel") is None or (aws := shutil.which("aws")) is None:
        return None
    few = folder / "few.jsonl"
    write_records(few, records)
    version = subprocess.run([aws, "--version"], capture_output=True, text=True, check=False).stdout
    raw = "" if version.startswith("aws-cli/1.") else " --cli-binary-format raw-in-base64-out"
    one = f"aws lambda invoke --function-name lab-100000 --endpoint-url {url}{raw} --payload {{}} /dev/null"
    script = f"parallel --will-cite -j 4 '{one}' < {few} > /dev/null && echo {records} 0"
    return ["sh", "-c", script]


def _account(endpoint: Endpoint, folder: Path, chosen: Namespace) -> dict[str, Any]:
    records = 1_000 if chosen.tiny else 30_000 if chosen.quick else 100_000
    file, short = folder / "account.jsonl", folder / "short.jsonl"
    write_records(file, records)
    few_records = min(records, 5_000 if chosen.quick else 20_000)
    write_records(short, few_records)
    url, concurrency = endpoint.url(100, tls=True), 1_000
    steady: list[float] = []

    def ours() -> Usage:
        usage = _fanout(endpoint, file, folder, "lab-1000", url, concurrency, keep=True)
        steady.append(_steady_per_s(folder / "run" / "outcomes.jsonl"))
        shutil.rmtree(folder / "run")
        return usage

    def theirs() -> Usage:
        return run_process(
            [
                sys.executable,
                "-m",
                "benchmarks.clients.aiobotocore_semaphore",
                str(short),
                str(concurrency),
                url,
            ],
            environment=endpoint.environment(),
            endpoint=endpoint,
        )

    print(f"account: {records:,} records, 1,000 in flight, 100 ms, TLS (10,000/s is the limit)")
    runs: dict[str, Callable[[], Usage]] = {OURS: ours}
    if not chosen.tiny:
        runs[BASELINE] = theirs
        if not isinstance(argv := _go(), str):
            program = [*argv, str(file), str(concurrency), url]
            runs[GO] = lambda: run_process(program, environment=endpoint.environment(), endpoint=endpoint)
    usages = interleaved(runs, rounds=chosen.rounds)
    results = _judge(usages, {OURS: records, BASELINE: few_records, GO: records})
    results["steady_per_s"] = summary(steady)
    print(f"  {OURS}: steady {shown(results['steady_per_s'])}/s")
    return results | {"records": records, "baseline_records": few_records, "concurrency": concurrency}


def _fanout(
    endpoint: Endpoint,
    file: Path,
    folder: Path,
    function: str,
    url: str,
    concurrency: int,
    *more: str,
    keep: bool = False,
) -> Usage:
    usage = run_fanout(
        endpoint,
        file,
        url,
        *more,
        function=function,
        concurrency=concurrency,
        keep=folder / "run" if keep else None,
    )
    if usage.exit_code == 0:
        counts = json.loads(usage.stdout)["counts"]
        usage = _with_stdout(usage, f"{counts['succeeded']} 0")
    return usage


def _with_stdout(usage: Usage, stdout: str) -> Usage:
    from dataclasses import replace

    return replace(usage, stdout=stdout)


def _steady_per_s(outcomes: Path) -> float:
    """Records a second in the middle of the run: between its first and its last fifth."""
    import msgspec

    from fanout.quantities import unix_s

    class Line(msgspec.Struct):
        started_at: str
        duration_ms: float

    decode = msgspec.json.Decoder(Line).decode
    ends = sorted(
        (unix_s(line.started_at) or 0.0) + line.duration_ms / 1e3
        for line in map(decode, outcomes.read_bytes().splitlines())
    )
    first, last = len(ends) // 5, len(ends) * 4 // 5
    return (last - first) / (ends[last] - ends[first])


def _judge(usages: dict[str, list[Usage]], records: dict[str, int]) -> dict[str, Any]:
    """Rates, CPU and ratios; a client that failed or that the endpoint held back has no figure."""
    clients: dict[str, Any] = {}
    rates: dict[str, list[float]] = {}
    cpu: dict[str, list[float]] = {}
    for name, runs in usages.items():
        count = records[name]
        failed = next((u for u in runs if u.exit_code or int(u.stdout.split()[0]) != count), None)
        if failed is not None:
            told = (failed.stderr or failed.stdout).strip()[-300:]
            print(f"  {name}: no figure, it failed: {told}")
            clients[name] = {"failed": told}
            continue
        if any(usage.is_endpoint_bound for usage in runs):
            print(f"  {name}: no figure, the endpoint was the bottleneck")
            clients[name] = {"failed": "the endpoint was the bottleneck"}
            continue
        rates[name] = [count / usage.wall_s for usage in runs]
        cpu[name] = [usage.cpu_us_per(count) for usage in runs]
        clients[name] = {
            "per_s": summary(rates[name]),
            "cpu_us": summary(cpu[name]),
            "peak_rss_mb": summary(usage.peak_rss_mb for usage in runs),
            "endpoint_busy": max(usage.busy or 0.0 for usage in runs),
        }
    for name, figures in clients.items():
        if "failed" in figures:
            continue
        against = ""
        if BASELINE in rates:
            figures["rate_ratio"] = ratios(rates[name], rates[BASELINE])
            figures["cpu_ratio"] = ratios(cpu[BASELINE], cpu[name])
            rate, used = figures["rate_ratio"]["median"], figures["cpu_ratio"]["median"]
            against = f", {rate:.1f} x the baseline's rate, 1/{used:.1f} of its CPU"
        rate, used = shown(figures["per_s"]), shown(figures["cpu_us"], " µs")
        print(f"  {name:28} {rate:>26}/s   CPU {used:>22} a record{against}")
    return {"clients": clients}


def _absent(module: str) -> str | None:
    from importlib.util import find_spec

    return None if find_spec(module) else "not installed"


def _javascript() -> list[str] | str:
    """How to start the JavaScript client, or why that is not possible. Installs the SDK once, in a cache."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "no node and npm here"
    folder = _CACHE / "javascript"
    if not (folder / "node_modules" / "@aws-sdk" / "client-lambda").exists():
        folder.mkdir(parents=True, exist_ok=True)
        packages = ["@aws-sdk/client-lambda@3", "@smithy/node-http-handler"]
        done = subprocess.run(
            ["npm", "install", "--silent", "--no-audit", "--no-fund", "--prefix", str(folder), *packages],
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        if done.returncode:
            return f"npm could not install the SDK: {done.stderr.strip()[-200:]}"
    return ["node", str(_CLIENTS / "javascript_sdk.mjs")]


def _go() -> list[str] | str:
    """How to start the Go client, or why that is not possible. Built once, in a cache."""
    if shutil.which("go") is None:
        return "no Go toolchain here"
    folder = _CACHE / "go"
    source, binary = _CLIENTS / "go_sdk.go", folder / "client"
    kept = folder / "src" / "client" / "main.go"
    if binary.exists() and kept.exists() and kept.read_bytes() == source.read_bytes():
        return [str(binary)]
    kept.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, kept)
    environment = dict(os.environ)
    steps = [["go", "build", "-o", str(binary), "."]]
    if (_DEBIAN_GO / "src/github.com/aws/aws-sdk-go-v2/service/lambda").is_dir():
        # golang-github-aws-aws-sdk-go-v2-dev: the SDK from a package, with no module proxy.
        environment |= {"GO111MODULE": "off", "GOPATH": f"{folder}:{_DEBIAN_GO}"}
    else:
        (kept.parent / "go.mod").write_text("module lab\n", encoding="utf-8")
        steps.insert(0, ["go", "mod", "tidy"])
    for argv in steps:
        done = subprocess.run(
            argv, cwd=kept.parent, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        if done.returncode:
            return f"{' '.join(argv)} failed: {done.stderr.strip()[-200:]}"
    return [str(binary)]


def _versions_of_go() -> str | None:
    """The toolchain's and the SDK's, as the client tells them."""
    argv = _go()
    if isinstance(argv, str):
        return None
    return subprocess.run(argv, capture_output=True, text=True, timeout=10, check=True).stdout.strip()


if __name__ == "__main__":
    main()
