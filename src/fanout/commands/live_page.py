"""A run with its live page: the page opens before the run, and closes with it."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from fanout.quantities import count_of
from fanout.runs import Run
from fanout.runs.audience import Audience, Stoppable
from fanout.stats import Snapshot

if TYPE_CHECKING:
    from fanout.report.summary import RunReport

Begin = Callable[[Audience], "Coroutine[Any, Any, RunReport]"]


async def with_live_page(begin: Begin, audience: Audience, *, port: int, title: str) -> RunReport:
    """Do the run that ``begin`` begins, with a page at ``port`` of this machine; 0 takes a free one.

    The address goes to ``audience.say``. Raises ConfigError for a port that is taken.
    """
    from fanout.dashboard import Dashboard

    dashboard = Dashboard(title, port=port)

    def on_snapshot(snapshot: Snapshot) -> None:
        dashboard.update(snapshot)
        if audience.on_snapshot is not None:
            audience.on_snapshot(snapshot)

    def attach(run: Stoppable) -> Callable[[], None]:
        if isinstance(run, Run):  # not the collection after it
            dashboard.attach(run, run.tune)
        return (lambda: None) if audience.attach is None else audience.attach(run)

    async with dashboard:
        audience.say(f"dashboard: {dashboard.address}")
        report = await begin(replace(audience, on_snapshot=on_snapshot, attach=attach))
        stats, where = report.stats, report.run_dir
        said = f"The run has ended: {count_of(stats.done, 'record')}, {stats.failed:,} of them failed."
        dashboard.finish(report.state, said if where is None else f"{said} The report is in {where}.")
    return report
