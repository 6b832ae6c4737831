"""The recorded terminal session of README, and the script that records one."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import sys
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from .pages import ROOT
from .test_pages import check_command

PICTURE = ROOT / "docs" / "images" / "terminal.svg"
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture
def recorder() -> ModuleType:
    """The script, which is no part of a package."""
    pytest.importorskip("pyte")
    where = ROOT / "docs" / ".site" / "terminal.py"
    spec = importlib.util.spec_from_file_location("terminal", where)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["terminal"] = module  # its dataclasses look themselves up
    spec.loader.exec_module(module)
    return module


def test_the_picture_plays_where_no_script_may_run() -> None:
    """As an <img> of another page: no script, nothing from elsewhere, small, and it can be still."""
    text = PICTURE.read_text("utf-8")
    root = ET.fromstring(text)
    assert len(text) < 300_000
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= {
        "svg", "title", "desc", "style", "defs", "clipPath", "rect", "g", "circle", "text", "use",
    }  # fmt: skip
    assert not re.search(r"url\((?!#)|href=\"(?!#)|@import", text)
    assert "prefers-reduced-motion" in text
    assert "docs/images/terminal.svg" in (ROOT / "README.md").read_text("utf-8")


def test_the_commands_of_the_picture_exist() -> None:
    """What a reader sees typed can be typed."""
    said = ET.parse(PICTURE).getroot().findtext(f"{SVG}desc", "")
    commands = re.findall(r"fanout ([^;]+?)[;.]?(?= then|$)", said)
    assert [command.split()[0] for command in commands] == ["run", "resume", "redrive"]
    for command in commands:
        check_command(shlex.split(command))


def test_a_session_is_recorded_as_it_ran(recorder: ModuleType, tmp_path: Path) -> None:
    """Typed, run in a terminal, stopped by Ctrl-C, drawn: the last frame has what stood there."""
    script = (
        "trap 'echo stopped; exit' INT; test -t 1 && printf 'a\\033[31mred\\033[0m <&>\\n'; sleep 9 & wait"
    )
    step = recorder.Step(f'sh -c "{script}"', interrupt_after_s=0.5)
    shown = recorder.frames(recorder.session((step,), tmp_path, {"PATH": os.environ["PATH"]}))
    text = recorder.svg(shown, "a title", "what is shown")
    root = ET.fromstring(text)
    assert len(shown) > 5
    drawn = ["".join(run for run, _ in row).rstrip() for row in shown[-1][1]]
    assert drawn[0].startswith("$ sh -c")
    assert any(line.startswith("ared <&>") for line in drawn)
    assert any("stopped" in line for line in drawn)
    assert any(element.get("style") == "fill:#f7768e" for element in root.iter(f"{SVG}text"))
