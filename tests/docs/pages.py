"""The pages of the documentation: their text, code blocks, links and anchors."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
AT_THE_TOP = ("README.md", "CONTRIBUTING.md", "SECURITY.md")
PAGES = sorted([*(ROOT / name for name in AT_THE_TOP), *(ROOT / "docs").rglob("*.md")])
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^(#{1,6}) (.+)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block of code."""

    page: Path
    line: int
    language: str
    text: str

    @property
    def name(self) -> str:
        """Where it is, for the id of a test."""
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def text(page: Path) -> str:
    """The page as it stands."""
    return page.read_text(encoding="utf-8")


def prose(page: Path) -> str:
    """The page without its code blocks."""
    return _FENCE.sub("", text(page))


def blocks(page: Path, *languages: str) -> Iterator[Block]:
    """The code blocks of a page in these languages."""
    whole = text(page)
    for match in _FENCE.finditer(whole):
        if match[1] in languages:
            yield Block(page, whole.count("\n", 0, match.start()) + 1, match[1], match[2])


def links(page: Path) -> Iterator[str]:
    """Where the page links to."""
    for match in _LINK.finditer(prose(page)):
        yield match[1]


def anchors(page: Path) -> set[str]:
    """The anchors that the headings of a page make, as code hosts make them."""
    found: set[str] = set()
    for match in _HEADING.finditer(prose(page)):
        plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", match[2])
        base = re.sub(r"[^\w\- ]", "", plain.strip().lower()).replace(" ", "-")
        anchor, count = base, 0
        while anchor in found:
            count += 1
            anchor = f"{base}-{count}"
        found.add(anchor)
    return found


def sections(page: Path) -> dict[str, str]:
    """The text under each heading, down to the next heading of its level or above."""
    whole = text(page)
    masked = _FENCE.sub(lambda match: " " * len(match[0]), whole)
    headings = list(_HEADING.finditer(masked))
    found = {}
    for index, heading in enumerate(headings):
        end = next(
            (later.start() for later in headings[index + 1 :] if len(later[1]) <= len(heading[1])), len(whole)
        )
        found[heading[2].strip()] = whole[heading.end() : end]
    return found


def named(part: str) -> set[str]:
    """Every word that stands in backticks in a piece of text, and each word inside of those."""
    spans = re.findall(r"`([^`\n]+)`", part)
    return {word for span in spans for word in [span, *re.split(r"[^\w.@-]+", span)] if word}
