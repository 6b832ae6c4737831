"""What is installed is whole: ``pip install .`` in a clean environment gives a command that works."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

from .pages import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]  # pip installs, from an index

PROJECT = (
    *("src", "docs", "examples", "pyproject.toml", "hatch_build.py"),
    *("README.md", "LICENSE", "CHANGELOG.md", "Makefile"),
)
COMMENTED = '# [project.urls]\n# Repository = "https://github.com/OWNER/fanout"\n'


def run(*command: str | Path, cwd: Path) -> str:
    ours = ("PYTHON", "VIRTUAL_ENV")
    environ = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environ, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the commands of a clean environment with nothing but the built wheel in it."""
    folder = tmp_path_factory.mktemp("clean")
    for name in PROJECT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "project" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            (folder / "project").mkdir(exist_ok=True)
            shutil.copy(source, folder / "project" / name)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    run(python, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", "dist", "./project", cwd=folder)
    (wheel,) = (folder / "dist").glob("*.whl")
    run(python, "-m", "pip", "install", "--quiet", wheel, cwd=folder)
    return python.parent


def test_every_file_of_the_package_is_in_the_wheel(installed: Path) -> None:
    """Code, types and data: py.typed, the page's parts, the prices."""
    (wheel,) = (installed.parent.parent / "dist").glob("lambda_fanout-*.whl")
    held = {name for name in zipfile.ZipFile(wheel).namelist() if name.startswith("fanout/")}
    source = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/fanout").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert held == source
    data = {"py.typed", "prices.toml", "report/page.html", "charts/charts.js", "dashboard/dashboard.js"}
    assert {f"fanout/{name}" for name in data} <= held


def test_an_installation_is_light(installed: Path) -> None:
    """At most 65 MB with everything it needs: the sizes of the files, without pip and compiled bytecode."""
    (packages,) = installed.parent.glob("lib/python3*/site-packages")
    left_out = ("__pycache__", "pip", "setuptools")
    sizes = [
        path.stat().st_size
        for path in packages.rglob("*")
        if path.is_file() and not any(part in left_out for part in path.relative_to(packages).parts)
    ]
    assert 10e6 < sum(sizes) < 65e6


def test_the_installed_command_runs(installed: Path, tmp_path: Path) -> None:
    """A whole run, with a local function and the page at its end."""
    (tmp_path / "f.py").write_text("def handler(event, context):\n    return event * 2\n")
    (tmp_path / "in.jsonl").write_text("1\n2\n3\n")
    asked = ["--local", "f.py:handler", "--out", "r", "--json"]
    summary = json.loads(run(installed / "fanout", "run", "f", "in.jsonl", *asked, cwd=tmp_path))
    assert summary["counts"]["succeeded"] == 3
    assert summary["cost"]["usd"] > 0
    assert (tmp_path / "r" / "report.html").stat().st_size > 10_000
    assert run(installed / "fanout", "--version", cwd=tmp_path).startswith("fanout, version ")
    checked = "import fanout, sys; assert 'site-packages' in fanout.__file__; print(sys.version_info[:2])"
    assert run(installed / "python", "-c", checked, cwd=tmp_path).strip() == str(sys.version_info[:2])


def readme_of(folder: Path) -> str:
    """The description in the metadata of the wheel there."""
    (wheel,) = folder.glob("lambda_fanout-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith("/METADATA"))
        return archive.read(name).decode()


def test_a_package_index_shows_readme_whole(installed: Path) -> None:
    """Without an address of the repository no picture and no dead link; with one they lead there."""
    folder = installed.parent.parent
    without = readme_of(folder / "dist")
    assert "## Quick start" in without
    assert "docs/images" not in without
    assert "](docs/" not in without

    project = folder / "project" / "pyproject.toml"
    text = project.read_text("utf-8")
    assert COMMENTED in text
    project.write_text(
        text.replace(COMMENTED, COMMENTED.replace("# ", "").replace("OWNER", "someone")), "utf-8"
    )
    run(
        installed / "python",
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "-w",
        "dist-2",
        "./project",
        cwd=folder,
    )
    with_address = readme_of(folder / "dist-2")
    assert "Project-URL: Repository, https://github.com/someone/fanout" in with_address
    assert "](https://github.com/someone/fanout/raw/v0.1.0/docs/images/terminal.svg)" in with_address
    assert "](docs/" not in with_address
