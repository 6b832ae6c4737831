"""README as a package index shows it: its links and images lead to the repository, at the version's tag.

A metadata hook of hatchling. The repository's address stands at ``[project.urls]`` in pyproject.toml.
While none is there, images are left out and links to files become plain text, so that nothing is broken.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?!#|[a-z][a-z+.-]*:)(?P<target>[^)\s]+)\)")
_RELEASE = re.compile(r"\d+(\.\d+)+")


class ReadmeHook(MetadataHookInterface):
    """Set ``readme``, which pyproject.toml calls dynamic."""

    PLUGIN_NAME = "custom"

    def update(self, metadata: dict[str, Any]) -> None:
        text = Path(self.root, "README.md").read_text("utf-8")
        repository = metadata.get("urls", {}).get("Repository")
        metadata["readme"] = {
            "content-type": "text/markdown",
            "text": readme_elsewhere(text, repository, metadata["version"]),
        }


def readme_elsewhere(text: str, repository: str | None, version: str) -> str:
    """Markdown with the addresses of files made absolute, or without them where there is no repository."""
    # What is built between two tags has no tag of its own.
    at = f"v{version}" if _RELEASE.fullmatch(version) else "main"

    def mend(match: re.Match[str]) -> str:
        if repository is None:
            return "" if match["image"] else match["text"]
        kind = "raw" if match["image"] else "blob"
        address = f"{repository.rstrip('/')}/{kind}/{at}/{match['target']}"
        return f"{match['image']}[{match['text']}]({address})"

    return re.sub(r"\n{3,}", "\n\n", _LINK.sub(mend, text))
