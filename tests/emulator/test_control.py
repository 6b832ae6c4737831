"""The operations beside Invoke, and the emulator's own face, as boto3 and a plain client see them."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError

from fanout.emulator import EmulatorProcess
from fanout.errors import EmulatorError
from tests.emulator.conftest import call, lambda_client, raw


@pytest.fixture
def emulator() -> Iterator[EmulatorProcess]:
    """A fresh emulator for each test: the control plane allows 15 requests a second."""
    with EmulatorProcess(simulate=["name=f,concurrency=50,memory=256,timeout=7s", "name=g"]) as running:
        yield running


@pytest.fixture
def client(emulator: EmulatorProcess) -> Any:
    """A boto3 client of it."""
    return lambda_client(emulator.endpoint_url)


def code_of(caught: pytest.ExceptionInfo[ClientError]) -> tuple[int, str]:
    reply = caught.value.response
    return reply["ResponseMetadata"]["HTTPStatusCode"], reply["Error"]["Code"]


def test_get_function(client: Any) -> None:
    """Configuration, and the reservation only where there is one."""
    with_limit, without = client.get_function(FunctionName="f"), client.get_function(FunctionName="g")
    assert with_limit["Concurrency"] == {"ReservedConcurrentExecutions": 50}
    assert "Concurrency" not in without
    configuration = with_limit["Configuration"]
    assert (configuration["Timeout"], configuration["MemorySize"], configuration["State"]) == (
        7,
        256,
        "Active",
    )
    assert configuration["EphemeralStorage"] == {"Size": 512}
    assert configuration["Version"] == "$LATEST"
    assert client.get_function_configuration(FunctionName="f")["FunctionArn"] == configuration["FunctionArn"]
    with pytest.raises(ClientError) as caught:
        client.get_function(FunctionName="nope")
    assert code_of(caught) == (404, "ResourceNotFoundException")


def test_concurrency_is_read_set_and_taken_away(client: Any) -> None:
    """Put, get and delete; 100 always stay unreserved."""
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 950
    client.put_function_concurrency(FunctionName="g", ReservedConcurrentExecutions=850)
    assert client.get_function_concurrency(FunctionName="g")["ReservedConcurrentExecutions"] == 850
    assert client.get_account_settings()["AccountLimit"]["UnreservedConcurrentExecutions"] == 100
    with pytest.raises(ClientError) as caught:
        client.put_function_concurrency(FunctionName="g", ReservedConcurrentExecutions=851)
    assert code_of(caught) == (400, "InvalidParameterValueException")
    assert "below its minimum value of [100]" in str(caught.value)
    client.delete_function_concurrency(FunctionName="g")
    assert "ReservedConcurrentExecutions" not in client.get_function_concurrency(FunctionName="g")


def test_reserved_zero_stops_a_function(client: Any) -> None:
    """A reservation of 0 throttles every call."""
    client.put_function_concurrency(FunctionName="f", ReservedConcurrentExecutions=0)
    with pytest.raises(ClientError) as caught:
        call(client, "f", {})
    assert caught.value.response["Reason"] == "ReservedFunctionConcurrentInvocationLimitExceeded"


def test_versions_and_aliases(client: Any) -> None:
    """Published versions and aliases can be invoked, moved and removed."""
    assert client.publish_version(FunctionName="f")["Version"] == "1"
    assert client.publish_version(FunctionName="f")["Version"] == "2"
    client.create_alias(FunctionName="f", Name="live", FunctionVersion="1")
    assert call(client, "f:live", {})[0]["ExecutedVersion"] == "1"
    client.update_alias(FunctionName="f", Name="live", FunctionVersion="2")
    assert call(client, "f", {}, Qualifier="live")[0]["ExecutedVersion"] == "2"
    assert [alias["Name"] for alias in client.list_aliases(FunctionName="f")["Aliases"]] == ["live"]
    versions = [
        version["Version"] for version in client.list_versions_by_function(FunctionName="f")["Versions"]
    ]
    assert versions == ["$LATEST", "1", "2"]
    with pytest.raises(ClientError) as caught:
        client.create_alias(FunctionName="f", Name="next", FunctionVersion="9")
    assert code_of(caught) == (404, "ResourceNotFoundException")
    client.delete_alias(FunctionName="f", Name="live")
    with pytest.raises(ClientError) as caught:
        call(client, "f:live", {})
    assert code_of(caught) == (404, "ResourceNotFoundException")


def test_provisioned_concurrency(client: Any) -> None:
    """None is an error of its own; set on an alias it is allocated at once."""
    client.publish_version(FunctionName="g")
    with pytest.raises(ClientError) as caught:
        client.get_provisioned_concurrency_config(FunctionName="g", Qualifier="1")
    assert code_of(caught) == (404, "ProvisionedConcurrencyConfigNotFoundException")
    client.put_provisioned_concurrency_config(
        FunctionName="g", Qualifier="1", ProvisionedConcurrentExecutions=5
    )
    config = client.get_provisioned_concurrency_config(FunctionName="g", Qualifier="1")
    assert (config["AllocatedProvisionedConcurrentExecutions"], config["Status"]) == (5, "READY")
    listed = client.list_provisioned_concurrency_configs(FunctionName="g")["ProvisionedConcurrencyConfigs"]
    assert listed[0]["FunctionArn"].endswith(":function:g:1")
    assert call(client, "g:1", {})[0]["ExecutedVersion"] == "1"
    client.delete_provisioned_concurrency_config(FunctionName="g", Qualifier="1")
    assert (
        client.list_provisioned_concurrency_configs(FunctionName="g")["ProvisionedConcurrencyConfigs"] == []
    )


def test_what_is_not_there_or_not_allowed_is_refused(emulator: EmulatorProcess, client: Any) -> None:
    """Each in Lambda's words, and nothing is changed."""
    client.publish_version(FunctionName="f")
    alias = {"FunctionName": "f", "Name": "live", "FunctionVersion": "1"}
    assert client.create_alias(**alias)["Name"] == "live"
    assert client.get_alias(FunctionName="f", Name="live")["FunctionVersion"] == "1"
    provisioned = {"FunctionName": "f", "Qualifier": "$LATEST", "ProvisionedConcurrentExecutions": 5}
    cases: list[tuple[Callable[[], Any], tuple[int, str]]] = [
        (lambda: client.create_alias(**alias), (409, "ResourceConflictException")),
        (lambda: client.create_alias(**{**alias, "Name": "7"}), (400, "InvalidParameterValueException")),
        (lambda: client.get_alias(FunctionName="f", Name="none"), (404, "ResourceNotFoundException")),
        (lambda: client.update_alias(**{**alias, "Name": "none"}), (404, "ResourceNotFoundException")),
        (
            lambda: client.put_provisioned_concurrency_config(**provisioned),
            (400, "InvalidParameterValueException"),
        ),
        (
            lambda: client.delete_provisioned_concurrency_config(FunctionName="f", Qualifier="1"),
            (404, "ProvisionedConcurrencyConfigNotFoundException"),
        ),
    ]
    for ask, wanted in cases:
        with pytest.raises(ClientError) as caught:
            ask()
        assert code_of(caught) == wanted
    assert b"must be a timestamp" in raw(
        emulator.endpoint_url,
        b"GET /2025-12-01/functions/f/durable-executions?StartedAfter=today HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: close\r\n\r\n",
    )
    body = b'{"DestinationConfig":7}'
    assert b"DestinationConfig must be an object" in raw(
        emulator.endpoint_url,
        b"PUT /2019-09-25/functions/f/event-invoke-config HTTP/1.1\r\nHost: localhost\r\n"
        b"Connection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body),
    )


