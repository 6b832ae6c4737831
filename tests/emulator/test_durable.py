"""Durable executions by name, as boto3 sees them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError, ConnectionClosedError

from fanout.emulator import EmulatorProcess
from tests.emulator.conftest import call, lambda_client

NAME = "f:$LATEST"
UNKNOWN = "arn:aws:lambda:us-east-1:123456789012:function:f:1/durable-execution/a/b"


@pytest.fixture(scope="module")
def emulator() -> Iterator[EmulatorProcess]:
    """Durable functions of several fates."""
    specs = [
        "name=f,durable=1h,versions=1",
        "name=bad,durable=1h,error_rate=1,error_message=no",
        "name=slow,durable=1s,latency=5s",
        "name=lost,durable=1h,lost_rate=1,latency=10ms",
        "name=brief,durable=1h,retention=0s",
        "name=long,durable=10h,latency=1h,timeout=1s",
        "name=plain",
    ]
    with EmulatorProcess(simulate=specs, extra=["--event-wait-scale", "0.001"]) as running:
        yield running


@pytest.fixture(scope="module")
def client(emulator: EmulatorProcess) -> Any:
    """A boto3 client of them."""
    return lambda_client(emulator.endpoint_url)


def executions(emulator: EmulatorProcess, name: str) -> int:
    count: int = emulator.stats()["functions"][name]["executions"]
    return count


def ended(client: Any, arn: str) -> Any:
    """Wait until an execution has ended."""
    give_up_at_s = time.monotonic() + 60
    while (found := client.get_durable_execution(DurableExecutionArn=arn))["Status"] == "RUNNING":
        assert time.monotonic() < give_up_at_s
        time.sleep(0.1)
    return found


def test_one_name_is_one_execution(emulator: EmulatorProcess, client: Any) -> None:
    """Same name and payload: the same ARN and result, and nothing runs again. Other payload: 409."""
    before = executions(emulator, "f")
    replies = [call(client, NAME, {"n": 1}, DurableExecutionName="order-1") for _ in range(3)]
    assert len({reply["DurableExecutionArn"] for reply, _ in replies}) == 1
    assert ":function:f:$LATEST/durable-execution/order-1/" in replies[0][0]["DurableExecutionArn"]
    assert [answer for _, answer in replies] == [{"n": 1}] * 3
    assert executions(emulator, "f") == before + 1
    with pytest.raises(ClientError) as caught:
        call(client, NAME, {"n": 2}, DurableExecutionName="order-1")
    assert caught.value.response["Error"]["Code"] == "DurableExecutionAlreadyStartedException"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 409


def test_without_a_name_each_call_is_its_own(client: Any) -> None:
    """Two calls, two executions."""
    arns = {call(client, NAME, {"n": 1})[0]["DurableExecutionArn"] for _ in range(2)}
    assert len(arns) == 2


def test_a_qualifier_is_needed(client: Any) -> None:
    """As on Lambda: a durable function is called by version, alias or $LATEST."""
    with pytest.raises(ClientError) as caught:
        call(client, "f", {})
    assert caught.value.response["Error"]["Code"] == "InvalidParameterValueException"
    assert call(client, "f", {"n": 1}, Qualifier="1")[0]["ExecutedVersion"] == "1"


def test_a_lost_reply_is_had_again_by_name(emulator: EmulatorProcess, client: Any) -> None:
    """The connection breaks, the execution does not: it ran once, whatever is sent again."""
    for _ in range(3):
        with pytest.raises(ConnectionClosedError):
            call(client, "lost:$LATEST", {"n": 1}, DurableExecutionName="x")
    assert executions(emulator, "lost") == 1
    (found,) = client.list_durable_executions_by_function(FunctionName="lost")["DurableExecutions"]
    assert found["Status"] == "SUCCEEDED"


def test_failures_are_kept_too(emulator: EmulatorProcess, client: Any) -> None:
    """A failed execution is returned as it ended; GetDurableExecution has its error."""
    for _ in range(2):
        reply, error = call(client, "bad:$LATEST", {}, DurableExecutionName="x")
        assert (reply["FunctionError"], error["errorMessage"]) == ("Unhandled", "no")
    assert executions(emulator, "bad") == 1
    found = client.get_durable_execution(DurableExecutionArn=reply["DurableExecutionArn"])
    assert found["Status"] == "FAILED"
    assert (found["Error"]["ErrorType"], found["Error"]["ErrorMessage"]) == ("SimulatedError", "no")
    assert "Result" not in found


def test_event_executions_are_listed_and_read(client: Any) -> None:
    """The 202 has the ARN; the execution is found under it, with what it was given and returned."""
    reply, _ = call(client, NAME, {"n": 9}, InvocationType="Event", DurableExecutionName="event-1")
    found = ended(client, reply["DurableExecutionArn"])
    assert (found["Status"], found["InputPayload"], found["Result"]) == ("SUCCEEDED", '{"n": 9}', '{"n": 9}')
    assert (found["DurableExecutionName"], found["Version"]) == ("event-1", "$LATEST")
    assert found["StartTimestamp"] <= found["EndTimestamp"]
    configuration = client.get_function(FunctionName="f")["Configuration"]
    assert configuration["DurableConfig"] == {"ExecutionTimeout": 3600, "RetentionPeriodInDays": 14}
    assert "DurableConfig" not in client.get_function(FunctionName="plain")["Configuration"]


def test_executions_end_by_their_own_timeout(client: Any) -> None:
    """Not by the function's, which bounds one invocation: one of an hour runs on."""
    slow, _ = call(client, "slow:$LATEST", {}, InvocationType="Event")
    long, _ = call(client, "long:$LATEST", {}, InvocationType="Event")
    assert ended(client, slow["DurableExecutionArn"])["Status"] == "TIMED_OUT"
    found = client.get_durable_execution(DurableExecutionArn=long["DurableExecutionArn"])
    assert found["Status"] == "RUNNING"
    assert "EndTimestamp" not in found


