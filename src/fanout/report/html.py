"""How the report becomes one page: text, figures, style and scripts in a single file, inert and offline.

Text of functions is hostile. It is escaped for HTML where it stands in HTML, and as JSON in a data
block in which no ``<``, ``>``, ``&`` or line separator is left; the script escapes it once more for
plotly, whose labels know tags of their own. And the page allows no script but those two whose hashes
it names.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.util
import re
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from fanout.errors import ConfigError
from fanout.report import fragments
from fanout.report.captions import captions
from fanout.report.figures import figure_data
from fanout.stats.text import printable

if TYPE_CHECKING:
    from fanout.report.summary import RunReport

_SLOT = re.compile(r"\{\{(\w+)\}\}")
_JSON_ESCAPES = {ord(char): f"\\u{ord(char):04x}" for char in "<>&\u2028\u2029"}


def write_html(report: RunReport, path: Path) -> None:
    """Write the page, whole or not at all: a page that was there stays until the new one is complete."""
    part = path.with_name(f".{path.name}.part")
    try:
        part.write_text(page(report), encoding="utf-8", errors="replace")
        part.replace(path)
    except OSError as error:
        part.unlink(missing_ok=True)
        raise ConfigError(
            f"{path}: {error.strerror}; give a place for the page that can be written"
        ) from error


def page(report: RunReport) -> str:
    """The page as text."""
    here = Path(__file__).parent
    name = fragments.safe(report.function or "run", 100)
    script, plotly = (here / "page.js").read_text(encoding="utf-8"), _plotly_js()
    slots = {
        "title": f"{name}: {report.records:,} records",
        "name": name,
        "style": (here / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "plotly": plotly,
        "hashes": f"{_hash(plotly)} {_hash(script)}",
        "data": json_block(figure_data(report.stats)),
        "badge": fragments.badge(report),
        "facts": fragments.facts(report),
        "notes": fragments.notes(report),
        "tiles": fragments.tiles(report),
        "statuses": fragments.status_rows(report),
        "clusters": fragments.cluster_items(report),
        "slowest": fragments.slowest_rows(report),
        "options": fragments.option_rows(report),
        "commands": fragments.command_items(report),
        "hide_failures": "" if report.failures else "hidden",
        "hide_throttles": "" if report.throttles else "hidden",
        "hide_commands": "" if report.next_commands else "hidden",
        "hide_options": "" if fragments.option_rows(report) else "hidden",
    }
    slots |= {f"alt_{figure}": escape(printable(text, 500)) for figure, text in captions(report).items()}
    template = (here / "page.html").read_text(encoding="utf-8")
    # One pass: what is filled in is never searched for slots again.
    return _SLOT.sub(lambda found: slots[found[1]], template)


def json_block(data: object) -> str:
    """JSON that can stand in a script element and holds nothing an HTML parser would heed."""
    return msgspec.json.encode(data).decode().translate(_JSON_ESCAPES)


def _hash(script: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'"


def _plotly_js() -> str:
    # The package brings the library as a file; importing plotly itself would take longer than the page.
    spec = importlib.util.find_spec("plotly")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        bundle = Path(root, "package_data", "plotly.min.js")
        if bundle.is_file():
            return bundle.read_text(encoding="utf-8").replace("</script", "<\\/script")
    raise ConfigError("plotly is not installed whole: plotly.min.js is missing; reinstall the plotly package")
