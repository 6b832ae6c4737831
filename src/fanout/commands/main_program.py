"""The program that calls fanout: processes that it starts import it, and must not do its work again."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from types import ModuleType

from fanout.errors import ConfigError

_GUARD = 'put what the program does under `if __name__ == "__main__":`'
# A program that asks in which process it is knows how to keep its work from the others.
_WAYS_TO_KNOW = ("__name__", "_process(")


def check_not_a_child() -> None:
    """Raise ConfigError in a process that is only importing the program of its parent, which made it.

    Without it, every call that a program makes before it starts processes would be made by each of them.
    """
    multiprocessing = sys.modules.get("multiprocessing.process")
    if multiprocessing is None:
        return
    if getattr(multiprocessing.current_process(), "_inheriting", False):
        raise ConfigError(
            f"a process that this program started imports it and would do its work again: {_GUARD}"
        )


def check_importable() -> None:
    """Raise ConfigError for a program that the processes of workers cannot import, or would run again."""
    main = sys.modules.get("__main__")
    location = getattr(main, "__file__", None)
    if location is None or getattr(main, "__spec__", None) is not None:
        return  # typed in, `python -c`, a notebook; or `python -m`, where a module's name says enough
    try:
        text = Path(location).read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(
            "the processes of workers import the program, and it is not in a file: save it in one, and "
            f"{_GUARD}"
        ) from None
    except (OSError, ValueError):  # an archive, another encoding
        return
    line = _line_in_execution(main)
    if not any(way in text for way in _WAYS_TO_KNOW) or (line and not _is_guarded(text, line)):
        where = f" from line {line}" if line else ""
        raise ConfigError(
            f"the processes of workers import the program and would do its work again{where}: {_GUARD}"
        )


def _line_in_execution(main: ModuleType | None) -> int | None:
    """The line at the top level of the program that makes the call; None where none is on the stack."""
    for frame in sys._current_frames().values():  # noqa: SLF001 - documented, for just this
        at = frame
        while at is not None:
            if at.f_code.co_name == "<module>" and at.f_globals is getattr(main, "__dict__", None):
                return at.f_lineno
            at = at.f_back  # type: ignore[assignment]
    return None


def _is_guarded(text: str, line: int) -> bool:
    """True if this line of a program's top level is not executed by processes that import it.

    It stands below an ``if`` that asks for the process, or after one that leaves others. A program that
    keeps the answer in a variable is believed.
    """
    try:
        program = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return True
    for statement in program.body:
        if statement.lineno <= line <= (statement.end_lineno or statement.lineno):
            return any(_is_asked_above(node, line) for node in ast.walk(statement))
        if _leaves_others(statement):
            return True
    return True


def _is_asked_above(node: ast.AST, line: int) -> bool:
    """True for a condition that holds in the first process alone, with the line below it."""
    if not isinstance(node, ast.If) or not node.lineno <= line <= (node.end_lineno or node.lineno):
        return False
    return isinstance(node.test, ast.Name) or _asks(node.test)


def _leaves_others(statement: ast.stmt) -> bool:
    """True for a condition that ends the processes which only import the program."""
    if not isinstance(statement, ast.If) or not _asks(statement.test):
        return False
    last = statement.body[-1]
    return isinstance(last, ast.Raise) or ast.unparse(last).partition("(")[0].endswith("exit")


def _asks(test: ast.expr) -> bool:
    return any(way in ast.unparse(test) for way in _WAYS_TO_KNOW)
