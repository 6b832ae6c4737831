"""The function that calls another, where Lambda would run it: AWS's runtime client in a read-only jail."""

from __future__ import annotations

import base64
import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from benchmarks.lambda_package import bootstrap, can_jail, make_package, zipped_bytes

from fanout.emulator import EmulatorProcess
from tests.emulator.conftest import call, lambda_client

from .conftest import EXAMPLES

MOST_ZIPPED_BYTES = 30_000_000
MEMORY_MB = 128


pytestmark = [pytest.mark.slow, pytest.mark.skipif(not can_jail(), reason="no mount namespaces here")]


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example, fanout and what it needs; Lambda brings its runtime client."""
    pytest.importorskip("awslambdaric")
    folder = tmp_path_factory.mktemp("package")
    make_package(folder, "lambda-fanout")
    size = zipped_bytes(folder, folder.with_suffix(".zip"))
    assert size < MOST_ZIPPED_BYTES, f"{size / 1e6:.1f} MB zipped"
    make_package(folder, "awslambdaric")
    shutil.copy(EXAMPLES / "in_lambda.py", folder)
    records = [json.dumps({"n": number}) for number in range(300)]
    (folder / "records.jsonl").write_text("\n".join(records))
    return folder


@contextmanager
def jailed(package: Path, handler: str, *, timeout_s: int) -> Iterator[EmulatorProcess]:
    """The function in the jail."""
    with EmulatorProcess(
        handler=f"{package / 'in_lambda.py'}:{handler}",
        timeout_s=timeout_s,
        extra=["--bootstrap", bootstrap(package), "--no-init-check", "--memory", str(MEMORY_MB)],
    ) as running:
        yield running


@pytest.fixture
def workers(monkeypatch: pytest.MonkeyPatch) -> Iterator[EmulatorProcess]:
    """The functions that are called, and an environment that leads there."""
    with EmulatorProcess(simulate=["name=worker,latency=5ms", "name=slow,latency=30s"]) as running:
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", running.endpoint_url)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "local")
        yield running


def test_records_of_an_event(package: Path, workers: EmulatorProcess) -> None:
    """All of them, event after event in one environment, though nothing but /tmp can be written."""
    with jailed(package, "handler", timeout_s=30) as outer:
        client = lambda_client(outer.endpoint_url)
        event = {"records": [{"n": number} for number in range(200)]}
        for _ in range(2):
            _, answer = call(client, "in_lambda", event)
            assert answer == {"succeeded": 200, "left": []}
        report = client.invoke(FunctionName="in_lambda", Payload=json.dumps(event), LogType="Tail")
    log = base64.b64decode(report["LogResult"]).decode()
    used = re.search(r"Max Memory Used: (\d+) MB", log)
    assert used is not None, log
    assert int(used[1]) <= MEMORY_MB


def test_an_input_by_its_place(package: Path, workers: EmulatorProcess) -> None:
    """The run lies in /tmp, and what an event left there does not disturb the next."""
    with jailed(package, "handle_file", timeout_s=30) as outer:
        for _ in range(2):
            _, answer = call(lambda_client(outer.endpoint_url), "in_lambda", {"input": "/opt/records.jsonl"})
            assert answer["state"] == "finished"
            assert answer["counts"]["succeeded"] == 300
            assert answer["pending"] == 0


def test_out_of_time(package: Path, workers: EmulatorProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both stop before Lambda does, and say what is left."""
    monkeypatch.setenv("WORKER", "slow")
    with jailed(package, "handler", timeout_s=8) as outer:
        _, answer = call(lambda_client(outer.endpoint_url), "in_lambda", {"records": [{"n": 1}, {"n": 2}]})
        assert answer == {"succeeded": 0, "left": [{"n": 1}, {"n": 2}]}
