"""The ``fanout`` command, also as ``python -m fanout``: what a Ctrl-C meets before the command is there."""

from __future__ import annotations

import sys
from typing import NoReturn


def main() -> NoReturn:
    """Import the command, which takes a while, and run it. A Ctrl-C meanwhile ends it without a traceback."""
    try:
        from fanout.cli import main as command

        command()
    except KeyboardInterrupt:
        sys.stderr.write("fanout: interrupted\n")
        sys.exit(130)  # exit_codes.SIGINT, with no more to import


if __name__ == "__main__":
    main()
