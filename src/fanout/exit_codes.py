"""Exit codes of the command: the meaning of each number.

``runs.result.state_and_exit_code`` chooses that of a run.
"""

from __future__ import annotations

OK = 0
FAILURES = 1  # finished; some records did not succeed
USAGE = 2  # a bad option, an unreadable input, a bad run directory
THRESHOLD = 3  # too many failures, or too slow
FATAL = 4  # Lambda refuses every record alike
BOUND = 5  # stopped by a deadline, a spending cap or an outage; resumable
SIGHUP = 129
SIGINT = 130
SIGTERM = 143
CLOSED_PIPE = 141  # the reader of standard output went away
