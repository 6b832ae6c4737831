"""``python -m fanout.emulator``: the same emulator as ``fanout emulate``, without the rest of the command."""

from __future__ import annotations

import sys

from fanout.emulator.options import parse
from fanout.errors import EmulatorError


def main() -> int:
    """Serve; 0 after an orderly end, 2 when it cannot start, and a command's own exit code."""
    try:
        settings = parse(sys.argv[1:])
        from fanout.emulator.server import serve

        return serve(settings)
    except EmulatorError as error:
        sys.stderr.write(f"fanout: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 0


if __name__ == "__main__":
    sys.exit(main())
