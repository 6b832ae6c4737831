"""What ``make demo`` runs: a thousand orders through a Lambda function on this machine, and what came of it.

    python examples/demo.py

Exits with 0 when the run ended as it should: a dozen of the orders are wrong on purpose.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SUCCEEDED, FAILED = 988, 12
EXIT_SOME_FAILED = 1


def main() -> int:
    """Run, show, explain. Returns the exit code."""
    os.chdir(ROOT)
    fanout = _command()
    out = f"runs/demo-{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    parts = [
        [fanout, "run", "price-order", "examples/orders.jsonl", "--key", "id"],
        ["--out", out],
        ["--local", "examples/handler.py:handler", "--local-concurrency", "20"],
    ]
    print("1,000 orders, one call of a Lambda function for each, at most 20 at once:\n")
    print("$ " + " \\\n    ".join(map(shlex.join, parts)) + "\n", flush=True)
    code = subprocess.run([word for part in parts for word in part], check=False).returncode
    if code != EXIT_SOME_FAILED:
        print(f"\nfanout run ended with exit code {code}; expected was {EXIT_SOME_FAILED}", file=sys.stderr)
        return code or 1
    outcomes = [json.loads(line) for line in Path(out, "outcomes.jsonl").read_text("utf-8").splitlines()]
    _explain(fanout, out, outcomes)
    counts = [sum(o["status"] == status for o in outcomes) for status in ("succeeded", "function_error")]
    if counts != [SUCCEEDED, FAILED]:
        print(f"\nsucceeded and failed: {counts}; expected was {[SUCCEEDED, FAILED]}", file=sys.stderr)
        return 1
    return 0


def _explain(fanout: str, out: str, outcomes: list[dict[str, Any]]) -> None:
    print("\nIt exited with 1: it finished, and some records did not succeed.")
    print(f"Each record has one line in {out}/outcomes.jsonl.\nOne that succeeded:\n")
    print(_shortest_line(outcomes, "succeeded"))
    print("\nOne that did not; its input is there, so it can be sent again from here alone:\n")
    print(_shortest_line(outcomes, "function_error"))
    print("\nNext, as fanout said above, with the command as it stands here:")
    for what, *command in (
        ("Send the failed ones again (here they fail again: the orders are wrong)", "redrive", out),
        ("Take them out as a file, to mend them", "export", out, "-o", "failed.jsonl"),
        ("See the summary once more", "report", out),
    ):
        print(f"  {what}:\n    {shlex.join([fanout, *command])}")
    print(f"  Look at the run in a browser:\n    {out}/report.html")


def _command() -> str:
    """The command of this environment, in as few words as start it from the project's folder."""
    beside = Path(sys.executable).with_name("fanout")
    return os.path.relpath(beside, ROOT) if beside.is_relative_to(ROOT) else str(beside)


def _shortest_line(outcomes: list[dict[str, Any]], status: str) -> str:
    lines = [json.dumps(outcome, ensure_ascii=False) for outcome in outcomes if outcome["status"] == status]
    return min(lines, key=len, default="(there is none)")


if __name__ == "__main__":
    sys.exit(main())
