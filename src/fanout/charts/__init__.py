"""Charts of a run, drawn the same for the report and for the live page."""

from __future__ import annotations

from pathlib import Path

from fanout.charts.captions import captions
from fanout.charts.markup import safe
from fanout.charts.run_charts import TITLES, charts
from fanout.stats import Stats

_WIDE = frozenset({"throughput", "executions"})


def figures(stats: Stats) -> str:
    """Every chart with its title and its caption, as figures of a page."""
    said = captions(stats)
    drawn = charts(stats, said)
    drawn.setdefault("flight", "")  # its caption says why there is nothing to draw
    return "".join(
        f'<figure id="plot-{name}"{" class=wide" if name in _WIDE else ""}><h2>{TITLES[name]}</h2>{chart}'
        f"<figcaption>{safe(said[name])}</figcaption></figure>"
        for name, chart in drawn.items()
    )


def style() -> str:
    """The style that every page with charts has."""
    return Path(__file__).with_name("charts.css").read_text(encoding="utf-8")


def script() -> str:
    """The script that shows values under a pointer, and under the arrow keys."""
    return Path(__file__).with_name("charts.js").read_text(encoding="utf-8")


__all__ = ["TITLES", "captions", "charts", "figures", "script", "style"]
