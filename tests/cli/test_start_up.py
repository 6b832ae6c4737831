"""The start of ``fanout run``: only what its first call needs is imported, and no garbage looked for."""

from __future__ import annotations

import json
import subprocess
import sys

from tests.cli.running import Shell

# What a plain run of a file does without; each took milliseconds before the first call.
NEEDLESS = {
    "importlib.metadata",
    "fanout.commands.collect",
    "fanout.commands.resume",
    "sqlite3",
    "configparser",
}
PROGRAM = f"""
import atexit, gc, json, sys
early = []
gc.callbacks.append(lambda phase, _: early.append(phase) if "fanout.cli.run" not in sys.modules else None)
from fanout.__main__ import main
early.clear()
def tell():
    found = sorted({NEEDLESS!r} & sys.modules.keys())
    print(json.dumps([found, early, gc.isenabled(), gc.get_freeze_count() > 10_000, gc.get_threshold()[0]]))
atexit.register(tell)
sys.argv[0] = "fanout"
main()
"""


def test_a_plain_run_imports_what_it_needs_and_looks_for_no_garbage_meanwhile(shell: Shell) -> None:
    """By the end of the run: so at its first call too. Garbage of the work is collected again."""
    shell.write("in.jsonl", 1)
    unmeasured = {name: value for name, value in shell.environment.items() if "COVERAGE" not in name}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "run", "fast", "in.jsonl", "--out", "run", "--quiet", "--no-report"],
        cwd=shell.directory,
        env=unmeasured,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == [[], [], True, True, 20_000]
