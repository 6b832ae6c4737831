"""A Prefect flow: one Lambda call per record, as a task that is repeated where that helps.

The run directory is named by flow run and task, on a disk that every worker sees. So a repeated task, or
a flow run that is retried, goes on where it stopped: what has an outcome is not sent again.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from prefect import flow, task
from prefect.runtime import flow_run

import fanout

STOPPED = 5  # from here on: a deadline, a spending cap, an outage, a signal; going on helps


class NotFinished(Exception):
    """The run stopped before the end of its input, and can go on."""


def is_unfinished(_task: Any, _task_run: Any, state: Any) -> bool:
    """Whether repeating helps: not for records that failed, nor for a function that refuses every call."""
    return isinstance(state.result(raise_on_failure=False), NotFinished)


@task(retries=3, retry_delay_seconds=60, retry_condition_fn=is_unfinished)
def fan_out(function: str, source: str, runs_dir: str, **options: Any) -> dict[str, Any]:
    """Call ``function`` for each record of ``source``; returns the summary. Options are fanout.run's."""
    out = Path(runs_dir, f"{flow_run.flow_name}-{flow_run.id}-{function}")
    report = fanout.run(function, source, out=out, resume=True, **options)
    print(report.render())
    if report.exit_code >= STOPPED:
        raise NotFinished(f"stopped by {report.halted_by or report.state}; what became of each record: {out}")
    report.raise_for_failures()
    return report.to_dict()


@flow(log_prints=True)
def price_orders(source: str, runs_dir: str = "runs") -> dict[str, int]:
    """Price a file of orders; returns how many records ended in which status."""
    summary = fan_out("price-order", source, runs_dir, key="id", retries=5, deadline=7200)
    counts: dict[str, int] = summary["counts"]
    return counts


if __name__ == "__main__":
    price_orders("orders.jsonl")
