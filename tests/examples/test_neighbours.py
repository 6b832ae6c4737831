"""The examples for neighbours: inside Lambda, Airflow, Prefect, Dagster, systemd, a container."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import fanout
from fanout.emulator import EmulatorProcess
from tests.emulator.conftest import call, lambda_client

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
TWO = {"records": [{"n": 1}, {"n": 2}]}
PORT_OF_ITS_OWN = "AWS_ENDPOINT_URL_LAMBDA"


def test_inside_lambda(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every record in its time; out of time, what is left comes back; one dispatcher for all events."""
    with EmulatorProcess(simulate=["name=worker,latency=5ms", "name=slow,latency=30s"]) as workers:
        monkeypatch.setenv(PORT_OF_ITS_OWN, workers.endpoint_url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "local")
        with EmulatorProcess(handler=f"{EXAMPLES / 'in_lambda.py'}:handler", timeout_s=20) as outer:
            client = lambda_client(outer.endpoint_url)
            for _ in range(2):
                _, answer = call(client, "in_lambda", {"records": [{"n": n} for n in range(30)]})
                assert answer == {"succeeded": 30, "left": []}
            assert workers.stats()["operations"].get("GetAccountSettings", 0) <= 1
        monkeypatch.setenv("WORKER", "slow")
        with EmulatorProcess(handler=f"{EXAMPLES / 'in_lambda.py'}:handler", timeout_s=6) as outer:
            _, answer = call(
                lambda_client(outer.endpoint_url), "in_lambda", {"records": [{"n": 1}, {"n": 2}]}
            )
            assert answer == {"succeeded": 0, "left": [{"n": 1}, {"n": 2}]}


class NotRepeated(RuntimeError):
    """Stands for AirflowFailException, which ends the retries of a task."""


