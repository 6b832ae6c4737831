"""How much of the machine other work takes: a figure that was taken on a busy machine says little.

    python -m benchmarks.noise

As many processes as there are cores count in a loop for half a second. Each should get a whole core:
its CPU time over the time that passed. What is missing went to other work, or to neighbours of the machine.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

ENOUGH = 0.95
_LOOP = """
import time
wall, cpu = time.perf_counter(), time.process_time()
while time.perf_counter() - wall < {seconds}:
    sum(range(1000))
print((time.process_time() - cpu) / (time.perf_counter() - wall))
"""


def least_share(seconds: float = 0.5) -> float:
    """The least share of a core that one of the loops got, 0 to 1."""
    code = _LOOP.format(seconds=seconds)
    loops = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(os.cpu_count() or 1)
    ]
    return min(float(loop.communicate()[0]) for loop in loops)


def verdict(share: float, *, in_short: bool = False) -> str:
    """One line that says whether figures of this moment are worth quoting."""
    if share >= ENOUGH:
        return f"quiet: each core was free for {share:.0%} of the time"
    told = f"TOO NOISY: other work left {share:.0%} of a core"
    if in_short:
        return told
    return (
        f"{told}. Rates will be too low and spreads wide; "
        "end the other work, or compare ratios within one table only"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="a tenth of a second instead of half a one")
    print(verdict(least_share(0.1 if parser.parse_args().quick else 0.5)))


if __name__ == "__main__":
    main()
