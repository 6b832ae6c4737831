"""An Airflow operator: one Lambda call per record, as a task that can be retried, killed and looked at.

The run directory is named by DAG, run and task, on a disk that every worker sees. So a retry of the
task goes on where the last try stopped, whichever worker has it: what has an outcome is not sent
again. Killing the task drains the calls in flight.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

try:
    from airflow.sdk import BaseOperator  # Airflow 3
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
except ImportError:
    from airflow.exceptions import AirflowException, AirflowFailException  # Airflow 2
    from airflow.models import BaseOperator

SOME_FAILED = 1
STOPPED = 5  # from here on: a deadline, a spending cap, an outage, a signal; going on helps
DRAIN_S = 60


class FanoutOperator(BaseOperator):
    """Run ``fanout run FUNCTION SOURCE --resume``; returns the summary, which becomes the task's XCom.

    ``options`` are those of the command. With ``tolerate_failures`` the task succeeds although some
    records failed; which ones stands in the run directory.
    """

    template_fields: Sequence[str] = ("function", "source", "options", "runs_dir")

    def __init__(
        self,
        *,
        function: str,
        source: str,
        runs_dir: str,
        options: Sequence[str] = (),
        tolerate_failures: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.function = function
        self.source = source
        self.runs_dir = runs_dir
        self.options = list(options)
        self.tolerate_failures = tolerate_failures
        self._process: subprocess.Popen[str] | None = None

    def execute(self, context: Any) -> dict[str, Any]:
        """Run to the end; any end but success raises, in one line.

        AirflowException where another try goes on, AirflowFailException, which ends the retries, where it
        would change nothing: records that failed, wrong options, a function that refuses every call.
        """
        import json

        parts = (context["dag"].dag_id, context["run_id"], self.task_id)
        out = Path(self.runs_dir, "-".join(re.sub(r"[^\w.-]", "_", part) for part in parts))
        command = [sys.executable, "-m", "fanout", "run", self.function, self.source, *self.options]
        command += ["--out", str(out), "--resume", "--json"]
        # Progress goes to the task's log, as lines; the summary comes on stdout.
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        output, _ = self._process.communicate()
        code = self._process.returncode
        if code != 0 and not (code == SOME_FAILED and self.tolerate_failures):
            is_final = SOME_FAILED <= code < STOPPED
            raised = AirflowFailException if is_final else AirflowException
            raise raised(f"fanout ended with {code}; what became of each record: {out}")
        summary: dict[str, Any] = json.loads(output)
        return {"run_dir": str(out), "exit_code": code, "counts": summary["counts"]}

    def on_kill(self) -> None:
        """Let the calls in flight finish, for a minute at the most; the next try goes on from there."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(DRAIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
