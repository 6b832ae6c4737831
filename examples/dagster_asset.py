"""A Dagster asset: one Lambda call per record of a day's file, as a partition that can be repeated.

The run directory is named by asset and partition, on a disk that every run sees. So a repeated step, and
a materialization that is launched again, go on where the last one stopped: what has an outcome is not
sent again. To begin a day anew, remove its directory.
"""

import os
from pathlib import Path

from dagster import (
    AssetExecutionContext,
    DailyPartitionsDefinition,
    Definitions,
    Failure,
    MaterializeResult,
    MetadataValue,
    RetryRequested,
    asset,
)

import fanout

DATA = Path(os.environ.get("ORDERS_DIR", "/data"))
STOPPED = 5  # from here on: a deadline, a spending cap, an outage, a signal; going on helps


@asset(partitions_def=DailyPartitionsDefinition(start_date="2026-11-01"))
def priced_orders(context: AssetExecutionContext) -> MaterializeResult:
    """The prices of a day's orders: one JSON line each in the run directory."""
    out = DATA / "runs" / f"priced_orders-{context.partition_key}"
    source = DATA / f"orders-{context.partition_key}.jsonl"
    report = fanout.run("price-order", source, out=out, resume=True, key="id", retries=5, deadline=7200)
    shown = {
        "run_dir": MetadataValue.path(str(out)),
        "records": report.records,
        "succeeded": report.counts.get("succeeded", 0),
        "summary": MetadataValue.md(f"```\n{report.render()}\n```"),
    }
    if report.exit_code >= STOPPED:
        context.log.warning(report.render())
        raise RetryRequested(max_retries=3, seconds_to_wait=60)
    if not report.ok:
        raise Failure(f"fanout ended with {report.exit_code}", metadata=shown, allow_retries=False)
    return MaterializeResult(metadata=shown)


defs = Definitions(assets=[priced_orders])
