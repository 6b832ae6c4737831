"""Does fanout fill Lambda's limits and never exceed them? By the counts of an emulated Lambda.

    python -m benchmarks.limits            the scenes: about four minutes
    python -m benchmarks.limits --quick    the same, shorter: about a minute
    python -m benchmarks.limits --scene N  one of them
    python -m benchmarks.limits --sweep    the algorithm against two others, in virtual time

Exit code 1 when a scene misses its goal. Results go to benchmarks/results/limits.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time

import fanout
from benchmarks import limits_sweep
from benchmarks.limits_run import Run, endless
from benchmarks.limits_scenes import SCENES
from benchmarks.measuring import arguments, save


def main() -> int:
    chosen = arguments(
        __doc__,
        quick_rounds=1,
        full_rounds=1,
        scene={"type": int, "choices": range(1, len(SCENES) + 1), "default": None, "help": "only this one"},
        sweep={"action": "store_true", "help": "the algorithm against two others, in virtual time"},
        client={"nargs": 2, "help": argparse.SUPPRESS},  # a URL and the seconds
    )
    os.environ.update(AWS_ACCESS_KEY_ID="x", AWS_SECRET_ACCESS_KEY="y", AWS_REGION="us-east-1")
    import uvloop

    if chosen.client:
        uvloop.run(client(chosen.client[0], float(chosen.client[1])))
        return 0
    if chosen.sweep:
        save("limits_sweep", limits_sweep.main((1,) if chosen.quick or chosen.tiny else (1, 2, 3)))
        return 0
    verdicts = []
    scenes = [(n, scene) for n, scene in enumerate(SCENES, 1) if chosen.scene in (None, n)]
    for _ in chosen.rounds:
        for number, scene in scenes:
            verdict = uvloop.run(scene(0.1 if chosen.tiny else 0.25 if chosen.quick else 1.0))
            verdicts.append(verdict)
            print(
                f"{'ok  ' if verdict.is_met else 'MISS'} {number} {verdict.scene}: {verdict.measured}",
                flush=True,
            )
    if chosen.scene is None:
        save("limits", {"scenes": [vars(verdict) for verdict in verdicts]})
    return 0 if chosen.tiny or all(verdict.is_met for verdict in verdicts) else 1


async def client(url: str, seconds: float) -> None:
    """One run of the two-runs scene, in a process of its own; begins at a line on its standard input."""
    run = Run()
    async with fanout.Dispatcher("f", endpoint_url=url) as dispatcher:
        print("ready", flush=True)
        sys.stdin.readline()
        run.started_at_s = time.monotonic()
        await run.take(dispatcher, endless(seconds))
    print(
        json.dumps({"started_at_s": run.started_at_s, "finished_s": run.finished_s, "statuses": run.statuses})
    )


if __name__ == "__main__":
    sys.exit(main())
