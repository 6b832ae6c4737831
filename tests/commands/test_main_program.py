"""A program that processes of its own import again is refused before its work is done twice."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fanout
from fanout.commands.main_program import check_importable, check_not_a_child
from fanout.errors import ConfigError
from tests.scripted import Scripted

CALL = 'import fanout\nfanout.run("f", [1], workers=2)\n'
GUARD = 'put what the program does under `if __name__ == "__main__":`'


def _main_of(program: Path | str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The module of a program that Python was started with."""
    main = ModuleType("__main__")
    main.__file__ = str(program)
    main.__dict__["check_importable"] = check_importable
    monkeypatch.setitem(sys.modules, "__main__", main)
    return main


def _run_as(program: str, monkeypatch: pytest.MonkeyPatch) -> str:
    _main_of(program, monkeypatch)
    with pytest.raises(ConfigError) as caught:
        fanout.run("f", [1], workers=2)
    return str(caught.value)


def test_work_at_the_top_level_is_refused_before_workers_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each worker would import the program and begin the run again."""
    program = tmp_path / "nightly.py"
    program.write_text(CALL)
    assert _run_as(str(program), monkeypatch).endswith(GUARD)


def test_a_program_from_standard_input_is_refused_before_workers_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """There is no file that a worker could import."""
    assert "save it in one" in _run_as("<stdin>", monkeypatch)


def test_a_guarded_program_is_let_through(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the workers it does nothing."""
    program = tmp_path / "nightly.py"
    program.write_text(f'if __name__ == "__main__":\n    {CALL}')
    _main_of(program, monkeypatch)
    check_importable()


@pytest.mark.parametrize(
    ("program", "is_let_through"),
    [
        ("check_importable()", False),
        ("import logging\nlog = logging.getLogger(__name__)\ncheck_importable()", False),
        ("def go():\n    check_importable()\n\nif True:\n    go()\nlog = __name__", False),
        ("if __name__ == '__main__':\n    check_importable()", True),
        ("def go():\n    check_importable()\n\n__name__ == '__main__' and go()", False),
        ("import sys\nif __name__ != '__main__':\n    sys.exit()\ncheck_importable()", True),
        ("import sys\nif len(sys.argv) > 99 or __name__ == '__main__':\n    check_importable()", True),
        ("is_main = __name__ == '__main__'\nif is_main:\n    check_importable()", True),
        ("if __name__ == '__main__':\n    print()\ncheck_importable()", False),
    ],
)
def test_the_line_that_is_executed_decides(
    program: str, is_let_through: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ``__name__`` elsewhere in the program is no guard of the call."""
    path = tmp_path / "nightly.py"
    path.write_text(program)
    main = _main_of(path, monkeypatch)
    code = compile(program, str(path), "exec")
    if is_let_through:
        exec(code, main.__dict__)
        return
    with pytest.raises(ConfigError, match=r"again from line \d"):
        exec(code, main.__dict__)


def test_a_process_that_imports_its_parents_program_makes_no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a first run, before one with workers, would be made by every process again."""
    transport = Scripted()
    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match="would do its work again") as caught:
        fanout.run("f", [1], transport=transport, concurrency=1)
    assert str(caught.value).endswith(GUARD)


@pytest.mark.parametrize(
    "content",
    [
        b"# caf\xe9\ncheck_importable()\n",
        b"log = __name__\ncheck_importable(\n",
        b"log = __name__\n",
    ],
    ids=["another encoding", "another version of it", "fewer lines"],
)
def test_a_program_that_cannot_be_judged_is_let_through(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its file is not what is executed, or cannot be read as Python's own text."""
    path = tmp_path / "nightly.py"
    path.write_bytes(content)
    main = _main_of(path, monkeypatch)
    exec(compile("\n\n\ncheck_importable()", str(path), "exec"), main.__dict__)
    monkeypatch.delitem(sys.modules, "multiprocessing.process")
    check_not_a_child()
