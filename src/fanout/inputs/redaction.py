"""Locations as they are shown: without the password or the signature that a URL may carry."""

from __future__ import annotations

from urllib.parse import urlsplit, urlunsplit


def shown_location(location: str) -> str:
    """The location for messages, summaries and pages. A query is ``?…``, as it may sign the request."""
    if "://" not in location:
        return "standard input" if location == "-" else location
    try:
        parts = urlsplit(location)
    except ValueError:
        return location.partition("://")[0] + "://…"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, "…" if parts.query else "", ""))
