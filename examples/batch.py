"""A batch script: price every order of a file, write a table, exit with 1 if an order could not be priced.

    fanout emulate examples/handler.py:handler --name price-order --concurrency 20 -- \\
        python examples/batch.py examples/orders.jsonl totals.csv

Started again after a crash or a Ctrl-C it goes on where it stopped. Against AWS leave out what stands
before python.
"""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import fanout


def orders(path: Path) -> Iterator[fanout.Record]:
    """The orders to price, read one at a time: any filtering and joining would go here."""
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            order = json.loads(line)
            yield fanout.Record(order, key=order["id"])


def main(source: Path, target: Path) -> int:
    """Run, write, report. Returns the exit code of the run: 0 when every order was priced."""
    run_dir = Path("runs") / f"batch-{source.stem}"
    report = fanout.run(
        "price-order",
        orders(source),
        out=run_dir,
        resume=True,  # a run that was cut off goes on; a finished one is left as it is
        retries=5,
        tolerated_failure_percentage=5,
    )
    if report.state == "fatal":  # no credentials, no such function: nothing was sent
        print(report.run["message"], file=sys.stderr)
        return report.exit_code
    rows = {}
    for outcome in report.outcomes():
        total = outcome.output["total_eur"] if outcome.ok else ""
        error = outcome.error.type if outcome.error is not None else ""
        rows[outcome.seq] = [outcome.key, outcome.status, total, error]
    with target.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["order", "status", "total_eur", "error"])
        writer.writerows(rows[seq] for seq in sorted(rows))
    print(report.render())
    return report.exit_code


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: python examples/batch.py ORDERS.jsonl TOTALS.csv")
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except fanout.FanoutError as error:  # a run of something else in that place, a full disk …
        sys.exit(str(error))
