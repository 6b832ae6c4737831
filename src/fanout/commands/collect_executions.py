"""The outcomes of a durable function's Event calls, from the list of its executions.

Statuses come from the list, a thousand a page; details are asked for one by one, for failures and where
outputs are wanted. All of it stays within the control plane's 15 requests a second.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import anyio
import msgspec

from fanout.aws import AwsSession
from fanout.commands.collection import journaled
from fanout.errors import SourceError, TransportError
from fanout.function_name import split_qualifier
from fanout.journal import OUTCOMES_FILE, Journal, RunDir, StoredOutcome, decode_line
from fanout.model import ErrorDetail, Outcome
from fanout.payload import embed
from fanout.quantities import iso
from fanout.queues.accepted import AcceptedCalls
from fanout.transports.control import ControlClient, ControlRefusal, path_part
from fanout.transports.signed_http import SignedHttp

_REQUESTS_PER_S = 10.0
_FIRST_PAUSE_S = 1.0
_LONGEST_PAUSE_S = 30.0
_RUNNING = frozenset({"RUNNING", "PAUSING", "PAUSED", "DELETING"})
_stored = msgspec.json.Decoder(StoredOutcome)


class Executions:
    """The executions of one function, read slowly enough. Raises SourceError for what Lambda refuses."""

    def __init__(self, control: ControlClient, function: str, qualifier: str | None) -> None:
        self._control = control
        self._path = f"/2025-12-01/functions/{path_part(function)}/durable-executions"
        self._query = {"MaxItems": "1000", **({"Qualifier": qualifier} if qualifier else {})}
        self._next_s = 0.0

    async def page(self, marker: str | None) -> tuple[list[dict[str, Any]], str | None]:
        """A page of executions, and the marker of the next one."""
        query = self._query if marker is None else {**self._query, "Marker": marker}
        reply = await self._get("ListDurableExecutionsByFunction", self._path, query)
        found = reply.get("DurableExecutions")
        return (found if isinstance(found, list) else []), reply.get("NextMarker") or None

    async def details(self, arn: str) -> dict[str, Any]:
        """Result or error of one execution, and its payload."""
        path = f"/2025-12-01/durable-executions/{path_part(arn)}"
        return await self._get("GetDurableExecution", path, {"IncludeExecutionData": "true"})

    async def _get(self, action: str, path: str, query: Mapping[str, str]) -> dict[str, Any]:
        now_s = time.monotonic()
        self._next_s = max(now_s, self._next_s) + 1 / _REQUESTS_PER_S
        await anyio.sleep(self._next_s - 1 / _REQUESTS_PER_S - now_s)
        try:
            return await self._control.get(path, query)
        except ControlRefusal as refusal:
            raise SourceError(f"lambda:{action} was refused: {refusal}") from refusal
        except (TransportError, OSError) as error:
            raise SourceError(f"lambda:{action} brought no reply: {error}") from error


class ExecutionCollector:
    """Completes a run's accepted records from its executions, until ``should_stop``."""

    def __init__(
        self,
        executions: Executions,
        calls: AcceptedCalls,
        journal: Journal,
        *,
        run_id: str,
        with_outputs: bool,
        deadline_s: float,
        say: Callable[[str], None],
        should_stop: Callable[[], bool],
    ) -> None:
        self._executions = executions
        self._calls = calls
        self._journal = journal
        self._prefix = f"{run_id}-"
        self._with_outputs = with_outputs
        self._deadline_s = deadline_s
        self._say = say
        self._should_stop = should_stop
        self._collected: set[int] = set()  # in this sweep

    async def run(self) -> None:
        """Sweep over the list until nothing is open, or until the deadline of the monotonic clock."""
        pause_s = _FIRST_PAUSE_S
        while not self._should_stop():
            await self._journal.flush()
            await anyio.to_thread.run_sync(self._calls.update)
            self._collected.clear()
            left = self._calls.open_count
            if not left:
                return
            self._say(f"{left:,} executions are still out")
            await self._sweep()
            if time.monotonic() >= self._deadline_s:
                return
            if not self._collected:
                await anyio.sleep(min(pause_s, max(0.0, self._deadline_s - time.monotonic())))
                pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    async def _sweep(self) -> None:
        marker: str | None = None
        while not self._should_stop():
            executions, marker = await self._executions.page(marker)
            outcomes = []
            for execution in executions:
                outcome = await self._outcome_of(execution)
                if outcome is not None:
                    outcomes.append(outcome)
                    self._collected.add(outcome.seq)
            self._journal.write(outcomes)
            if marker is None:
                return

    async def _outcome_of(self, execution: Mapping[str, Any]) -> Outcome | None:
        """The outcome of an execution that has ended and that a record waits for."""
        name, arn, status = (
            execution.get(k) for k in ("DurableExecutionName", "DurableExecutionArn", "Status")
        )
        if not isinstance(name, str) or not isinstance(arn, str) or status in _RUNNING:
            return None
        seq = name.removeprefix(self._prefix).split("-")[0]
        if (
            not name.startswith(self._prefix)
            or not (seq.isascii() and seq.isdigit())
            or int(seq) in self._collected
        ):
            return None
        call = self._calls.open_call(int(seq))
        if call is None:
            return None
        stored = decode_line(self._calls.line_of(call), _stored)
        if stored.durable_execution_arn != arn:
            return None  # of an earlier generation
        accepted = Outcome(**{member: getattr(stored, member) for member in Outcome.__struct_fields__})
        changes: dict[str, Any] = {"collected_at": iso(time.time())}
        if status == "SUCCEEDED":
            changes["status"] = "succeeded"
            if self._with_outputs:
                result = (await self._executions.details(arn)).get("Result")
                if isinstance(result, str):
                    changes["output_raw"], changes["output_encoding"] = embed(result.encode())
        else:
            details = await self._executions.details(arn)
            payload = details.get("InputPayload")
            changes["status"] = "function_error"
            changes["error"] = _error(details.get("Error"), str(status))
            if isinstance(payload, str):
                changes["input_raw"], changes["input_encoding"] = embed(payload.encode())
        return msgspec.structs.replace(accepted, **changes)


