"""``run --resume``: begin the run if its directory holds none, go on with it if it is the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio.to_thread

from fanout.commands.audience import Audience
from fanout.commands.new_run import run
from fanout.commands.request import KEPT_ON_RESUME, Request, is_batched
from fanout.commands.resume import Changes, MayHaveRun, resume
from fanout.commands.run_input import place_of, recorded_place
from fanout.errors import ConfigError
from fanout.inputs import shown_location
from fanout.inputs.spool import complete_spool
from fanout.journal import STATE_FILE, RunDir
from fanout.report.summary import RunReport


async def start_or_resume(
    request: Request, audience: Audience, *, may_have_run: MayHaveRun | None = None
) -> RunReport:
    """Begin or go on, as the directory has it. Raises ConfigError when it holds another run."""
    out = request.out
    if out is None or not (out / STATE_FILE).exists():
        return await run(request, audience)
    run_dir = RunDir.open(out)
    check_same(request, run_dir.state, out)
    if request.location == "-" and run_dir.spool.exists():
        with run_dir.lock():
            await anyio.to_thread.run_sync(complete_spool, run_dir.spool, abandon_on_cancel=True)
    payloads = request.payloads if request.location is None else None
    changes = Changes(
        options={**request.options, "transport": request.transport},
        run_options=request.chosen_run(),
        may_have_run=may_have_run,
    )
    return await resume(out, changes, audience, payloads=payloads)


def check_same(request: Request, state: dict[str, Any], out: Path) -> None:
    """Raise ConfigError unless the directory's run has this function, input, and what changes payloads.

    Whether a file has changed since is for the resume to see.
    """
    kept = state.get("options") or {}
    asked = request.kept()
    before: dict[str, Any] = {"function": state.get("function")}
    now: dict[str, Any] = {"function": request.function}
    for name in KEPT_ON_RESUME - {"function"}:
        before[name], now[name] = kept.get(name), asked.get(name)
    if is_batched(kept) != is_batched(asked):
        before["batch"], now["batch"] = kept.get("batch"), asked.get("batch")
    before["input"], now["input"] = recorded_place(state), place_of(request)
    for name, value in before.items():
        if value != now[name]:
            raise ConfigError(
                f"{out} holds another run: its {name} is {_shown(value)}, not {_shown(now[name])}: "
                "choose another --out"
            )


def _shown(value: Any) -> str:
    return shown_location(value) if isinstance(value, str) else str(value)
