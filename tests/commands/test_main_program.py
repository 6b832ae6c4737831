"""A program that processes of its own import again is refused before its work is done twice."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fanout
from fanout.commands.main_program import check_importable
from fanout.errors import ConfigError
from tests.scripted import Scripted

CALL = 'import fanout\nfanout.run("f", [1], workers=2)\n'
GUARD = 'put what the program does under `if __name__ == "__main__":`'


def _run_as(program: str, monkeypatch: pytest.MonkeyPatch) -> str:
    main = ModuleType("__main__")
    main.__file__ = program
    monkeypatch.setitem(sys.modules, "__main__", main)
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
    main = ModuleType("__main__")
    main.__file__ = str(program)
    monkeypatch.setitem(sys.modules, "__main__", main)
    check_importable()


def test_a_process_that_imports_its_parents_program_makes_no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a first run, before one with workers, would be made by every process again."""
    transport = Scripted()
    process = multiprocessing.current_process()
    monkeypatch.setattr(process, "_inheriting", True, raising=False)
    with pytest.raises(ConfigError, match="would do its work again") as caught:
        fanout.run("f", [1], transport=transport, concurrency=1)
    assert str(caught.value).endswith(GUARD)
