"""Process 1 of a container: a small parent that passes signals on and takes in orphans.

The kernel gives process 1 no default for a signal and makes it the parent of every orphan. So the command
runs in a child, where both are as everywhere else.
"""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress

_PASSED_ON = {
    getattr(signal, name)
    for name in ("SIGHUP", "SIGINT", "SIGQUIT", "SIGTERM", "SIGUSR1", "SIGUSR2", "SIGCONT", "SIGWINCH")
    if hasattr(signal, name)
}
_FROM_TERMINAL = 0x80  # si_code SI_KERNEL: the child, in the same group, has had it too


def go_on_in_child() -> None:
    """As process 1, return in a child, and end with its exit code; anywhere else, do nothing.

    To be called before there are threads. A signal's exit code is 128 and its number, as a shell has it.
    """
    if os.getpid() != 1 or sys.platform != "linux":
        return
    heard = _PASSED_ON | {signal.SIGCHLD}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, heard)  # what is blocked waits, and is not lost
    child = os.fork()
    if not child:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return
    while True:
        ended = _reap(child)
        if ended is not None:
            os._exit(ended)
        heard_now = signal.sigwaitinfo(heard)
        if heard_now.si_signo == signal.SIGCHLD or heard_now.si_code == _FROM_TERMINAL:
            continue
        with suppress(ProcessLookupError):
            os.kill(child, heard_now.si_signo)


def _reap(child: int) -> int | None:
    """Take in whatever has ended; returns the exit code of ``child`` when that has."""
    found = None
    with suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if not pid:
                break
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                found = 128 - code if code < 0 else code
    return found
