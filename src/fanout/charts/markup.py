"""Pieces of HTML that every page of a run shares. All text in them is escaped, or a number of our own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from fanout.stats import FailureCluster, Stats
from fanout.stats.failures import short_frame
from fanout.stats.text import printable

_MOST_CLUSTERS = 50


def safe(text: object, most_chars: int = 500) -> str:
    """A stranger's text on one line, as HTML that shows it and does nothing."""
    return escape(printable(str(text), most_chars))


def figure(name: str, value: float, shown: str) -> str:
    """One number, to be read by people and programs."""
    return f'<span data-figure="{escape(name)}" data-value="{value!r}">{escape(shown)}</span>'


def tile(label: str, value: str, below: str, kind: str = "") -> str:
    """One figure with its name. ``value`` and ``below`` are HTML."""
    return (
        f'<div class="tile {kind}"><dt>{escape(label)}</dt><dd>{value}</dd><dd class=below>{below}</dd></div>'
    )


def cluster_items(stats: Stats, most: int = _MOST_CLUSTERS) -> str:
    """One item for each kind of failure, with its message and a sample."""
    return "".join(_cluster(cluster) for cluster in stats.failures(most))


def _cluster(cluster: FailureCluster) -> str:
    head = f"<p><span class=count>{cluster.count:,}</span> <b>{safe(cluster.type, 120)}</b>"
    if cluster.message:
        head += f" {safe(cluster.message, 1000)}"
    if cluster.seq < 0:
        return f"<li>{head}</p></li>"
    names = [f"{safe(cluster.status)}, for example record {cluster.seq}"]
    if cluster.frame:
        names.insert(0, f"<code>{safe(short_frame(cluster.frame), 160)}</code>")
    if cluster.key is not None:
        names.append(f"key {safe(cluster.key, 100)}")
    if cluster.request_id:
        names.append(f"request {safe(cluster.request_id, 60)}")
    parts = [f"{head}</p><p class=dim>{' · '.join(names)}</p>"]
    if cluster.stack_trace:
        parts.append(_details("stack trace", cluster.stack_trace))
    if cluster.log_tail:
        parts.append(_details("end of its log", cluster.log_tail.splitlines()))
    return f"<li>{''.join(parts)}</li>"


def _details(title: str, texts: Iterable[str]) -> str:
    return f"<details><summary>{title}</summary><pre>{_lines(texts)}</pre></details>"


def _lines(texts: Iterable[str]) -> str:
    def each() -> Iterator[str]:
        for text in texts:
            for line in text.splitlines() or [""]:
                indent = len(line) - len(line.lstrip(" "))
                yield " " * min(indent, 40) + safe(line, 400)

    return "\n".join(each())
