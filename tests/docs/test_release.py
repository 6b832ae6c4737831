"""What a release stands on: pinned actions, the changelog's sections, README as a package index shows it."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from .pages import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = ROOT / ".github" / "workflows" / "release.yml"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_read_only(workflow: Path) -> None:
    """By commit, with the version beside it; no token that can write, unless a job asks for it."""
    text = workflow.read_text("utf-8")
    for action in re.findall(r"uses: (.+?)(?: # zizmor: .*)?\n", text):
        assert re.fullmatch(r"\./\S+|[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action
    assert "\npermissions:\n  contents: read\n" in text
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_the_notes_of_a_release_are_its_section(tmp_path: Path) -> None:
    """The workflow's own commands find the section of a version, alone, and miss one that is not there."""
    text = RELEASE.read_text("utf-8")
    (found,) = re.findall(r'run: (grep -q "\^## .*)', text)
    (cut,) = re.findall(r"(awk -v version=.*?notes\.md)", text, re.DOTALL)
    sections = (
        "Unreleased\n- new",
        "1.2.30 (2026-11-28)\n- newer",
        "1.2.3 (2026-11-27)\n- this",
        "1.2.2 (2026-11-01)\n- old",
    )
    changelog = "# Changelog\n\n" + "\n\n".join(f"## {section}" for section in sections)
    (tmp_path / "CHANGELOG.md").write_text(changelog)

    def shell(script: str, tag: str) -> int:
        environ = {"GITHUB_REF_NAME": tag, "PATH": "/usr/bin:/bin"}
        return subprocess.run(["sh", "-c", script], cwd=tmp_path, env=environ, check=False).returncode

    assert shell(found, "v1.2.3") == 0
    assert shell(found, "v1.2.4") != 0
    assert shell(cut, "v1.2.3") == 0
    notes = (tmp_path / "notes.md").read_text()
    assert notes.startswith("## 1.2.3")
    assert "this" in notes
    assert "old" not in notes
    assert "new" not in notes


def test_the_changelog_begins_with_what_is_unreleased() -> None:
    """So that a change has a place to be named."""
    sections = re.findall(r"^## (.+)$", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE)
    assert sections[0] == "Unreleased"
    assert all(re.fullmatch(r"\d+\.\d+\.\d+ \(\d{4}-\d\d-\d\d\)", section) for section in sections[1:])


def test_the_changelog_is_sorted_by_what_changed() -> None:
    """Each heading of a version once, and no others."""
    (unreleased,) = re.findall(
        r"^## Unreleased$(.*?)^## ", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.MULTILINE | re.DOTALL
    )
    headings = re.findall(r"^### (.+)$", unreleased, re.MULTILINE)
    kinds = ["Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"]
    assert set(headings) <= {*kinds, "Changed: look at these before you upgrade"}
    assert len(set(headings)) == len(headings)


@pytest.fixture
def readme_elsewhere(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str | None, str], str]:
    """The function of hatch_build.py, which is loaded here without the build system."""
    interface = ModuleType("hatchling.metadata.plugin.interface")
    interface.MetadataHookInterface = object  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    names = runpy.run_path(str(ROOT / "hatch_build.py"))
    return cast("Callable[[str, str | None, str], str]", names["readme_elsewhere"])


def test_readme_elsewhere_leads_to_the_repository(
    readme_elsewhere: Callable[[str, str | None, str], str],
) -> None:
    """At the tag of a release, at main between two; other sites, headings and the rest stay as they are."""
    text = "![A picture](docs/a.svg)\n[guide](docs/g.md#top), [below](#end), [site](https://example.com/)"
    shown = readme_elsewhere(text, "https://github.com/o/fanout/", "1.2.3")
    at = "https://github.com/o/fanout"
    assert shown.startswith(
        f"![A picture]({at}/raw/v1.2.3/docs/a.svg)\n[guide]({at}/blob/v1.2.3/docs/g.md#top), "
    )
    assert "[below](#end), [site](https://example.com/)" in shown
    assert f"{at}/blob/main/docs/g.md#top" in readme_elsewhere(text, at, "1.2.4.dev7")


def test_readme_elsewhere_has_no_broken_link(
    readme_elsewhere: Callable[[str, str | None, str], str],
) -> None:
    """Whole, with an address as without one: no image and no link is left that leads to a file beside it."""
    text = (ROOT / "README.md").read_text("utf-8")
    for repository in (None, "https://github.com/o/fanout"):
        shown = readme_elsewhere(text, repository, "1.2.3")
        targets = re.findall(r"\]\(([^)\s]+)\)", shown)
        assert all(re.match(r"https://|#", target) for target in targets)
        assert ("![" in shown) == (repository is not None)
        assert shown.count("\n## ") == text.count("\n## ")
        assert "Performance: what was measured" in re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", shown)
