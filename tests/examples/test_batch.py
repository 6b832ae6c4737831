"""The batch script and the notebook do their work, and go on where they were stopped."""

from __future__ import annotations

import asyncio
import csv
import os
import runpy
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess
from tests.cli.running import wait_until

from .conftest import CONCURRENCY, EXAMPLES


def some_orders(folder: Path, count: int) -> Path:
    path = folder / "some.jsonl"
    lines = (EXAMPLES / "orders.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(lines[:count]), encoding="utf-8")
    return path


def start(script: str, *arguments: str, cwd: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", str(EXAMPLES / script), *arguments],
        cwd=cwd,
        env=os.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_batch_writes_a_row_for_each_order(price_order: EmulatorProcess, tmp_path: Path) -> None:
    """In the order of the input; exit code 1, as one of the orders is wrong. Again, nothing is sent twice."""
    source = some_orders(tmp_path, 60)
    for _ in range(2):
        process = start("batch.py", str(source), "totals.csv", cwd=tmp_path)
        output, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (1, "")
        assert "1  UnknownCurrencyError" in output
    found = rows(tmp_path / "totals.csv")
    assert [row["order"] for row in found] == [f"order-{10_001 + n}" for n in range(60)]
    failed = [row for row in found if row["status"] != "succeeded"]
    assert failed == [
        {
            "order": "order-10042",
            "status": "function_error",
            "total_eur": "",
            "error": "UnknownCurrencyError",
        }
    ]
    assert price_order.stats()["executions"] == 60


def test_the_batch_goes_on_after_ctrl_c(price_order: EmulatorProcess, tmp_path: Path) -> None:
    """Stopped halfway it drains; started again it has every order, and none ran twice."""
    source = some_orders(tmp_path, 300)
    price_order.set_limits(function="price-order", reserved_concurrency=4)  # or it might have ended already
    process = start("batch.py", str(source), "totals.csv", cwd=tmp_path)
    wait_until(lambda: price_order.stats()["executions"] >= 50)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    price_order.set_limits(function="price-order", reserved_concurrency=CONCURRENCY)
    assert process.returncode == 130
    assert "Traceback" not in errors
    ran_before = price_order.stats()["executions"]
    assert 50 <= ran_before < 300
    again = start("batch.py", str(source), "totals.csv", cwd=tmp_path)
    _, errors = again.communicate(timeout=60)
    assert (again.returncode, errors) == (1, "")
    assert len(rows(tmp_path / "totals.csv")) == 300
    assert set(price_order.stats()["executions_by_key"].values()) == {1}


def test_the_batch_says_how_it_is_called(tmp_path: Path) -> None:
    """Without arguments: one line."""
    process = start("batch.py", cwd=tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert errors == "usage: python examples/batch.py ORDERS.jsonl TOTALS.csv\n"


def test_the_batch_says_what_is_wrong_in_one_line(tmp_path: Path) -> None:
    """Without credentials there is no traceback."""
    process = start("batch.py", str(some_orders(tmp_path, 3)), "totals.csv", cwd=tmp_path)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 4
    assert errors.startswith("no AWS credentials found")
    assert errors.count("\n") == 1


async def test_the_notebook_runs_where_an_event_loop_does(
    price_order: EmulatorProcess, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in Jupyter: its cells run while a loop is running, and its report shows itself as a table."""
    assert asyncio.get_running_loop().is_running()
    names = runpy.run_path(str(EXAMPLES / "notebook.py"))
    shown = capsys.readouterr().out
    assert names["report"].counts["succeeded"] == 197
    assert "<table" in names["report"]._repr_html_()
    assert "order-10042: function_error: UnknownCurrencyError: no rate for DOGE" in shown
    assert price_order.stats()["executions"] == 200
