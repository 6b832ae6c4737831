"""The ``fanout`` command, also as ``python -m fanout``: what a signal meets before the command is there."""

from __future__ import annotations

import gc

from fanout.early_signals import end_at_once, leave_with

TYPE_CHECKING = False  # typing takes longer to import than all of this
if TYPE_CHECKING:
    from typing import NoReturn


def main() -> NoReturn:
    """Import the command, which takes a while, and run it. A signal meanwhile ends it in one line."""
    gc.disable()  # what is imported stays; enabled again once the verb is there
    end_at_once()
    try:
        from fanout.cli import main as command

        command()
    except SystemExit as error:
        leave_with(error.code if isinstance(error.code, int) else int(error.code is not None))
        raise


if __name__ == "__main__":
    main()
