"""--leave: the ceiling falls and rises with what others use, and never with what the run uses itself."""

from __future__ import annotations

import asyncio
import datetime as dt

import boto3
import pytest
from moto.server import ThreadedMotoServer

import fanout
from fanout.config import Leave, Options, parse_leave
from fanout.emulator import EmulatorProcess
from fanout.errors import ConfigError
from fanout.quotas.leave import Claimed, OwnUse, leave_ceiling

ACCOUNT = 1_000


def test_the_runs_own_calls_are_not_other_peoples() -> None:
    """Taken for others, they would lower the budget minute by minute until nothing was left."""
    own = OwnUse()
    ceiling = leave_ceiling(ACCOUNT, Leave(fixed=200), None, own)
    for minute in range(20):
        own.note(ceiling, minute * 60 + 5.0)
        own.note(ceiling // 2, minute * 60 + 50.0)
        ceiling = leave_ceiling(ACCOUNT, Leave(fixed=200), Claimed(ceiling + 100.0, minute * 60), own)
        assert ceiling == 700


def test_it_falls_and_rises_with_what_others_use() -> None:
    """And is never below one call."""
    own = OwnUse()
    own.note(300, 0.0)
    used = [300.0, 800.0, 2_000.0, 350.0]
    assert [leave_ceiling(ACCOUNT, parse_leave("10%"), Claimed(each, 0), own) for each in used] == [
        900,
        400,
        1,
        850,
    ]


def test_a_minute_that_was_not_seen_counts_as_others() -> None:
    """Before the run began all calls were somebody else's."""
    own = OwnUse()
    own.note(500, 600.0)
    assert leave_ceiling(ACCOUNT, Leave(fixed=0), Claimed(400.0, 540), own) == 600


@pytest.mark.parametrize("value", ["", "-1", -1, "100%", "x", True, "1.5", "-5%"])
def test_what_is_no_share_is_refused(value: int | str) -> None:
    """Naming the option and what is allowed."""
    with pytest.raises(ConfigError, match=r"leave is .* a whole number from 0"):
        Options(function="f", leave=value)


async def test_a_run_leaves_to_others_what_it_is_told_to(monkeypatch: pytest.MonkeyPatch) -> None:
    """The account's 1,000, without the 300 that CloudWatch says others use, and without the 200."""
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_CLOUDWATCH", url)
    now = dt.datetime.now(dt.UTC)
    boto3.client("cloudwatch", region_name="us-east-1", endpoint_url=url).put_metric_data(
        Namespace="AWS/Lambda",
        MetricData=[
            {
                "MetricName": "ClaimedAccountConcurrency",
                "Timestamp": now - dt.timedelta(minutes=2),
                "Value": 300.0,
            }
        ],
    )
    try:
        with EmulatorProcess(simulate=["name=f,latency=1ms"]) as lambda_:
            async with fanout.Dispatcher("f", endpoint_url=lambda_.endpoint_url, leave=200) as dispatcher:
                assert dispatcher.budget.limit.budget == 800  # until the metric is read
                async with asyncio.timeout(100):
                    while dispatcher.budget.limit.budget == 800:
                        assert (await dispatcher.invoke({})).ok
                        await asyncio.sleep(0.05)
                assert dispatcher.budget.limit.budget == 500
    finally:
        server.stop()


async def test_where_it_has_no_meaning_it_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is reserved for one function nobody else can use."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    monkeypatch.setenv("AWS_REGION", "us-east-1")
    with EmulatorProcess(simulate=["name=f,latency=1ms,concurrency=30"]) as lambda_:
        async with fanout.Dispatcher("f", endpoint_url=lambda_.endpoint_url, leave="50%") as dispatcher:
            assert dispatcher.budget.limit.budget == 30
    assert "--leave has no meaning here: the function's 30 calls at once are reserved" in caplog.text
