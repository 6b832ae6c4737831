"""The report as one page: text, drawings, style and a script in a single file, inert and offline.

Text of functions is hostile. It is escaped wherever it stands, the script puts it on the page as text
only, and the page allows no script but the one whose hash it names. Without scripts everything is
there but the values under a pointer.
"""

from __future__ import annotations

import base64
import hashlib
import re
from pathlib import Path

from fanout.charts import figures, script, style
from fanout.charts.markup import cluster_items, safe
from fanout.errors import ConfigError
from fanout.private_files import opener, remove_if_possible
from fanout.quantities import count_of
from fanout.report import fragments
from fanout.report.totals import RunTotals

_SLOT = re.compile(r"\{\{(\w+)\}\}")


def write_html(report: RunTotals, path: Path) -> None:
    """Write the page, whole or not at all: a page that was there stays until the new one is complete."""
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "w", encoding="utf-8", errors="replace", opener=opener) as file:
            file.write(page(report))
        part.replace(path)
    except OSError as error:
        remove_if_possible(part)
        raise ConfigError(
            f"{path}: {error.strerror}; give a place for the page that can be written"
        ) from error


def page(report: RunTotals) -> str:
    """The page as text."""
    name = safe(report.function or "run", 100)
    code = script()
    slots = {
        "title": f"{name}: {count_of(report.records, 'record')}",
        "name": name,
        "style": style() + _asset("page.css"),
        "script": code,
        "hashes": _hash(code),
        "badge": fragments.badge(report),
        "facts": fragments.facts(report),
        "notes": fragments.notes(report),
        "tiles": fragments.tiles(report),
        "statuses": fragments.status_rows(report),
        "clusters": cluster_items(report.stats),
        "figures": figures(report.stats),
        "slowest": fragments.slowest_rows(report),
        "options": fragments.option_rows(report),
        "commands": fragments.command_items(report),
        "hide_failures": "" if report.failures else "hidden",
        "hide_commands": "" if report.next_commands else "hidden",
        "hide_options": "" if fragments.option_rows(report) else "hidden",
    }
    # One pass: what is filled in is never searched for slots again.
    return _SLOT.sub(lambda found: slots[found[1]], _asset("page.html"))


def _asset(name: str) -> str:
    return Path(__file__).with_name(name).read_text(encoding="utf-8")


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"
