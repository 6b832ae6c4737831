"""The FastAPI service, asked over HTTP, against the emulator."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess

from .conftest import CONCURRENCY, EXAMPLES

ORDERS = [
    json.loads(line) for line in (EXAMPLES / "orders.jsonl").read_text(encoding="utf-8").splitlines()[:100]
]


@pytest.fixture
def service(price_order: EmulatorProcess) -> Iterator[int]:
    """The service under uvicorn, as its docstring starts it; its port. It ends by itself on SIGTERM."""
    process = subprocess.Popen(
        [sys.executable, "-m", "uvicorn", "--app-dir", str(EXAMPLES), "service:app", "--port", "0"],
        env=os.environ,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    said = []
    try:
        for line in process.stderr:
            said.append(line)
            if match := re.search(r"running on http://127\.0\.0\.1:(\d+)", line):
                yield int(match[1])
                break
        else:
            pytest.fail("".join(said))
        process.send_signal(signal.SIGTERM)
        rest = process.stderr.read()
        process.wait(100)
        assert "Application shutdown complete" in rest
        assert "Traceback" not in rest
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def post(port: int, path: str, body: Any) -> tuple[int, Any]:
    connection = HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())
    finally:
        connection.close()


def test_requests_share_one_budget(service: int, price_order: EmulatorProcess) -> None:
    """Four requests of 25 orders at once: all are priced, and never more calls in flight than allowed."""
    parts = [ORDERS[at : at + 25] for at in range(0, 100, 25)]
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda part: post(service, "/quotes", {"orders": part}), parts))
    assert [status for status, _ in replies] == [200] * 4
    priced = [quote["id"] for _, reply in replies for quote in reply["priced"]]
    failed = [failure for _, reply in replies for failure in reply["failed"]]
    assert set(priced) == {order["id"] for order in ORDERS} - {"order-10042", "order-10097"}
    assert {failure["order"]: failure["error"].partition(":")[0] for failure in failed} == {
        "order-10042": "UnknownCurrencyError",
        "order-10097": "ValueError",
    }
    stats = price_order.stats()
    assert stats["executions"] == 100
    assert 2 <= stats["max_in_flight"] <= CONCURRENCY
    assert not any(stats["throttles"].values())


def test_one_order_and_its_status_codes(service: int) -> None:
    """A price, the function's refusal as 422, and a body that is no order as FastAPI has it."""
    status, quote = post(service, "/quote", ORDERS[0])
    assert (status, quote["id"]) == (200, "order-10001")
    assert post(service, "/quote", ORDERS[41]) == (422, {"detail": "UnknownCurrencyError: no rate for DOGE"})
    assert post(service, "/quotes", {"orders": 7})[0] == 422
