"""What others use of the account, and what a run does where that cannot be read."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from collections.abc import AsyncIterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from botocore.exceptions import ClientError

from fanout.aws.metrics import claimed_concurrency
from fanout.config import Leave
from fanout.dispatcher.events import EventLog
from fanout.dispatcher.leave_watch import LeaveWatch
from fanout.quotas import Quotas

NOON = dt.datetime(2026, 11, 28, 12, tzinfo=dt.UTC)
DENIED = ClientError({"Error": {"Code": "AccessDeniedException", "Message": "no"}}, "GetMetricData")


class _Session:
    """An account whose CloudWatch gives these answers, the last one for ever."""

    def __init__(self, *answers: Any) -> None:
        self._answers = list(answers)

    @contextlib.asynccontextmanager
    async def other_client(self, _: str) -> AsyncIterator[Any]:
        yield self

    async def get_metric_data(self, **_: Any) -> Any:
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def figures(value: float) -> Any:
    return {"MetricDataResults": [{"Values": [value], "Timestamps": [NOON]}]}


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (figures(70.0), (70.0, int(NOON.timestamp()))),
        ({}, "GetMetricData has no figure of the last ten minutes"),
        (TimeoutError(), "no answer to GetMetricData within 20 s"),
        (DENIED, "AccessDenied for GetMetricData"),
        (ValueError("x"), "ValueError for GetMetricData"),
    ],
)
async def test_a_figure_or_the_reason_why_there_is_none(answer: Any, found: Any) -> None:
    """The metric is a courtesy: whatever happens to it ends no run."""
    assert await claimed_concurrency(cast(Any, _Session(answer))) == found


@pytest.mark.parametrize(
    ("reserved", "account", "kind", "said"),
    [
        (5, 100, "RequestResponse", "the function's 5 calls at once are reserved for it alone"),
        (None, 100, "Event", "Lambda does not limit Event calls at once"),
        (None, None, "RequestResponse", "the account's concurrency cannot be read"),
    ],
)
def test_leave_says_where_it_cannot_hold(
    caplog: pytest.LogCaptureFixture, reserved: int | None, account: int | None, kind: str, said: str
) -> None:
    """No ceiling then, and one line that says why."""
    quotas = cast(Quotas, SimpleNamespace(reserved=reserved, account=account))
    with caplog.at_level(logging.WARNING):
        watch = LeaveWatch(Leave(fixed=10), quotas, invocation_type=kind, events=EventLog("f"))
    assert watch.ceiling is None
    assert said in caplog.text


@pytest.mark.looptime
async def test_leave_goes_on_while_nothing_can_be_read(caplog: pytest.LogCaptureFixture) -> None:
    """Others are taken to use nothing; that is said once; the first figure counts as ever."""
    watch = LeaveWatch(
        Leave(fixed=10),
        cast(Quotas, SimpleNamespace(reserved=None, account=100)),
        invocation_type="RequestResponse",
        events=EventLog("f"),
    )
    ceilings: list[int | None] = []
    with caplog.at_level(logging.WARNING):
        keeping = asyncio.ensure_future(
            watch.keep(
                cast(Any, _Session(DENIED, DENIED, figures(70.0))),
                own_calls=lambda: 0,
                account=lambda: 100,
                on_read=lambda: ceilings.append(watch.ceiling),
            )
        )
        await asyncio.sleep(150)
    keeping.cancel()
    assert ceilings == [90, 90, 20]
    assert caplog.text.count("others are assumed to use nothing") == 1