def test_timeout_and_memory_are_changed(client: Any) -> None:
    """As UpdateFunctionConfiguration does it."""
    changed = client.update_function_configuration(FunctionName="f", Timeout=9, MemorySize=512)
    assert (changed["Timeout"], changed["MemorySize"]) == (9, 512)
    assert client.get_function_configuration(FunctionName="f")["Timeout"] == 9


def test_one_that_has_gone_does_not_answer() -> None:
    """A line with its address, not an error of a socket."""
    with EmulatorProcess(simulate=["name=f"]) as emulator:
        pass
    with pytest.raises(EmulatorError, match=f"the emulator at {emulator.endpoint_url} does not answer: "):
        emulator.stats()


def test_event_invoke_config(client: Any) -> None:
    """None is a 404; what was put is read back, and its ranges are checked."""
    with pytest.raises(ClientError) as caught:
        client.get_function_event_invoke_config(FunctionName="f")
    assert code_of(caught) == (404, "ResourceNotFoundException")
    client.put_function_event_invoke_config(
        FunctionName="f", MaximumRetryAttempts=0, MaximumEventAgeInSeconds=60
    )
    config = client.get_function_event_invoke_config(FunctionName="f")
    assert (config["MaximumRetryAttempts"], config["MaximumEventAgeInSeconds"]) == (0, 60)
    client.delete_function_event_invoke_config(FunctionName="f")
    with pytest.raises(ClientError):
        client.get_function_event_invoke_config(FunctionName="f")


def test_functions_are_listed_in_pages() -> None:
    """50 a page, a marker to the next one, every function once."""
    specs = [f"name=f{number:03d}" for number in range(120)]
    with EmulatorProcess(simulate=specs) as emulator:
        client = lambda_client(emulator.endpoint_url)
        pages = [page["Functions"] for page in client.get_paginator("list_functions").paginate()]
        assert [len(page) for page in pages] == [50, 50, 20]
        names = [function["FunctionName"] for page in pages for function in page]
        assert names == sorted(names)
        assert len(client.list_functions(MaxItems=7)["Functions"]) == 7
        for most in ("0", "10001", "x"):
            request = f"GET /2015-03-31/functions?MaxItems={most} HTTP/1.1\r\nHost: localhost\r\n"
            answer = raw(emulator.endpoint_url, f"{request}Connection: close\r\n\r\n".encode())
            assert answer.startswith(b"HTTP/1.1 400"), most
            assert b"must be from 1 to 10000" in answer


