"""The public face is typed to the last option: a wrong call is an error before it runs."""

from __future__ import annotations

from dataclasses import fields
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
    for each in fields(Options):
        if each.name not in ("function", "transport"):
            assert keywords[each.name] == options[each.name], each.name
    run_options, run_keywords = get_type_hints(RunOptions), get_type_hints(RunKeywords)
    for name in OWN_OPTIONS:
        assert run_keywords[name] == run_options[name], name
    assert set(run_keywords) == set(keywords) | OWN_OPTIONS


@pytest.mark.slow
def test_a_type_checker_knows_right_from_wrong(tmp_path: Path) -> None:
    """mypy passes the right calls, and has an error for each wrong one."""
    root = Path(__file__).parents[1]
    for name, text in (("right.py", RIGHT), ("wrong.py", WRONG)):
        (tmp_path / name).write_text(text)
    shared = ["--strict", "--config-file", str(root / "pyproject.toml"), "--no-incremental"]
    out, _, code = api.run([*shared, str(tmp_path / "right.py")])
    assert code == 0, out
    out, _, code = api.run([*shared, str(tmp_path / "wrong.py")])
    wrong_lines = [number for number, line in enumerate(WRONG.splitlines(), 1) if line.startswith("fanout.")]
    assert [f"wrong.py:{number}: error" in out for number in wrong_lines] == [True] * len(wrong_lines), out
