"""The code of the guide to data frames runs as printed, with the libraries themselves.

`make .venv/.installed-frames` installs them; without them these tests are skipped.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess

from .pages import ROOT, blocks

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

PAGE = ROOT / "docs" / "guides" / "data-frames.md"
RECORDS = 300
# As a reader: a library's warning about itself is not ours.
PYTHON = [sys.executable, "-W", "error:::__main__"]

needs_pandas, needs_polars, needs_duckdb = (
    pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")
    for name in ("pandas", "polars", "duckdb")
)


def code(language: str, *holding: str) -> str:
    """The one block of the page in this language that holds all of these."""
    (found,) = (block for block in blocks(PAGE, language) if all(words in block.text for words in holding))
    return found.text


class Reader:
    """Where a reader stands, and the settings that lead to ``price-order``."""

    def __init__(self, folder: Path, endpoint_url: str) -> None:
        self.folder = folder
        self.environ = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "AWS_ENDPOINT_URL_LAMBDA": endpoint_url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }

    def run(self, *command: str, codes: tuple[int, ...] = (0,)) -> str:
        done = subprocess.run(
            command, cwd=self.folder, env=self.environ, capture_output=True, text=True, check=False
        )
        assert done.returncode in codes, done.stdout + done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """With a run some of whose calls failed, redriven, and exported by the page's command."""
    folder = tmp_path_factory.mktemp("frames")
    orders = ({"id": str(10_000 + n), "n": n, "total": n + 0.5} for n in range(RECORDS))
    (folder / "orders.jsonl").write_text("".join(json.dumps(order) + "\n" for order in orders))
    with EmulatorProcess(simulate=["name=price-order,concurrency=50,error_rate=20%"]) as emulator:
        where = Reader(folder, emulator.endpoint_url)
        fanout = (sys.executable, "-m", "fanout")
        where.run(
            *fanout, "run", "price-order", "orders.jsonl", "--key", "id", "--out", "runs/orders", codes=(1,)
        )
        where.run(*fanout, "redrive", "runs/orders", codes=(0, 1))
        where.run("sh", "-ec", code("sh"))
        yield where


def latest(reader: Reader) -> dict[int, dict[str, Any]]:
    """What the journal says last of each record."""
    lines = (reader.folder / "runs" / "orders" / "outcomes.jsonl").read_text().splitlines()
    assert len(lines) > RECORDS  # some were redriven
    return {outcome["seq"]: outcome for outcome in map(json.loads, lines)}


@needs_duckdb
def test_duckdb_counts_the_failures_that_are_left(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each record once, as it stands now."""
    monkeypatch.chdir(reader.folder)
    rows = importlib.import_module("duckdb").sql(code("sql")).fetchall()
    failed = [outcome for outcome in latest(reader).values() if outcome["status"] != "succeeded"]
    assert failed
    assert [(kind, count) for kind, count, _ in rows] == [("SimulatedError", len(failed))]
    assert rows[0][2] in {outcome["key"] for outcome in failed}


@needs_polars
def test_polars_counts_by_status(reader: Reader) -> None:
    """A row for each status, with the latest outcomes alone."""
    script = (
        code("python", "scan_ndjson")
        + "print(outcomes.collect()['seq'].n_unique(), outcomes.collect().height)\n"
    )
    shown = reader.run(*PYTHON, "-c", script)
    assert f"{RECORDS} {RECORDS}" in shown
    succeeded = sum(outcome["status"] == "succeeded" for outcome in latest(reader).values())
    assert f" {succeeded} " in shown


@needs_pandas
def test_pandas_reads_outputs_as_columns(reader: Reader) -> None:
    """Of the records that succeeded; keys that look like numbers stay text."""
    script = (
        code("python", "read_json") + "print(len(totals), outcomes.key.iloc[0] + '!', list(totals.columns))\n"
    )
    shown = reader.run(*PYTHON, "-c", script)
    succeeded = sum(outcome["status"] == "succeeded" for outcome in latest(reader).values())
    assert f"{succeeded} 10000! ['id', 'n', 'total']" in shown


def test_a_report_becomes_an_arrow_table(reader: Reader) -> None:
    """With the columns that the page names."""
    script = (
        code("python", "to_arrow")
        + "print(len(table), {'error_type', 'output'} <= set(table.column_names))\n"
    )
    assert f"{RECORDS} True" in reader.run(*PYTHON, "-c", script)


FRAME = """
import json
frame = {library}.DataFrame({{"id": ["a", "b"], "n": [1, 2], "total": [0.5, float("nan")]}})
report = price_all(frame)
rows = sorted((outcome.key, outcome.status, outcome.input or outcome.output) for outcome in report.outcomes())
print(json.dumps(rows))
"""


@pytest.mark.parametrize(
    ("library", "word"),
    [
        pytest.param("pandas", "itertuples", marks=needs_pandas),
        pytest.param("polars", "iter_rows", marks=needs_polars),
    ],
)
def test_a_frame_is_an_input(library: str, word: str, tmp_path: Path) -> None:
    """Row by row, whole numbers as such; what is not a number is sent as null."""
    script = f"import {library}\n{code('python', word)}{FRAME.format(library=library)}"
    with EmulatorProcess(simulate=["name=price-order,concurrency=5"]) as emulator:
        shown = Reader(tmp_path, emulator.endpoint_url).run(*PYTHON, "-c", script)
    assert json.loads(shown.splitlines()[-1]) == [
        ["a", "succeeded", {"id": "a", "n": 1, "total": 0.5}],
        ["b", "succeeded", {"id": "b", "n": 2, "total": None}],
    ]
