"""Figures and times as they are written: the same on a terminal, in a summary, on a page and in files."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime


def iso(at_s: float) -> str:
    """A moment of Unix time in UTC, as ISO 8601 with milliseconds."""
    return datetime.fromtimestamp(at_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def unix_s(text: str) -> float:
    """Unix time of an ISO 8601 time; 0 when it is none."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return 0.0
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


def number(value: float) -> str:
    """Whole numbers with separators; one decimal below ten where there is something behind it."""
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.1f}"


def count_of(count: int, one: str, many: str | None = None) -> str:
    """A count with its noun: ``1 call``, ``1,204 calls``. ``many``: what is said of another count than 1."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def percent(share: float) -> str:
    """One decimal. 100 % is said only when it is so, and 0 % too."""
    if share <= 0 or share >= 1:
        return "0%" if share <= 0 else "100%"
    return "<0.1%" if share < 0.0005 else f"{min(share * 100, 99.9):.1f}%"


def milliseconds(value: float) -> str:
    """Milliseconds up to ten seconds, then seconds."""
    if value >= 10_000:
        return f"{value / 1000:,.1f}s"
    return f"{value:,.0f}ms" if value >= 10 else f"{value:.1f}ms"


def seconds(value: float) -> str:
    """Whole seconds, minutes and hours; tenths below ten seconds."""
    if value < 9.95:
        return f"{value:.1f}s"
    whole = round(value)
    hours, minutes = whole // 3600, whole // 60 % 60
    if hours:
        return f"{hours:,}h{minutes:02}m"
    return f"{minutes}m{whole % 60:02}s" if minutes else f"{whole}s"


def between(value: float, low: float, high: float, shown: Callable[[float], str]) -> str:
    """A value with its range, such as ``4.2s, between 3.9s and 5.0s``; alone where both ends read alike."""
    text, least, most = shown(value), shown(low), shown(high)
    return text if least == most else f"{text}, between {least} and {most}"


def dollars(usd: float) -> str:
    """Two decimals from a dollar on, else enough of them to see something."""
    if usd >= 1 or usd == 0:
        return f"${usd:,.2f}"
    return f"${usd:.4f}" if usd >= 0.001 else f"${usd:.7f}"
