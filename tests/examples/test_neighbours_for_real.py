"""The examples for Airflow, Prefect and Dagster, by those themselves: each where it is installed.

They are large and do not go together, so none is among the packages of the tests. The weekly workflow gives
each an environment of its own.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
RECORDS = 40

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(importlib.util.find_spec(name) is None, reason=f"{name} is not installed")


@pytest.fixture
def environ(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The settings of a process that finds ``price-order``, whose calls succeed, and the examples."""
    with EmulatorProcess(simulate=["name=price-order,concurrency=5,latency=100ms"]) as emulator:
        yield {
            **os.environ,
            "AWS_ENDPOINT_URL_LAMBDA": emulator.endpoint_url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "PYTHONPATH": str(EXAMPLES),
            "HOME": str(tmp_path),
            "AIRFLOW_HOME": str(tmp_path / "airflow"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "PREFECT_HOME": str(tmp_path / "prefect"),
            "DAGSTER_HOME": str(tmp_path),
            "ORDERS_DIR": str(tmp_path),
        }


def orders(where: Path) -> str:
    where.write_text("".join(f'{{"id":"o{n}"}}\n' for n in range(RECORDS)))
    return str(where)


def run(script: str, folder: Path, environ: dict[str, str]) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def counts(folder: Path) -> dict[str, int]:
    (run_json,) = (folder / "runs").glob("*/run.json")
    found: dict[str, int] = json.loads(run_json.read_text())["counts"]
    return found


AIRFLOW_DAG = """
from airflow.sdk import DAG
from airflow_operator import FanoutOperator

with DAG("orders", schedule=None) as dag:
    FanoutOperator(task_id="price", function="price-order", source={source!r}, runs_dir={runs!r})
"""


@needs("airflow")
def test_airflow_runs_a_dag_with_the_operator(tmp_path: Path, environ: dict[str, str]) -> None:
    """``airflow dags test``: the task succeeds, and its run directory has an outcome for each record."""
    source, runs = orders(tmp_path / "in.jsonl"), str(tmp_path / "runs")
    (tmp_path / "airflow").mkdir()
    (tmp_path / "dags").mkdir()
    dag = tmp_path / "dags" / "orders.py"
    dag.write_text(AIRFLOW_DAG.format(source=source, runs=runs))
    environ["AIRFLOW__CORE__DAGS_FOLDER"] = str(dag.parent)
    airflow = Path(sys.executable).with_name("airflow")
    subprocess.run([airflow, "db", "migrate"], env=environ, capture_output=True, check=True)
    done = subprocess.run(
        [airflow, "dags", "test", "orders"], env=environ, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert counts(tmp_path) == {"succeeded": RECORDS}


KILLED = """
import signal, types
from airflow_operator import FanoutOperator

operator = FanoutOperator(task_id="price", function="price-order", source={source!r}, runs_dir={runs!r})
signal.signal(signal.SIGTERM, lambda *_: operator.on_kill())
context = {{"dag": types.SimpleNamespace(dag_id="orders"), "run_id": "manual"}}
try:
    print(operator.execute(context))
except Exception as error:
    print("ENDED", type(error).__name__, error)
"""


@needs("airflow")
def test_killing_the_task_of_airflow_drains_and_its_retry_goes_on(
    tmp_path: Path, environ: dict[str, str]
) -> None:
    """``on_kill`` lets calls in flight finish; the next try sends what is left, and nothing twice."""
    source, runs = orders(tmp_path / "in.jsonl"), tmp_path / "runs"
    script = KILLED.format(source=source, runs=str(runs))
    process = subprocess.Popen([sys.executable, "-c", script], env=environ, stdout=subprocess.PIPE, text=True)
    give_up = time.monotonic() + 60
    while not any(path.stat().st_size for path in runs.glob("*/outcomes.jsonl")):
        assert time.monotonic() < give_up
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert "ENDED AirflowException fanout ended with 143" in output
    done = counts(tmp_path)["succeeded"]
    assert 0 < done < RECORDS
    assert f"'succeeded': {RECORDS}, " in run(script, tmp_path, environ)
    (journal,) = runs.glob("*/outcomes.jsonl")
    assert len(journal.read_text().splitlines()) == RECORDS


PREFECT = """
import prefect_flow
from prefect.testing.utilities import prefect_test_harness

with prefect_test_harness(server_startup_timeout=120):
    print("COUNTS", prefect_flow.price_orders({source!r}, {runs!r}))
"""


@needs("prefect")
def test_prefect_runs_the_flow(tmp_path: Path, environ: dict[str, str]) -> None:
    """On a server of its own: the flow returns the counts."""
    source = orders(tmp_path / "in.jsonl")
    said = run(PREFECT.format(source=source, runs=str(tmp_path / "runs")), tmp_path, environ)
    assert f"COUNTS {{'succeeded': {RECORDS}, " in said
    assert counts(tmp_path) == {"succeeded": RECORDS}


DAGSTER = """
import dagster, dagster_asset

result = dagster.materialize([dagster_asset.priced_orders], partition_key="2026-11-21")
(event,) = result.get_asset_materialization_events()
said = event.materialization.metadata
print("RECORDS", said["succeeded"].value, "of", said["records"].value)
"""


@needs("dagster")
def test_dagster_materializes_a_partition(tmp_path: Path, environ: dict[str, str]) -> None:
    """With counts as its metadata; again, and nothing is sent."""
    orders(tmp_path / "orders-2026-11-21.jsonl")
    for _ in range(2):
        assert f"RECORDS {RECORDS} of {RECORDS}" in run(DAGSTER, tmp_path, environ)
    (journal,) = (tmp_path / "runs").glob("*/outcomes.jsonl")
    assert len(journal.read_text().splitlines()) == RECORDS
