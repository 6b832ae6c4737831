"""Event calls: answered at once, tried again, and told as destination records."""

from __future__ import annotations

from typing import Any

from fanout.emulator import EmulatorProcess
from tests.cli.running import wait_until
from tests.emulator.conftest import lambda_client


def send(client: Any, name: str, payload: bytes) -> str:
    reply = client.invoke(FunctionName=name, InvocationType="Event", Payload=payload)
    assert reply["StatusCode"] == 202
    request_id: str = reply["ResponseMetadata"]["RequestId"]
    return request_id


def records(emulator: EmulatorProcess, count: int) -> list[dict[str, Any]]:
    """Wait until so many events have ended."""
    wait_until(lambda: len(emulator.stats()["events"]["results"]) >= count)
    results: list[dict[str, Any]] = emulator.stats()["events"]["results"]
    return results


def test_events_end_as_destination_records() -> None:
    """Success, and failure after two retries whose waits are scaled; keyed by the 202's request id."""
    specs = ['name=good,output={"ok":true}', "name=bad,error_rate=1"]
    with EmulatorProcess(
        simulate=specs, extra=["--event-wait-scale", "0.001", "--count-by", "id"]
    ) as emulator:
        client = lambda_client(emulator.endpoint_url)
        good, bad = send(client, "good", b'{"id":"a"}'), send(client, "bad", b'{"id":"b"}')
        by_id = {record["requestContext"]["requestId"]: record for record in records(emulator, 2)}
        success, failure = by_id[good], by_id[bad]
        assert success["requestContext"]["condition"] == "Success"
        assert success["requestContext"]["functionArn"].endswith(":function:good:$LATEST")
        assert success["responseContext"] == {"statusCode": 200, "executedVersion": "$LATEST"}
        assert (success["requestPayload"], success["responsePayload"]) == ({"id": "a"}, {"ok": True})
        assert failure["requestContext"]["condition"] == "RetriesExhausted"
        assert failure["requestContext"]["approximateInvokeCount"] == 3
        assert failure["responseContext"]["functionError"] == "Unhandled"
        assert failure["responsePayload"]["errorType"] == "SimulatedError"
        assert emulator.stats()["executions_by_key"] == {"a": 1, "b": 3}
        assert emulator.stats()["events"]["conditions"] == {"Success": 1, "RetriesExhausted": 1}


def test_throttled_events_wait_in_the_queue() -> None:
    """More events than concurrency: all run in the end, never above the limit."""
    with EmulatorProcess(
        simulate=["name=f,latency=2s"], concurrency=2, extra=["--event-wait-scale", "0.01"]
    ) as emulator:
        client = lambda_client(emulator.endpoint_url)
        for number in range(4):  # all of them while the first two run, however busy the machine
            send(client, "f", str(number).encode())
        assert len(records(emulator, 4)) == 4
        stats = emulator.stats()
        assert stats["functions"]["f"]["max_in_flight"] == 2
        assert stats["events"]["conditions"] == {"Success": 4}
        assert stats["throttles"]["ReservedFunctionConcurrentInvocationLimitExceeded"] > 0


def test_the_functions_own_retry_settings_count() -> None:
    """MaximumRetryAttempts 0 means one attempt; and none is made that would come after the event's age."""
    specs = ["name=bad,error_rate=1", "name=old,error_rate=1,event_retries=1,event_age=60s"]
    with EmulatorProcess(simulate=specs, extra=["--event-wait-scale", "0.001"]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        client.put_function_event_invoke_config(FunctionName="bad", MaximumRetryAttempts=0)
        send(client, "bad", b"{}")
        assert records(emulator, 1)[0]["requestContext"]["approximateInvokeCount"] == 1
        config = client.get_function_event_invoke_config(FunctionName="old")
        assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (1, 60)
        send(client, "old", b"{}")
        context = records(emulator, 2)[1]["requestContext"]
        assert (context["condition"], context["approximateInvokeCount"]) == ("EventAgeExceeded", 1)


def test_zero_reserved_concurrency_drops_events() -> None:
    """With nothing reserved the event never runs, and its record has no response."""
    with EmulatorProcess(simulate=["name=f"], concurrency=0) as emulator:
        send(lambda_client(emulator.endpoint_url), "f", b"{}")
        (record,) = records(emulator, 1)
        assert record["requestContext"]["condition"] == "ZeroReservedConcurrency"
        assert "responseContext" not in record
        assert "responsePayload" not in record


def test_old_events_are_dropped() -> None:
    """An event that cannot run within its maximum age ends as EventAgeExceeded."""
    specs = ["name=f,latency=3s"]
    with EmulatorProcess(simulate=specs, concurrency=1, extra=["--event-wait-scale", "0.005"]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        client.put_function_event_invoke_config(FunctionName="f", MaximumEventAgeInSeconds=60)
        send(client, "f", b"1")
        send(client, "f", b"2")
        assert records(emulator, 1)[0]["requestContext"]["condition"] == "EventAgeExceeded"
