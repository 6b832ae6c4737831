"""The public face is typed to the last option: a wrong call is an error before it runs."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import get_type_hints

import pytest
from mypy import api

from fanout.commands.options import OWN_OPTIONS, RunKeywords, RunOptions
from fanout.config import OptionKeywords, Options

RIGHT = """
import fanout

async def service() -> None:
    async with fanout.Dispatcher("f", concurrency="50%", retries=2, timeout=3.0, stream=True) as dispatcher:
        outcome: fanout.Outcome = await dispatcher.invoke({"a": 1})
        outcomes: fanout.Outcomes = dispatcher.map([1, 2], ordered=True)
        print(outcome.ok, outcome.output, [each.key async for each in outcomes])

report: fanout.RunReport = fanout.run("f", [1], concurrency=5, take=3, threshold=["p95<1s"], key="id")
report = fanout.run("f", "in.jsonl", out="runs/x", resume=True, on_progress=lambda seen: print(seen.done))
counted: fanout.DryRunReport = fanout.dry_run("f", [1], key="id", batch=10)
"""
WRONG = """
import fanout

fanout.run("f", [1], concurency=5)
fanout.run("f", [1], fsync="sometimes")
fanout.run("f", [1], take="three")
fanout.run("f", 5)
fanout.dry_run("f", [1], bach=10)
fanout.Dispatcher("f", retries="many")
fanout.Dispatcher("f", take=3)
fanout.Dispatcher("f", log_type="tail")
"""


def test_the_keywords_are_the_options() -> None:
    """What the face takes is what there is, type by type."""
    options = get_type_hints(Options)
    keywords = get_type_hints(OptionKeywords)
    for name in Options.__struct_fields__:
        if name not in ("function", "transport"):
            assert keywords[name] == options[name], name
    run_options, run_keywords = get_type_hints(RunOptions), get_type_hints(RunKeywords)
    for name in OWN_OPTIONS:
        assert run_keywords[name] == run_options[name], name
    assert set(run_keywords) == set(keywords) | OWN_OPTIONS


WRONG_LINES = [number for number, line in enumerate(WRONG.splitlines(), 1) if line.startswith("fanout.")]


@pytest.fixture
def calls(tmp_path: Path) -> tuple[Path, Path]:
    """A file of right calls and one of wrong ones."""
    right, wrong = tmp_path / "right.py", tmp_path / "wrong.py"
    right.write_text(RIGHT)
    wrong.write_text(WRONG)
    return right, wrong


@pytest.mark.slow
def test_mypy_knows_right_from_wrong(calls: tuple[Path, Path]) -> None:
    """It passes the right calls, and has an error for each wrong one."""
    right, wrong = calls
    config = Path(__file__).parents[1] / "pyproject.toml"
    shared = ["--strict", "--config-file", str(config), "--no-incremental"]
    out, _, code = api.run([*shared, str(right)])
    assert code == 0, out
    out, _, code = api.run([*shared, str(wrong)])
    lines = {int(number) for number in re.findall(r"^.*wrong\.py:(\d+): error", out, re.MULTILINE)}
    assert sorted(lines) == WRONG_LINES, out


@pytest.mark.slow
def test_pyright_knows_right_from_wrong(calls: tuple[Path, Path]) -> None:
    """So does the checker of many editors, strictly. It is fetched from npm on first use."""
    pytest.importorskip("pyright")
    right, wrong = calls
    right.write_text(f"# pyright: strict\n{RIGHT}")
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run([*command, right, wrong], capture_output=True, text=True, check=False)
    if not done.stdout.startswith("{"):
        pytest.skip(f"pyright does not run here: {done.stderr.strip()[-200:]}")
    found = [
        (Path(each["file"]).name, each["range"]["start"]["line"] + 1)
        for each in json.loads(done.stdout)["generalDiagnostics"]
        if each["severity"] == "error"
    ]
    assert sorted(set(found)) == [("wrong.py", number) for number in WRONG_LINES], done.stdout