def test_the_control_plane_has_a_rate(emulator: EmulatorProcess, client: Any) -> None:
    """The sixteenth request of a second is refused for the caller's rate; GetFunction has its own 100."""

    def ask_often() -> None:
        for _ in range(40):
            client.get_account_settings()

    with pytest.raises(ClientError) as caught:
        ask_often()
    assert code_of(caught) == (429, "TooManyRequestsException")
    assert caught.value.response["Reason"] == "CallerRateLimitExceeded"
    client.get_function(FunctionName="f")
    assert emulator.stats()["throttles"]["CallerRateLimitExceeded"] > 0


def test_an_unknown_operation_is_a_404(client: Any) -> None:
    """What the emulator does not have, it says."""
    with pytest.raises(ClientError) as caught:
        client.list_layers()
    assert code_of(caught)[0] == 404


def test_limits_change_while_it_runs(emulator: EmulatorProcess, client: Any) -> None:
    """Account, reservation and timeout follow POST /_fanout/limits, and the API tells the new figures."""
    emulator.set_limits(account_concurrency=500)
    emulator.set_limits(function="f", reserved_concurrency=20, timeout_s=9)
    limits = client.get_account_settings()["AccountLimit"]
    assert (limits["ConcurrentExecutions"], limits["UnreservedConcurrentExecutions"]) == (500, 480)
    function = client.get_function(FunctionName="f")
    assert function["Concurrency"]["ReservedConcurrentExecutions"] == 20
    assert function["Configuration"]["Timeout"] == 9
    emulator.set_limits(function="f", reserved_concurrency=None)
    assert "Concurrency" not in client.get_function(FunctionName="f")
    emulator.set_limits(timeout_s=11)
    timeouts = [client.get_function_configuration(FunctionName=name)["Timeout"] for name in ("f", "g")]
    assert timeouts == [11, 11]


def test_operations_can_be_denied(emulator: EmulatorProcess, client: Any) -> None:
    """Denied operations answer 403 AccessDeniedException until the list is emptied."""
    emulator.set_limits(deny=["GetFunction", "GetAccountSettings", "Invoke"])
    for ask in (
        lambda: client.get_function(FunctionName="f"),
        client.get_account_settings,
        lambda: call(client, "f"),
    ):
        with pytest.raises(ClientError) as caught:
            ask()
        assert code_of(caught) == (403, "AccessDeniedException")
    client.get_function_concurrency(FunctionName="f")
    emulator.set_limits(deny=[])
    client.get_function(FunctionName="f")


def test_wrong_limits_are_refused(emulator: EmulatorProcess) -> None:
    """A misspelt or impossible limit changes nothing and says so."""
    for wrong in (
        {"reserved": 1},
        {"reserved_concurrency": -1},
        {"timeout_s": 0},
        {"account_concurrency": "many"},
        {"deny": "Invoke"},
    ):
        with pytest.raises(EmulatorError, match=next(iter(wrong))):
            emulator.set_limits(**wrong)


def test_reset_starts_counting_again(emulator: EmulatorProcess, client: Any) -> None:
    """After a reset the counts are nothing, and the next call is a cold start."""
    call(client, "f", {})
    assert emulator.stats()["executions"] == 1
    emulator.reset()
    stats = emulator.stats()
    assert (stats["executions"], stats["max_in_flight"], stats["requests"]) == (0, 0, 0)
    assert stats["functions"]["f"]["environments"] == 0


JUNK = [
    b"[",
    b"[]",
    b"null",
    b"\xff",
    b"{}",
    b"[" * 9_000,
    b'{"ReservedConcurrentExecutions":"x"}',
    b'{"MaximumRetryAttempts":[]}',
]
ROUTES = [
    "PUT /2017-10-31/functions/f/concurrency",
    "PUT /2019-09-30/functions/f/provisioned-concurrency?Qualifier=1",
    "PUT /2019-09-25/functions/f/event-invoke-config",
    "PUT /2015-03-31/functions/f/configuration",
    "POST /2015-03-31/functions/f/aliases",
    "GET /2015-03-31/functions?MaxItems=x",
    "POST /_fanout/limits",
    "POST /_fanout/nonsense",
    "PATCH /2015-03-31/functions/f",
    "GET /%ff",
]


def test_junk_is_refused_not_a_crash(emulator: EmulatorProcess) -> None:
    """Whatever is sent to an operation, the answer is its own or one of the API's errors."""
    for route, body in itertools.product(ROUTES, JUNK):
        head = f"{route} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        answer = raw(emulator.endpoint_url, f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body)
        assert int(answer.split()[1]) < 500
        assert b"x-amzn-requestid: " in answer.lower()