def _error(error: Any, status: str) -> ErrorDetail:
    members = error if isinstance(error, dict) else {}
    kind, message, trace = (members.get(name) for name in ("ErrorType", "ErrorMessage", "StackTrace"))
    return ErrorDetail(
        kind if isinstance(kind, str) and kind else status,
        message if isinstance(message, str) else f"the execution ended as {status}",
        stack_trace=[str(line) for line in trace] if isinstance(trace, list) else None,
    )


async def collect_executions(
    run_dir: RunDir,
    session: AwsSession,
    *,
    function: str,
    qualifier: str | None,
    with_outputs: bool,
    wait_s: float | None,
    say: Callable[[str], None],
    should_stop: Callable[[], bool],
) -> None:
    """Collect into a run directory whose lock the caller holds. Raises SourceError or JournalError."""
    path: Path = run_dir.path
    name, qualifier = split_qualifier(function, qualifier)
    with closing(await anyio.to_thread.run_sync(AcceptedCalls, path / OUTCOMES_FILE)) as calls:
        http = await SignedHttp.open(session)
        try:
            journal = await Journal.open(path, generation=int(run_dir.state.get("generation", 0)))
            collector = ExecutionCollector(
                Executions(ControlClient(http), name, qualifier),
                calls,
                journal,
                run_id=str(run_dir.state["id"]),
                with_outputs=with_outputs,
                deadline_s=float("inf") if wait_s is None else time.monotonic() + wait_s,
                say=say,
                should_stop=should_stop,
            )
            failure = await journaled(journal, collector.run)
        finally:
            await http.aclose()
    if failure is not None:
        raise failure
