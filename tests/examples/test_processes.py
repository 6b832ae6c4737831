"""Services of several processes: a Celery worker and gunicorn, each process with a dispatcher of its own."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess

from .conftest import CONCURRENCY, EXAMPLES
from .test_service import post

ORDERS = [
    json.loads(line) for line in (EXAMPLES / "orders.jsonl").read_text(encoding="utf-8").splitlines()[:30]
]
pytestmark = pytest.mark.slow


@contextmanager
def started(command: list[str], ready: str, log: Path) -> Iterator[list[str]]:
    """A service once it says that it is ready; the groups of what it said. It ends by itself on SIGTERM."""
    with log.open("w") as out, subprocess.Popen(command, stdout=out, stderr=out) as process:
        try:
            for _ in range(600):
                if found := re.search(ready, log.read_text()):
                    break
                try:
                    process.wait(0.1)
                except subprocess.TimeoutExpired:
                    continue
                pytest.fail(log.read_text())
            else:
                pytest.fail(log.read_text())
            yield list(found.groups())
            process.send_signal(signal.SIGTERM)
            process.wait(100)
        finally:
            process.kill()
    assert "Traceback" not in log.read_text()


def test_gunicorn_workers(price_order: EmulatorProcess, tmp_path: Path) -> None:
    """Forked after the import, two workers price all orders under one budget, and end in order."""
    pytest.importorskip("gunicorn")
    command = [sys.executable, "-m", "gunicorn", "--chdir", str(EXAMPLES), "wsgi_service:app"]
    options = ["--workers", "2", "--threads", "8", "--preload", "--bind", "127.0.0.1:0"]
    with started(
        [*command, *options], r"at: http://127\.0\.0\.1:(\d+)[^$]*Booting[^$]*Booting", tmp_path / "log"
    ) as (port,):
        with ThreadPoolExecutor(16) as pool:
            replies = list(pool.map(lambda order: post(int(port), "/", order), ORDERS))
        assert {status for status, _ in replies} == {200}
        assert {reply["id"] for _, reply in replies} == {order["id"] for order in ORDERS}
        assert post(int(port), "/", {"id": "none"})[0] == 422
    assert price_order.stats()["max_in_flight"] <= CONCURRENCY


def test_a_celery_worker(
    price_order: EmulatorProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its processes open their dispatchers after the fork, price all orders, and close on SIGTERM."""
    pytest.importorskip("celery")
    for name in ("broker", "results", "control"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("CELERY_BROKER_URL", "filesystem://")
    monkeypatch.setenv("CELERY_RESULT_BACKEND", f"file://{tmp_path / 'results'}")
    folders = {"data_folder_in": "broker", "data_folder_out": "broker", "control_folder": "control"}
    transport = {name: str(tmp_path / folder) for name, folder in folders.items()}
    (tmp_path / "celery_settings.py").write_text(
        f"import celery_tasks\ncelery_tasks.app.conf.broker_transport_options = {transport!r}\n"
        "app, price = celery_tasks.app, celery_tasks.price\n"
    )
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(EXAMPLES), str(tmp_path)]))
    worker = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "celery_settings",
        "worker",
        "--concurrency",
        "2",
        "-l",
        "INFO",
    ]
    client = (
        "import json, sys\nfrom celery_settings import price\n"
        "calls = [price.delay(order) for order in json.load(sys.stdin)]\n"
        "print(json.dumps([call.get(timeout=60) for call in calls]))\n"
    )
    with started(worker, r" ready\.", tmp_path / "log"):
        done = subprocess.run(
            [sys.executable, "-c", client],
            input=json.dumps(ORDERS),
            capture_output=True,
            text=True,
            timeout=100,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    prices: list[dict[str, Any]] = json.loads(done.stdout)
    assert [price["id"] for price in prices] == [order["id"] for order in ORDERS]
    assert price_order.stats()["max_in_flight"] <= CONCURRENCY


def test_a_scheduler_and_two_workers(price_order: EmulatorProcess, tmp_path: Path) -> None:
    """The three commands, from an empty folder: every order is priced once, and nothing runs on."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = str(free.getsockname()[1])
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["sh", str(EXAMPLES / "workers.sh"), "price-order", str(EXAMPLES / "orders.jsonl")]
    environment = {**os.environ, "PATH": path, "PORT": port}
    ran = subprocess.run(
        command,
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
        check=False,
    )
    assert "Traceback" not in ran.stderr
    assert ran.returncode in (0, 1), ran.stderr
    (outcomes,) = tmp_path.glob("runs/*/outcomes.jsonl")
    assert len(outcomes.read_text().splitlines()) == len((EXAMPLES / "orders.jsonl").read_text().splitlines())
    assert set(price_order.stats()["executions_by_key"].values()) == {1}
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(port)), timeout=5)
