"""Pages of the site that are no files of docs/: README and its neighbours, the examples, the Python API.

A hook of mkdocs. Links that lead out of docs/ in the repository lead to these pages on the site.
"""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).resolve().parents[2]
PAGES = {"README.md": "index.md", "CHANGELOG.md": "CHANGELOG.md", "CONTRIBUTING.md": "CONTRIBUTING.md"}
PAGES["SECURITY.md"] = "SECURITY.md"
_LINK = re.compile(r"(\]\()([^)#\s]+)((?:#[^)\s]*)?\))")
_FENCE = re.compile(r"(^```.*?^```$)", re.MULTILINE | re.DOTALL)
_HEADING = re.compile(r"^#{1,5} ", re.MULTILINE)
_ROW = re.compile(r"^\|.*$", re.MULTILINE)
_CODE = re.compile(r"`[^`\n]+`")
_PARAGRAPH = re.compile(r"<p>(.*?)</p>", re.DOTALL)
_ITEM_IN_TEXT = re.compile(r"^(?:-|\d+\.) ", re.MULTILINE)
_ITEM = re.compile(r"(?:-|\d+\.) ")
_IN_LIST = re.compile(r"(?:-|\d+\.) |\s")
_TITLE = re.compile(r"^# (.+)$", re.MULTILINE)


def on_config(config: Any) -> Any:
    """Put every guide into the navigation, by its title; link to the repository where there is an address."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    config.repo_url = project.get("urls", {}).get("Repository")
    guides = [
        {_TITLE.search(page.read_text("utf-8"))[1]: f"guides/{page.name}"}  # type: ignore[index]
        for page in sorted((ROOT / "docs" / "guides").glob("*.md"))
    ]
    config.nav = [{"Guides": guides} if entry == {"Guides": ["GUIDES"]} else entry for entry in config.nav]
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the pages and the files that are linked to."""
    for name, page in PAGES.items():
        text = (ROOT / name).read_text("utf-8")
        files.append(File.generated(config, page, content=_moved(text, PurePosixPath(), PurePosixPath(page))))
    listed = ""
    for path in sorted(path for path in (ROOT / "examples").rglob("*") if path.is_file()):
        if "__pycache__" in path.parts or path.suffix == ".jsonl":
            continue
        where = _with_suffix(path.relative_to(ROOT).as_posix())
        files.append(File.generated(config, where, abs_src_path=str(path)))
        listed += f"- [{path.name}]({where})\n"
    files.append(File.generated(config, "examples.md", content=f"# Examples\n{listed}"))
    prices = ROOT / "src" / "fanout" / "prices.toml"
    files.append(File.generated(config, "examples/prices.toml", abs_src_path=str(prices)))
    files.append(File.generated(config, "api.md", content=_api()))
    return files


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Mend the links of a page of docs/ that lead out of it."""
    if page.file.generated_by is not None:
        return _with_lists_apart(_with_bars(markdown))
    moved = _moved(markdown, PurePosixPath("docs", page.file.src_uri), PurePosixPath(page.file.src_uri))
    return _with_lists_apart(_with_bars(_with_one_title(moved)))


def on_page_content(html: str, *, page: Any, **_: Any) -> str:
    """Refuse a page on which the items of a list have run together to a paragraph."""
    for text in _PARAGRAPH.findall(html):
        if _ITEM_IN_TEXT.search(text):
            raise PluginError(f"{page.file.src_uri}: a list is shown as a paragraph: {text[:80]}")
    return html


def _moved(text: str, source: PurePosixPath, page: PurePosixPath) -> str:
    def mend(match: re.Match[str]) -> str:
        target = match[2]
        if "://" in target or target.startswith("mailto:"):
            return match[0]
        parts: list[str] = []
        for part in (source.parent / target).parts:
            if part == "..":
                parts.pop()
            else:
                parts.append(part)
        where = "/".join(parts)
        if where in PAGES:
            where = PAGES[where]
        elif where == "src/fanout/prices.toml":
            where = "examples/prices.toml"
        elif where == "examples":
            where = "examples.md"
        elif where.startswith("examples/"):
            where = _with_suffix(where)
        elif where.startswith("docs/"):
            where = where.removeprefix("docs/")
        return f"{match[1]}{'../' * (len(page.parts) - 1)}{where}{match[3]}"

    return _LINK.sub(mend, text)


def _with_one_title(text: str) -> str:
    """Lower all headings but the first where several are of the first level, so that contents are listed."""
    parts = _FENCE.split(text)  # prose and code by turns
    if sum(len(_TITLE.findall(part)) for part in parts[::2]) < 2:
        return text
    parts[::2] = [_HEADING.sub(r"#\g<0>", part) for part in parts[::2]]
    return "".join(parts).replace("#", "", 1)


def _with_bars(text: str) -> str:
    r"""Write ``\|`` in the code of a table as a bar: code hosts want the backslash, the site shows it."""
    return _ROW.sub(lambda row: _CODE.sub(lambda code: code[0].replace(r"\|", "|"), row[0]), text)


def _with_lists_apart(text: str) -> str:
    """Put an empty line before a list that follows a paragraph or code at once: code hosts need none."""
    lines: list[str] = []
    before, is_code = "", False
    for line in text.split("\n"):
        if not is_code and _ITEM.match(line) and before and not _IN_LIST.match(before):
            lines.append("")
        if line.lstrip().startswith("```"):
            is_code = not is_code
        lines.append(line)
        before = line
    return "\n".join(lines)


def _with_suffix(where: str) -> str:
    """Name a file without a suffix so that a browser shows it as text."""
    return where if PurePosixPath(where).suffix else f"{where}.txt"


def _api() -> str:
    """Make the reference of every name that ``fanout`` exports, read from its source, not imported."""
    tree = ast.parse((ROOT / "src" / "fanout" / "__init__.py").read_text("utf-8"))
    homes: dict[str, str] = {}
    for node in tree.body:
        if isinstance(node, ast.Assign | ast.AnnAssign) and node.value is not None:
            target = node.targets[0] if isinstance(node, ast.Assign) else node.target
            if isinstance(target, ast.Name) and target.id == "_HOMES":
                homes = ast.literal_eval(node.value)
    own = {node.name: "fanout" for node in tree.body if isinstance(node, ast.FunctionDef)}
    homes |= {name: home for name, home in own.items() if not name.startswith("_")}
    names = sorted(
        homes, key=lambda name: (name not in ("run", "Dispatcher"), name[0].isupper(), name.lower())
    )
    intro = (
        "# Python API\n\nEvery name that `fanout` exports. [The reference](reference.md#the-library) "
        "explains the options, and [the front page](index.md#three-ways-to-use-it) has examples.\n\n"
    )
    return intro + "\n".join(f"::: {homes[name]}.{name}" for name in names) + "\n"
