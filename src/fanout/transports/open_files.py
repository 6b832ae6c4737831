"""The limit of open files, raised as far as the connections of this process need."""

from __future__ import annotations

import sys
from contextlib import suppress

from fanout.errors import ConfigError

_OTHER_FILES = 64  # the journal, the input, libraries, the loop's own


def most_connections() -> int:
    """The connections that this process can open, with the soft limit raised to the hard one."""
    try:
        import resource
    except ImportError:
        return sys.maxsize
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return sys.maxsize if hard == resource.RLIM_INFINITY else max(0, hard - _OTHER_FILES)


def make_room_for(connections: int) -> None:
    """Raise the soft limit to the hard one where it is too low for so many connections.

    Raises ConfigError where that is too low as well. Does nothing on platforms without such a limit.
    """
    try:
        import resource
    except ImportError:
        return
    needed = connections + _OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    raised = needed if hard == resource.RLIM_INFINITY else hard
    if raised >= needed:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (raised, hard))
            return
    raise ConfigError(
        f"concurrency needs {connections:,} connections, and this process may open "
        f"{max(soft, raised):,} files: "
        f"raise that (ulimit -n {needed}), or give a lower concurrency"
    )
