"""The content of the live page: words and charts of a run, made from its latest snapshot and its stats."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any, Protocol

import msgspec

from fanout.charts import TITLES, script, style
from fanout.charts.captions import captions
from fanout.charts.markup import cluster_items, safe
from fanout.charts.run_charts import chart
from fanout.model import OK_STATUSES
from fanout.quantities import count_of, dollars, milliseconds, number, percent, seconds
from fanout.stats import Snapshot, Stats, WorkerPace, cause_words

LIVE_CHARTS = ("throughput", "latency", "flight")
_LIVE_POINTS = 120
_MOST_KINDS = 10
_MOST_WORKERS = 50
_UNKNOWN = "not known"
_SLOT = re.compile(r"\{\{(\w+)\}\}")


class Controls(Protocol):
    """Changes a run while it goes on: ``Run.tune``."""

    def __call__(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change options of the run; returns those now in force. Raises ConfigError for what cannot be."""


class Watched(Protocol):
    """A run that can be shown."""

    @property
    def stats(self) -> Stats:
        """Its statistics."""


def page(function: str, *, has_controls: bool) -> str:
    """The page before its first event."""
    code = script() + _asset("dashboard.js")
    name = safe(function or "run", 100)
    figures = "".join(
        f'<figure id="plot-{chart_name}"{" class=wide" if chart_name == "throughput" else ""}>'
        f"<h2>{escape(TITLES[chart_name])}</h2></figure>"
        for chart_name in LIVE_CHARTS
    )
    slots = {
        "name": name,
        "style": style() + _asset("dashboard.css"),
        "script": code,
        "hash": f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'",
        "figures": figures,
        "hide_controls": "" if has_controls else "hidden",
    }
    return _SLOT.sub(lambda found: slots[found[1]], _asset("dashboard.html"))


def words(snapshot: Snapshot) -> dict[str, str]:
    """The figures of the page as text, by the id of their place."""
    failed = sum(count for status, count in snapshot.counts.items() if status not in OK_STATUSES)
    of = "" if snapshot.total is None else f" of {snapshot.total:,}"
    percentiles = f"p95 {milliseconds(snapshot.p95_ms)} · p99 {milliseconds(snapshot.p99_ms)}"
    lost = f"{snapshot.lingering:,} more are lost and may still run" if snapshot.lingering else ""
    return {
        "records": f"{snapshot.done:,}",
        "records-below": f"{of.strip()} in {seconds(snapshot.elapsed_s)}".strip(),
        "rate": f"{number(snapshot.rate_now_per_s)}/s",
        "rate-below": f"{number(snapshot.rate_mean_per_s)}/s on average",
        "flight": f"{snapshot.in_flight:,}",
        "flight-below": ("" if snapshot.limit is None else f"of {number(snapshot.limit)}; ")
        + (lost or f"limit: {_cause(snapshot.cause)}"),
        "p50": milliseconds(snapshot.p50_ms),
        "p50-below": percentiles,
        "failed": f"{failed:,}",
        "failed-below": percent(failed / snapshot.done) if snapshot.done else "",
        "throttles": f"{snapshot.throttles:,}",
        "throttles-below": f"{snapshot.retries:,} retries",
        "cost": _UNKNOWN if snapshot.cost_usd is None else dollars(snapshot.cost_usd),
        "eta": _time_left(snapshot),
        "state": "draining" if snapshot.draining else "paused" if snapshot.cause == "paused" else "running",
    }


def _time_left(snapshot: Snapshot) -> str:
    if snapshot.done == snapshot.total:
        return "none"
    return _UNKNOWN if snapshot.eta_s is None else seconds(snapshot.eta_s)


def _cause(cause: str) -> str:
    return cause_words(cause) or _UNKNOWN


def now_event(snapshot: Snapshot) -> bytes:
    """The event that renews every figure."""
    return _event("now", {"words": words(snapshot), "fraction": snapshot.fraction})


def chart_event(stats: Stats, name: str) -> bytes:
    """The event that renews one chart; of ``failures``, the list of kinds."""
    if name == "failures":
        return _event("part", {"id": "failures", "html": cluster_items(stats, _MOST_KINDS)})
    said = captions(stats, _LIVE_POINTS)[name]
    drawn = chart(stats, name, said, most_points=_LIVE_POINTS)
    html = f"<h2>{escape(TITLES[name])}</h2>{drawn}<figcaption>{safe(said)}</figcaption>"
    return _event("part", {"id": f"plot-{name}", "html": html})


def workers_event(workers: Sequence[WorkerPace]) -> bytes:
    """The event that renews the table of workers, those at work first."""
    at_work_first = sorted(workers, key=lambda worker: worker.lost_records is not None)
    rows = "".join(_worker_row(worker) for worker in at_work_first[:_MOST_WORKERS])
    if len(workers) > _MOST_WORKERS:
        rows += f'<tr><th scope="row" colspan="4">{len(workers) - _MOST_WORKERS:,} more</th></tr>'
    return _event("part", {"id": "workers", "html": rows})


def _worker_row(worker: WorkerPace) -> str:
    name = f'<th scope="row">{safe(worker.name, 100)}</th>'
    records = f'<td class="n">{worker.records:,}</td>'
    if worker.lost_records is not None:
        said = "lost"
        if worker.lost_records:
            said += f"; {count_of(worker.lost_records, 'record')} may have run"
        return f'<tr>{name}<td class="n" colspan="2">{said}</td>{records}</tr>'
    pace = f'<td class="n">{worker.in_flight:,}</td><td class="n">{number(worker.per_s)}</td>'
    return f"<tr>{name}{pace}{records}</tr>"


def end_event(state: str, said: str) -> bytes:
    """The event after which nothing more comes."""
    return _event("end", {"state": state, "said": said})


def _event(name: str, data: object) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (name.encode(), msgspec.json.encode(data))


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
