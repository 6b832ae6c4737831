"""All benchmarks of the laboratory, one after the other: three to four minutes; --full: most of an hour."""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from benchmarks.noise import ENOUGH, least_share, verdict

NAMES = (
    "startup",
    "overhead",
    "latency",
    "throughput",
    "batches",
    "limits",
    "littles_law",
    "many_permits",
    "memory",
    "inputs",
    "journals",
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small sizes and few rounds; the default")
    parser.add_argument("--full", action="store_true", help="the sizes and rounds that documents quote")
    parser.add_argument("--tiny", action="store_true", help="only to see that everything works")
    chosen = parser.parse_args()
    failed, shares = [], [least_share()]
    all_began_s = time.perf_counter()
    print(f"machine: {verdict(shares[0])}", flush=True)
    for name in NAMES:
        print(f"== {name}", flush=True)
        began_s = time.perf_counter()
        options = ["--tiny"] if chosen.tiny else [] if chosen.full else ["--quick"]
        if name == "memory" and chosen.full:
            options.append("--full")
        if subprocess.run([sys.executable, "-m", f"benchmarks.{name}", *options], check=False).returncode:
            failed.append(name)
        took_s = time.perf_counter() - began_s
        shares.append(least_share())
        print(f"   ({took_s:.0f} s; {verdict(shares[-1], in_short=True)})", flush=True)
    print(f"in all {(time.perf_counter() - all_began_s) / 60:.1f} minutes")
    print(f"machine, at its busiest between the benchmarks: {verdict(min(shares))}")
    if failed:
        told = "; it may do better on a quiet machine" if min(shares) < ENOUGH else ""
        sys.exit(f"failed, or missed a goal: {', '.join(failed)}{told}")


if __name__ == "__main__":
    main()
