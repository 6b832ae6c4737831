"""What a release stands on: pinned actions, a changelog whose sections the workflow finds."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from .pages import ROOT

WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
RELEASE = ROOT / ".github" / "workflows" / "release.yml"


@pytest.mark.parametrize("workflow", WORKFLOWS, ids=lambda path: path.name)
def test_actions_are_pinned_and_read_only(workflow: Path) -> None:
    """By commit, with the version beside it; no token that can write, unless a job asks for it."""
    text = workflow.read_text("utf-8")
    for action in re.findall(r"uses: (.+)", text):
        assert re.fullmatch(r"\./\S+|[\w./-]+@[0-9a-f]{40} # v[\d.]+", action), action
    assert "\npermissions:\n  contents: read\n" in text
    assert text.count("actions/checkout@") == text.count("persist-credentials: false")


def test_the_notes_of_a_release_are_its_section(tmp_path: Path) -> None:
    """The workflow's own commands find the section of a version, alone, and miss one that is not there."""
    text = RELEASE.read_text("utf-8")
    (found,) = re.findall(r'run: (grep -q "\^## .*)', text)
    (cut,) = re.findall(r"(awk -v version=.*?notes\.md)", text, re.DOTALL)
    sections = ("Unreleased\n- new", "1.2.3 (2026-11-27)\n- this", "1.2.2 (2026-11-01)\n- old")
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