def test_a_name_is_free_again_after_the_retention(emulator: EmulatorProcess, client: Any) -> None:
    """Then the same name, with any payload, starts another execution."""
    before = executions(emulator, "brief")
    for payload in ({"n": 1}, {"n": 2}):
        call(client, "brief:$LATEST", payload, DurableExecutionName="x")
        time.sleep(0.01)
    assert executions(emulator, "brief") == before + 2


def test_lists_are_filtered_and_paged() -> None:
    """By status, time and name; forwards and backwards; a page at a time."""
    with EmulatorProcess(simulate=["name=f,durable=1h"]) as emulator:
        client = lambda_client(emulator.endpoint_url)
        for number in range(5):
            call(client, NAME, {}, DurableExecutionName=f"n{number}")

        def names(**options: Any) -> list[str]:
            pages = client.get_paginator("list_durable_executions_by_function")
            return [
                one["DurableExecutionName"]
                for page in pages.paginate(FunctionName="f", **options)
                for one in page["DurableExecutions"]
            ]

        everything = [f"n{number}" for number in range(5)]
        assert names(PaginationConfig={"PageSize": 2}) == everything
        assert names(ReverseOrder=True) == everything[::-1]
        assert names(Statuses=["SUCCEEDED", "FAILED"]) == everything
        assert names(Statuses=["RUNNING"]) == []
        assert names(DurableExecutionName="n3") == ["n3"]
        later = datetime.now(UTC) + timedelta(hours=1)
        assert names(StartedBefore=later) == everything
        assert names(StartedAfter=later) == []
        for wrong in ({"Marker": "n3"}, {"Statuses": ["SLEEPING"]}):
            with pytest.raises(ClientError) as caught:
                client.list_durable_executions_by_function(FunctionName="f", **wrong)
            assert next(iter(wrong)) in str(caught.value)
            assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 400
        with pytest.raises(ClientError) as caught:
            client.get_durable_execution(DurableExecutionArn=UNKNOWN)
        assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
