"""The program that calls fanout: processes that it starts import it, and must not do its work again."""

from __future__ import annotations

import sys
from pathlib import Path

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
    if not any(way in text for way in _WAYS_TO_KNOW):
        raise ConfigError(
            f"the processes of workers import the program and would do its work again: {_GUARD}"
        )
