"""The pages hold together: links lead somewhere, code compiles, commands exist."""

from __future__ import annotations

import ast
import json
import re
import shlex
import shutil
import subprocess
import tomllib
from urllib.parse import unquote, urlsplit

import click
import pytest

from fanout.cli import cli

from .pages import PAGES, ROOT, Block, anchors, blocks, links, named, sections, text

ALL = {str(page.relative_to(ROOT)): page for page in PAGES}
PYTHON = [block for page in PAGES for block in blocks(page, "python")]
DATA = [block for page in PAGES for block in blocks(page, "json", "toml")]
SHELL = [block for page in PAGES for block in blocks(page, "sh", "console")]
SCRIPTS = [block for block in SHELL if block.language == "sh"]


@pytest.mark.parametrize("page", ALL)
def test_links_lead_somewhere(page: str) -> None:
    """Every link to a file or a heading of the project has its target."""
    broken = []
    for link in links(ALL[page]):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (ALL[page].parent / unquote(parts.path)).resolve() if parts.path else ALL[page]
        if not target.exists() or (parts.fragment and parts.fragment not in anchors(target)):
            broken.append(link)
    assert not broken, f"{page}: no such file or heading: {broken}"


def test_every_page_can_be_reached_from_the_readme() -> None:
    """A page that nothing links to is not read."""
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        for link in links(page):
            parts = urlsplit(link)
            if not parts.scheme and parts.path.endswith(".md"):
                waiting.append((page.parent / unquote(parts.path)).resolve())
    assert set(PAGES) <= reached


def test_every_image_is_shown() -> None:
    """An image that no page shows is old before anybody notices."""
    shown = {(page.parent / link).resolve() for page in PAGES for link in links(page)}
    images = {path for path in (ROOT / "docs" / "images").iterdir() if path.is_file()}
    assert images <= shown


@pytest.mark.parametrize("block", PYTHON, ids=lambda block: block.name)
def test_python_code_compiles(block: Block) -> None:
    """Code that is shown is code: it can be pasted into a file."""
    ast.parse(block.text, filename=block.name)


@pytest.mark.parametrize("block", DATA, ids=lambda block: block.name)
def test_data_can_be_read(block: Block) -> None:
    """JSON is JSON (or JSON Lines), TOML is TOML."""
    if block.language == "toml":
        tomllib.loads(block.text)
        return
    try:
        json.loads(block.text)
    except ValueError:
        for line in block.text.splitlines():
            json.loads(line)


@pytest.mark.skipif(shutil.which("bash") is None, reason="no bash here")
@pytest.mark.parametrize("block", SCRIPTS, ids=lambda block: block.name)
def test_shell_code_can_be_pasted(block: Block) -> None:
    """A shell takes it as it stands."""
    checked = subprocess.run(["bash", "-n"], input=block.text, capture_output=True, text=True, check=False)
    assert (checked.returncode, checked.stderr) == (0, "")


@pytest.mark.parametrize("block", SHELL, ids=lambda block: block.name)
def test_shown_commands_exist(block: Block) -> None:
    """Every ``fanout …`` of a shell block names a command and options that there are."""
    joined = block.text.replace("\\\n", " ")
    for line in joined.splitlines():
        for call in re.findall(r"(?:^|[|`$(]|\s)fanout ([a-z]+ [^|;&]*)", line.split("  #")[0]):
            check_command(shlex.split(call.rstrip(")`"), comments=True))


def check_command(arguments: list[str]) -> None:
    context = click.Context(cli)
    command = cli.get_command(context, arguments[0])
    assert command is not None, f"there is no `fanout {arguments[0]}`"
    if arguments[0] == "emulate" and "--" in arguments:  # what follows is a command of its own
        arguments, other = arguments[: arguments.index("--")], arguments[arguments.index("--") + 1 :]
        if other[0] == "fanout":
            check_command(other[1:])
    known = {flag for param in command.params for flag in (*param.opts, *param.secondary_opts)}
    for argument in arguments[1:]:
        if argument.startswith("-") and argument != "-":
            assert argument.partition("=")[0] in known | {"--help"}, (
                f"fanout {arguments[0]} has no {argument}"
            )


def test_every_dependency_has_its_reason() -> None:
    """Each package in pyproject.toml has a line in docs/architecture.md on why it is there, and no other."""
    project = tomllib.loads(text(ROOT / "pyproject.toml"))
    wanted = [
        *project["project"]["dependencies"],
        *(name for extra in project["project"]["optional-dependencies"].values() for name in extra),
        *project["dependency-groups"]["dev"],
    ]
    packages = {match[0] for name in wanted if (match := re.match(r"[\w.-]+", name))} - {"lambda-fanout"}
    rows = re.findall(r"^\| (`.*?) \|", sections(ROOT / "docs/architecture.md")["Dependencies"], re.MULTILINE)
    assert {package for row in rows for package in named(row)} == packages


def test_every_layer_is_on_the_map() -> None:
    """docs/architecture.md draws the layers that import-linter holds."""
    contracts = tomllib.loads(text(ROOT / "pyproject.toml"))["tool"]["importlinter"]["contracts"]
    layers = [re.split(r"\s*\|\s*", line) for line in contracts[0]["layers"]]
    drawing = next(iter(blocks(ROOT / "docs/architecture.md", "text"))).text
    drawn = [
        {name.strip(" /") for name in line.split("  ")[0].split("|")} for line in drawing.splitlines() if line
    ]
    assert drawn == [set(layer) for layer in layers]
