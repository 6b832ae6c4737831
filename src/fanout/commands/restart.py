"""``run --resume``: begin the run if its directory holds none, go on with it if it is the same."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio.to_thread

from fanout.commands.changes import Changes, MayHaveRun
from fanout.commands.new_run import run
from fanout.commands.options import KEPT_ON_RESUME, is_batched, kept_in, options_of
from fanout.commands.resume import resume
from fanout.commands.run_input import place_of, recorded_place
from fanout.commands.run_request import RunRequest
from fanout.errors import ConfigError
from fanout.inputs import shown_location
from fanout.inputs.spool import complete_spool
from fanout.journal import STATE_FILE, RunDir
from fanout.report.summary import RunReport
from fanout.runs.audience import Audience


async def start_or_resume(
    request: RunRequest, audience: Audience, *, may_have_run: MayHaveRun | None = None
) -> RunReport:
    """Begin or go on, as the directory has it. Raises ConfigError when it holds another run."""
    out = request.out
    if out is None or not (out / STATE_FILE).exists():
        return await run(request, audience)
    run_dir = RunDir.open(out)
    check_same(request, run_dir.state, out)
    if request.location == "-" and (run_dir.spool.exists() or options_of(run_dir.state).spool):
        with run_dir.lock():
            await anyio.to_thread.run_sync(complete_spool, run_dir.spool, abandon_on_cancel=True)
    payloads = request.payloads if request.location is None else None
    changes = Changes(given=request.options.chosen(), may_have_run=may_have_run)
    return await resume(out, changes, audience, payloads=payloads)


def check_same(request: RunRequest, state: Mapping[str, Any], out: Path) -> None:
    """Raise ConfigError unless the directory's run has this function, input, and what changes payloads.

    Whether a file has changed since is for the resume to see.
    """
    function, kept = kept_in(state)
    asked = request.options.kept()
    before = {"function": function, **_that_change_payloads(kept), "input": recorded_place(state)}
    now = {
        "function": request.options.function,
        **_that_change_payloads(asked),
        "input": place_of(request),
    }
    if is_batched(kept) != is_batched(asked):
        before["batch"], now["batch"] = kept.get("batch"), asked.get("batch")
    for name, value in before.items():
        if value != now[name]:
            raise ConfigError(
                f"{out} holds another run: its {name} is {_shown(value)}, not {_shown(now[name])}: "
                "choose another --out"
            )


def _that_change_payloads(given: Mapping[str, object]) -> dict[str, object]:
    return {name: given.get(name) for name in sorted(KEPT_ON_RESUME - {"function"})}


def _shown(value: Any) -> str:
    return shown_location(value) if isinstance(value, str) else str(value)
