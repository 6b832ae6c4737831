"""The picture of the layers is the contract, and the pages for contributors name files that are there."""

from __future__ import annotations

import re
import tomllib

import pytest

from .pages import ROOT

SOURCE = ROOT / "src/fanout"


def test_the_picture_of_the_layers_is_the_contract() -> None:
    """What import-linter holds is what docs/architecture.md draws, line by line."""
    page = (ROOT / "docs/architecture.md").read_text()
    picture = page.split("## Layers")[1].split("```")[1].splitlines()[1:]
    drawn = [
        {name.strip().rstrip("/") for name in re.split(r"\s{3,}", line)[0].split("|")} for line in picture
    ]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(each["layers"] for each in contracts if each["type"] == "layers")
    assert drawn == [{name.strip() for name in layer.split("|")} for layer in layers]


def test_circles_are_looked_for_in_every_package() -> None:
    """A package that the contract leaves out could grow one; of ``fanout`` itself the layers say it."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    held = next(each["ancestors"] for each in contracts if each["type"] == "acyclic_siblings")
    packages = (path.parent.relative_to(SOURCE.parent) for path in SOURCE.rglob("__init__.py"))
    assert set(held) == {".".join(package.parts) for package in packages} - {"fanout"}


@pytest.mark.parametrize("page", ["docs/architecture.md", "CONTRIBUTING.md"])
def test_files_of_the_source_that_are_named_are_there(page: str) -> None:
    """A contributor who follows the page finds the file."""
    named = set(re.findall(r"`((?:src/fanout/)?[a-z_0-9/]+\.py)`", (ROOT / page).read_text()))
    tops = (ROOT, SOURCE)
    there = {path.name for path in SOURCE.rglob("*.py")}
    missing = [each for each in sorted(named - there) if not any((top / each).exists() for top in tops)]
    assert named
    assert not missing