@pytest.fixture
def operator(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The operator's class; Airflow itself, which is large, only where it is installed."""
    try:
        import airflow.sdk  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:

        class BaseOperator:
            def __init__(self, *, task_id: str) -> None:
                self.task_id = task_id

        for name, members in (
            ("airflow", {}),
            ("airflow.sdk", {"BaseOperator": BaseOperator}),
            (
                "airflow.sdk.exceptions",
                {"AirflowException": RuntimeError, "AirflowFailException": NotRepeated},
            ),
        ):
            module = types.ModuleType(name)
            vars(module).update(members)
            monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.syspath_prepend(str(EXAMPLES))
    import airflow_operator  # type: ignore[import-not-found]

    return airflow_operator.FanoutOperator


def test_the_airflow_operator_is_repeated_only_where_that_helps(
    operator: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keyed by DAG, run and task: what was stopped goes on, what is finished sends nothing again."""
    source = tmp_path / "in.jsonl"
    source.write_text("".join(f'{{"n":{n}}}\n' for n in range(10)))
    context = {
        "dag": types.SimpleNamespace(dag_id="orders"),
        "run_id": "scheduled__2026-11-21T00:00+00:00",
    }
    with EmulatorProcess(simulate=["name=f,poison_rate=30%,latency=200ms"]) as emulator:
        monkeypatch.setenv(PORT_OF_ITS_OWN, emulator.endpoint_url)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "local")
        asked = {
            "task_id": "price",
            "function": "f",
            "source": str(source),
            "runs_dir": str(tmp_path / "runs"),
        }
        with pytest.raises(Exception, match="fanout ended with 5") as stopped:
            operator(**asked, options=["--deadline", "1ms", "-j", "1"]).execute(context)
        with pytest.raises(Exception, match="fanout ended with 1") as failed:
            operator(**asked, options=["--deadline", "1m"]).execute(context)
        names = [raised.typename for raised in (stopped, failed)]
        assert names in (["RuntimeError", "NotRepeated"], ["AirflowException", "AirflowFailException"])
        ran = emulator.stats()["executions"]
        result = operator(**asked, tolerate_failures=True).execute(context)
        assert emulator.stats()["executions"] == ran == 10
    assert result["exit_code"] == 1
    assert sum(result["counts"].values()) == 10
    assert result["run_dir"].endswith("orders-scheduled__2026-11-21T00_00_00_00-price")


@pytest.fixture
def function(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    """``price-order``, five at once, which fails for some records; the settings that lead to it."""
    with EmulatorProcess(
        simulate=["name=price-order,concurrency=5,latency=40ms,poison_rate=30%"]
    ) as emulator:
        monkeypatch.setenv(PORT_OF_ITS_OWN, emulator.endpoint_url)
        monkeypatch.setenv("AWS_REGION", "us-east-1")
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "local")
        monkeypatch.syspath_prepend(str(EXAMPLES))
        yield emulator


def stub(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    """A module in the place of a large one: what is tried is what fanout does in it."""
    module = types.ModuleType(name)
    vars(module).update(members)
    monkeypatch.setitem(sys.modules, name, module)


def orders(where: Path) -> str:
    where.write_text("".join(f'{{"id":"o{n}"}}\n' for n in range(40)))
    return str(where)


def test_the_prefect_task_goes_on_and_is_repeated_only_where_that_helps(
    function: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped by a deadline it says so and goes on; with records that failed it is not repeated."""
    kept: dict[str, Any] = {}

    def task(**options: Any) -> Any:
        kept.update(options)
        return lambda fn: fn

    stub(monkeypatch, "prefect", task=task, flow=lambda **_: lambda fn: fn)
    stub(monkeypatch, "prefect.runtime", flow_run=types.SimpleNamespace(id="0190", flow_name="orders"))
    import prefect_flow  # type: ignore[import-not-found]

    source = orders(tmp_path / "in.jsonl")
    raised = []
    for deadline in (0.15, 60, 60):
        with pytest.raises(Exception) as caught:  # noqa: PT011
            prefect_flow.fan_out("price-order", source, str(tmp_path / "runs"), deadline=deadline)
        raised.append(caught.value)
    repeated = [
        kept["retry_condition_fn"](None, None, types.SimpleNamespace(result=lambda one=one, **_: one))
        for one in raised
    ]
    assert repeated == [True, False, False]
    assert isinstance(raised[1], fanout.RecordsFailed)
    assert function.stats()["executions"] == 40
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["orders-0190-price-order"]


def test_the_dagster_asset_goes_on_and_says_what_failed(
    function: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A partition is a run directory; records that failed fail the step, with their counts; no repeat."""

    class Failure(Exception):
        def __init__(self, text: str, *, metadata: dict[str, Any], allow_retries: bool) -> None:
            super().__init__(text)
            self.metadata, self.allow_retries = metadata, allow_retries

    stub(
        monkeypatch,
        "dagster",
        AssetExecutionContext=object,
        DailyPartitionsDefinition=dict,
        Definitions=dict,
        Failure=Failure,
        MaterializeResult=dict,
        MetadataValue=types.SimpleNamespace(path=str, md=str),
        RetryRequested=RuntimeError,
        asset=lambda **_: lambda fn: fn,
    )
    monkeypatch.setenv("ORDERS_DIR", str(tmp_path))
    import dagster_asset  # type: ignore[import-not-found]

    orders(tmp_path / "orders-2026-11-21.jsonl")
    for _ in range(2):
        with pytest.raises(Failure, match="fanout ended with 1") as caught:
            dagster_asset.priced_orders(types.SimpleNamespace(partition_key="2026-11-21"))
    assert caught.value.metadata["records"] == 40
    assert 0 < caught.value.metadata["succeeded"] < 40
    assert not caught.value.allow_retries
    assert function.stats()["executions"] == 40


def test_the_units_of_systemd_are_whole() -> None:
    """The command is one that there is; codes that going on cannot mend are not tried again."""
    unit = configparser.RawConfigParser(strict=False)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read(EXAMPLES / "systemd" / "fanout-orders.service")
    command = re.search(r"fanout (run .*)'", unit["Service"]["ExecStart"])
    assert command is not None
    assert "--resume" in command[1]
    done = subprocess.run(
        [sys.executable, "-m", "fanout", "run", "--help"], capture_output=True, text=True, check=True
    )
    assert all(option in done.stdout for option in re.findall(r"--\w+", command[1]))
    assert set(unit["Service"]["RestartPreventExitStatus"].split()) == {"1", "2", "3", "4"}
    # Refused for a oneshot service by systemd 252 and earlier.
    assert "RestartForceExitStatus" not in unit["Service"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_accepts_the_units() -> None:
    """Without a word."""
    units = sorted(map(str, (EXAMPLES / "systemd").iterdir()))
    done = subprocess.run(["systemd-analyze", "verify", *units], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_container_runs_fanout_as_its_first_process() -> None:
    """The list form, so that signals reach it; not as root."""
    lines = [line for line in (EXAMPLES / "Dockerfile").read_text().splitlines() if line and line[0] != "#"]
    assert json.loads(next(line for line in lines if line.startswith("ENTRYPOINT")).split(" ", 1)[1]) == [
        "fanout"
    ]
    assert next(line for line in lines if line.startswith("USER")) == "USER 10001"
