"""The first call of a cold Lambda environment: a function that calls another, by fanout and by boto3.

    python -m benchmarks.in_lambda

Each environment is new: AWS's runtime client in a read-only jail with 128 MB, in the emulator. What is
measured is the whole first event, and its part after the initialisation, as REPORT has it.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import tempfile
import time
from functools import partial
from pathlib import Path

import boto3

from benchmarks.lambda_package import bootstrap, can_jail, make_package
from benchmarks.measuring import arguments, interleaved, save, shown, summary
from fanout.emulator import EmulatorProcess

_FANOUT = """
import asyncio, fanout
fanout.preload("Dispatcher")
loop, dispatcher = asyncio.new_event_loop(), fanout.Dispatcher("worker", {options})
async def call():
    await dispatcher.open()
    return (await dispatcher.invoke({{}})).status
def handler(event, context):
    return loop.run_until_complete(call())
"""
HANDLERS = {
    "fanout": _FANOUT.format(options="concurrency=50"),
    "fanout, asked nothing": _FANOUT.format(options="concurrency=50, rate=500, timeout=30"),
    "boto3": """
import boto3
client = boto3.client("lambda")
def handler(event, context):
    return client.invoke(FunctionName="worker", Payload=b"{}")["StatusCode"]
""",
}


def main() -> None:
    chosen = arguments(__doc__, full_rounds=9)
    if not can_jail():
        raise SystemExit("this user may not make mount namespaces here: run as root, or in a container")
    with (
        tempfile.TemporaryDirectory() as made,
        EmulatorProcess(simulate=["name=worker,latency=1ms"]) as worker,
    ):
        packages = {name: _package(Path(made), name) for name in HANDLERS}
        environment = {
            **os.environ,
            "AWS_ENDPOINT_URL_LAMBDA": worker.endpoint_url,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }
        runs = {name: partial(_first_event, package, environment) for name, package in packages.items()}
        told = interleaved(runs, rounds=chosen.rounds, say=lambda _: None)
    results = {
        name: {figure: summary(each[figure] for each in figures) for figure in figures[0]}
        for name, figures in told.items()
    }
    for name, figures in results.items():
        line = ", ".join(
            f"{figure.removesuffix('_ms')} {shown(value, ' ms')}" for figure, value in figures.items()
        )
        print(f"  {name:24} {line}")
    save("in_lambda", {"functions": results})


def _package(parent: Path, name: str) -> Path:
    folder = parent / re.sub(r"\W+", "_", name)
    make_package(folder, "boto3" if name == "boto3" else "lambda-fanout", "awslambdaric")
    (folder / "app.py").write_text(HANDLERS[name])
    # As a package that was compiled when it was made.
    python = bootstrap(folder).split()[2]
    shutil.rmtree(folder / "__pycache__", ignore_errors=True)
    os.spawnv(os.P_WAIT, python, [python, "-m", "compileall", "-q", str(folder)])
    return folder


def _first_event(package: Path, environment: dict[str, str]) -> dict[str, float]:
    with EmulatorProcess(
        handler=f"{package / 'app.py'}:handler",
        name="outer",
        timeout_s=30,
        env=environment,
        extra=["--bootstrap", bootstrap(package), "--no-init-check", "--memory", "128"],
    ) as outer:
        client = boto3.client(
            "lambda",
            endpoint_url=outer.endpoint_url,
            region_name="us-east-1",
            aws_access_key_id="local",
            aws_secret_access_key="local",
        )
        began_s = time.perf_counter()
        reply = client.invoke(FunctionName="outer", Payload=b"{}", LogType="Tail")
        first_ms = (time.perf_counter() - began_s) * 1e3
        if reply.get("FunctionError"):
            raise SystemExit(reply["Payload"].read())
        log = base64.b64decode(reply["LogResult"]).decode()
    duration = re.search(r"REPORT.*\tDuration: ([\d.]+) ms", log)
    memory = re.search(r"Max Memory Used: (\d+) MB", log)
    assert duration is not None
    assert memory is not None
    return {"first_event_ms": first_ms, "handler_ms": float(duration[1]), "memory_mb": float(memory[1])}


if __name__ == "__main__":
    main()
