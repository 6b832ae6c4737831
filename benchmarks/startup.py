"""How long the command takes from its start to its first call.

    python -m benchmarks.startup

beside a script that does the same with ``fanout.Dispatcher``, and one with boto3's ``client.invoke``.

The endpoint is a thread of this process, which notes when the first invocation arrives; the clock
starts just before the command's process is made. Caches are warm: the first run is not counted.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.endpoint import Endpoint
from benchmarks.first_call import FirstCallServer
from benchmarks.measuring import (
    FANOUT,
    arguments,
    interleaved,
    run_process,
    save,
    shown,
    summary,
    write_records,
)


def main() -> None:
    chosen = arguments(__doc__, full_rounds=11)
    environment = Endpoint(()).environment()
    environment.pop("AWS_CA_BUNDLE")
    environment.pop("NODE_EXTRA_CA_CERTS")
    with tempfile.TemporaryDirectory() as folder, FirstCallServer() as server:
        url = server.url
        file, out = Path(folder, "one.jsonl"), Path(folder, "run")
        write_records(file, 1)

        def fanout_run() -> dict[str, float]:
            server.first_call_s = 0.0
            began_s = time.perf_counter()
            usage = run_process(
                [FANOUT, "run", "lab", str(file), "-j", "10", "--endpoint-url", url, "--out", str(out), "-q"],
                environment=environment,
            )
            if usage.exit_code:
                raise SystemExit(usage.stderr)
            shutil.rmtree(out)
            return {
                "first_call_ms": (server.first_call_s - began_s) * 1e3,
                "wall_ms": usage.wall_s * 1e3,
                "cpu_ms": usage.cpu_s * 1e3,
            }

        def python(code: str) -> dict[str, float]:
            usage = run_process([sys.executable, "-c", code], environment=environment)
            return {"wall_ms": usage.wall_s * 1e3, "cpu_ms": usage.cpu_s * 1e3}

        def script(code: str) -> dict[str, float]:
            server.first_call_s = 0.0
            began_s = time.perf_counter()
            usage = run_process([sys.executable, "-c", code], environment=environment)
            if usage.exit_code:
                raise SystemExit(usage.stderr)
            return {
                "first_call_ms": (server.first_call_s - began_s) * 1e3,
                "wall_ms": usage.wall_s * 1e3,
                "cpu_ms": usage.cpu_s * 1e3,
            }

        boto3_script = (
            f"import boto3; boto3.client('lambda', endpoint_url={url!r}).invoke(FunctionName='lab')"
        )
        dispatcher_script = (
            "import asyncio, fanout\n"
            "async def main():\n"
            f"    async with fanout.Dispatcher('lab', concurrency=10, endpoint_url={url!r}) as dispatcher:\n"
            "        assert (await dispatcher.invoke({})).ok\n"
            "asyncio.run(main())"
        )
        runs = {
            "fanout run, one record": fanout_run,
            "boto3's client.invoke": lambda: script(boto3_script),
            "fanout.Dispatcher, one invoke": lambda: script(dispatcher_script),
            "python -c pass": lambda: python("pass"),
            "python -c 'import aiobotocore.session'": lambda: python("import aiobotocore.session"),
            "fanout --version": lambda: python(
                "import sys; sys.argv[1:]=['--version']; from fanout.cli import main; main()"
            ),
        }
        fanout_run()
        told = interleaved(runs, rounds=chosen.rounds, say=lambda _: None)
    results = {
        name: {figure: summary(each[figure] for each in figures) for figure in figures[0]}
        for name, figures in told.items()
    }
    for name, figures in results.items():
        line = ", ".join(
            f"{figure.removesuffix('_ms')} {shown(value, ' ms')}" for figure, value in figures.items()
        )
        print(f"  {name:40} {line}")
    save("startup", {"programs": results})


if __name__ == "__main__":
    main()
