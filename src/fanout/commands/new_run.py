"""A whole new run: from its beginning, or going on after the canary of a plan."""

from __future__ import annotations

from fanout.commands.on_finish import conclude
from fanout.commands.run_input import place_of, recorded_place
from fanout.commands.run_request import RunRequest
from fanout.commands.start import start
from fanout.errors import ConfigError
from fanout.inputs import shown_location
from fanout.journal import STATE_FILE, RunDir
from fanout.report.summary import RunReport
from fanout.runs.audience import Audience


async def run(request: RunRequest, audience: Audience) -> RunReport:
    """Do a whole new run, and what was asked for its end. Raises as ``start``."""
    if request.out is not None and is_planned(request):
        return await _go_on_after_canary(request, audience)
    report = await start(request, audience)
    if request.canary is not None:
        return report
    return await conclude(report, request.options, audience)


def is_planned(request: RunRequest) -> bool:
    """True if the directory holds the canary of just this run. Raises ConfigError for another's."""
    assert request.out is not None
    if not (request.out / STATE_FILE).exists():
        return False
    state = RunDir.open(request.out).state
    if not state.get("is_planned"):
        return False
    planned = (state.get("function"), recorded_place(state))
    if planned != (request.options.function, place_of(request)):
        raise ConfigError(
            f"{request.out}: holds the canary of {planned[0]} with {shown_location(str(planned[1]))}: "
            "choose another --out"
        )
    return True


async def _go_on_after_canary(request: RunRequest, audience: Audience) -> RunReport:
    from fanout.commands.changes import Changes
    from fanout.commands.resume import resume

    assert request.out is not None
    audience.say(f"{request.out}: going on after the canary")
    return await resume(request.out, Changes(given=request.options.chosen()), audience)
