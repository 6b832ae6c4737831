"""A deployment package, made as pip would from what is installed here; and a jail like Lambda's."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parents[1]
JAIL = Path(__file__).with_name("lambda_jail.sh")


def required(*names: str) -> set[str]:
    """These distributions and all that they need, without extras."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        found.add(name)
        for text in distribution(name).requires or ():
            need = Requirement(text)
            if need.marker is None or need.marker.evaluate({"extra": ""}):
                waiting.append(need.name)
    return found


def make_package(folder: Path, *names: str) -> None:
    """Copy the distributions into a folder; of this project its sources, as a wheel has them."""
    for name in sorted(required(*names)):
        made = distribution(name)
        for file in made.files or ():
            source = Path(str(made.locate_file(file)))
            inside = ".." not in file.parts and "__pycache__" not in file.parts
            if inside and source.is_file() and source.suffix != ".pth":
                target = folder / file
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, target)
    if "lambda-fanout" in required(*names):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / "src" / "fanout", folder / "fanout", ignore=ignored, dirs_exist_ok=True)


def zipped_bytes(folder: Path, target: Path) -> int:
    """The size of the folder as a zip file."""
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as made:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                made.write(file, file.relative_to(folder))
    return target.stat().st_size


def can_jail() -> bool:
    """Whether this user may make mount namespaces here."""
    if shutil.which("unshare") is None:
        return False
    return not subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode


def bootstrap(folder: Path) -> str:
    """For ``fanout emulate --bootstrap``: AWS's runtime client, in the jail, with this folder as its code."""
    return f"sh {JAIL} {sys._base_executable} {folder}"  # type: ignore[attr-defined]
