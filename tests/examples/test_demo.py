"""``make demo`` shows what it says, and notices when it does not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .conftest import EXAMPLES


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with the examples in it: the demo works from its own project's root."""
    shutil.copytree(EXAMPLES, tmp_path / "examples", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def demo(project: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", str(project / "examples" / "demo.py")],
        cwd="/",
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )


def test_the_demo_runs_a_thousand_orders_for_real(project: Path) -> None:
    """It prints its command, the summary, a success, a failure and what to do next; then exits with 0."""
    done = demo(project)
    assert done.returncode == 0, done.stderr
    assert re.search(
        r"^\$ .*fanout'? run price-order examples/orders\.jsonl [^$]*--local-concurrency 20$",
        done.stdout,
        re.MULTILINE,
    )
    assert "It exited with 1" in done.stdout
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [line["status"] for line in lines] == ["succeeded", "function_error"]
    assert lines[0]["output"]["total_eur"] > 0
    assert "input" in lines[1]
    (run_dir,) = (project / "runs").iterdir()
    for command in ("redrive", "export", "report"):
        assert re.search(rf"fanout'? {command} runs/{run_dir.name}", done.stdout)
    assert (run_dir / "report.html").exists()
    summary = done.stderr
    assert re.search(r"succeeded +988 ", summary)
    assert re.search(r"function_error +12 ", summary)
    assert "5  UnknownCurrencyError" in summary


def test_the_demo_fails_when_the_run_is_not_as_it_should_be(project: Path) -> None:
    """Orders that all succeed are none of the demo's: it says what it expected, and exits with 1."""
    orders = (project / "examples" / "orders.jsonl").read_text(encoding="utf-8").splitlines()[:5]
    (project / "examples" / "orders.jsonl").write_text("\n".join(orders), encoding="utf-8")
    done = demo(project)
    assert done.returncode == 1
    assert "fanout run ended with exit code 0; expected was 1" in done.stderr
