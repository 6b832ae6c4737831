"""CloudWatch: how much of the account's concurrency is claimed, by the session's credentials."""

from __future__ import annotations

import asyncio
import datetime as dt
from typing import Any

from fanout.aws.session import AwsSession

_LOOKED_BACK = dt.timedelta(minutes=10)
_TIMEOUT_S = 20.0


async def claimed_concurrency(session: AwsSession) -> tuple[float, int] | str:
    """The last known minute's greatest ClaimedAccountConcurrency and its begin, or why there is none.

    One GetMetricData for one metric: a cent for a thousand.
    """
    now = dt.datetime.now(dt.UTC)
    query = {
        "Id": "claimed",
        "MetricStat": {
            "Metric": {"Namespace": "AWS/Lambda", "MetricName": "ClaimedAccountConcurrency"},
            "Period": 60,
            "Stat": "Maximum",
        },
    }
    try:
        async with asyncio.timeout(_TIMEOUT_S), session.other_client("cloudwatch") as client:
            reply: Any = await client.get_metric_data(
                MetricDataQueries=[query],
                StartTime=now - _LOOKED_BACK,
                EndTime=now,
                ScanBy="TimestampDescending",
            )
    except TimeoutError:
        return f"no answer to GetMetricData within {_TIMEOUT_S:g} s"
    except Exception as error:  # noqa: BLE001 - an optional API: the run goes on by an assumption
        code = getattr(error, "response", {}).get("Error", {}).get("Code") or type(error).__name__
        return f"{str(code).removesuffix('Exception')} for GetMetricData"
    results = reply.get("MetricDataResults") or [{}]
    values, times = results[0].get("Values") or [], results[0].get("Timestamps") or []
    if not values or not times:
        return "GetMetricData has no figure of the last ten minutes"
    return float(values[0]), int(times[0].timestamp())
