"""Functions that are not there for a while: pending, idle, failed, out of reach."""

from __future__ import annotations

import socket
import threading
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fanout.emulator import EmulatorProcess
from fanout.emulator.lifecycle import Lifecycle, Window
from tests.cli.running import wait_until
from tests.emulator.conftest import call, lambda_client


def test_a_new_function_is_pending_then_active() -> None:
    """From the start, for as long as was asked, whether it is called or not."""
    life = Lifecycle(100.0, pending_s=8)
    assert (life.state(100.0).name, life.state(100.0).code) == ("Pending", "Creating")
    assert life.on_call(107.9).name == "Pending"
    assert life.on_call(108.0).name == "Active"


def test_an_idle_function_wakes_at_its_first_call() -> None:
    """Inactive until then, however long; pending after it; then active for good."""
    life = Lifecycle(0.0, inactive_s=8)
    assert (life.state(1e6).name, life.state(1e6).code) == ("Inactive", "Idle")
    assert life.on_call(1e6).name == "Pending"
    assert life.on_call(1e6 + 7).name == "Pending"
    assert life.on_call(1e6 + 8).name == "Active"
    assert life.state(1e7).name == "Active"


def test_a_failed_function_stays_so() -> None:
    """With the reason code that was asked for."""
    life = Lifecycle(0.0, failed="InvalidSubnet")
    assert life.on_call(1e9) == life.state(0.0)
    assert (life.state(0.0).name, life.state(0.0).code) == ("Failed", "InvalidSubnet")


def test_outages_count_from_the_first_call() -> None:
    """Half open: the second at which it ends is served."""
    life = Lifecycle(0.0, outages=[Window(5, 10), Window(20, 1)])
    assert not life.is_out(7)
    life.on_call(100)
    out = [moment for moment in range(100, 125) if life.is_out(moment)]
    assert out == [*range(105, 115), 120]


def refusal(client: Any, name: str) -> tuple[int, str, str]:
    with pytest.raises(ClientError) as caught:
        call(client, name, {})
    reply = caught.value.response
    return reply["ResponseMetadata"]["HTTPStatusCode"], reply["Error"]["Code"], reply["Error"]["Message"]


def test_callers_meet_the_state() -> None:
    """409 with Lambda's words while it is not active, 503 in an outage; GetFunction has state and reason."""
    specs = ["name=new,pending=1h", "name=idle,inactive=1h", "name=bad,failed=InvalidSubnet"]
    specs += ["name=away,outage=1h@0s", "name=fine"]
    with EmulatorProcess(simulate=specs) as emulator:
        client = lambda_client(emulator.endpoint_url)
        expected = {"new": "Pending", "idle": "Inactive", "bad": "Failed", "away": "Active", "fine": "Active"}
        shown = {name: client.get_function(FunctionName=name)["Configuration"] for name in expected}
        assert {name: configuration["State"] for name, configuration in shown.items()} == expected
        assert shown["bad"]["StateReasonCode"] == "InvalidSubnet"
        assert "StateReasonCode" not in shown["fine"]
        for name, state in (("new", "Pending"), ("idle", "Pending"), ("bad", "Failed")):
            status, code, message = refusal(client, name)
            assert (status, code) == (409, "ResourceConflictException")
            assert message.endswith(f"in the following state: {state}")
        assert refusal(client, "away")[0] == 503
        assert emulator.stats()["executions"] == 0


def test_connections_are_refused_for_a_while() -> None:
    """Open connections break, new ones are refused, and the same port serves again afterwards."""
    specs = ["name=f", "name=gone,latency=30s,refuse=1500ms@100ms"]
    with EmulatorProcess(simulate=specs) as emulator:
        host, port = emulator.endpoint_url.removeprefix("http://").split(":")
        broken = threading.Event()

        def wait_for_reply() -> None:
            try:
                call(lambda_client(emulator.endpoint_url), "gone", {})
            except Exception:
                broken.set()

        threading.Thread(target=wait_for_reply, daemon=True).start()

        def is_refused() -> bool:
            try:
                socket.create_connection((host, int(port)), timeout=60).close()
            except ConnectionRefusedError:
                return True
            return False

        assert broken.wait(60)
        wait_until(is_refused)
        wait_until(lambda: not is_refused())
        assert call(lambda_client(emulator.endpoint_url), "f", {"a": 1})[1] == {"a": 1}
