"""What Dask logs reaches no terminal, and is in fanout's log for who asks."""

from __future__ import annotations

import asyncio
import logging
import sys

import pytest

from fanout.errors import ConfigError
from fanout.workers.dask_crew import DaskCrew
from fanout.workers.dask_logs import pass_on_exceptions, pass_on_logs

pytest.importorskip("distributed")
LOGGERS = ["distributed.core", "distributed.client", "distributed.new.one", "tornado.application", "bokeh"]


@pytest.mark.parametrize("name", LOGGERS)
def test_a_traceback_goes_to_the_log_alone(
    name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whichever logger it is of; what was before is there again afterwards."""
    root = logging.getLogger(name.partition(".")[0])
    mine = logging.FileHandler("/dev/null")
    own = logging.StreamHandler(sys.stderr)
    root.addHandler(own)
    root.addHandler(mine)
    undo = pass_on_logs()
    try:
        assert mine in root.handlers
        assert own not in root.handlers
        with caplog.at_level(logging.INFO, logger="fanout"):
            logging.getLogger(name).error("it broke", exc_info=OSError("gone"))
    finally:
        undo()
        assert own in root.handlers
        root.removeHandler(own)
        root.removeHandler(mine)
        mine.close()
    assert capfd.readouterr().err == ""
    assert f"{name}: it broke" in caplog.text
    assert "OSError: gone" in caplog.text


async def test_what_nobody_awaited_goes_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """As the loop of a Dask client says it."""
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    pass_on_exceptions(loop)
    try:
        with caplog.at_level(logging.INFO):
            loop.call_exception_handler({"message": "never retrieved", "exception": OSError("gone")})
    finally:
        loop.set_exception_handler(before)
    assert [record.name for record in caplog.records] == ["fanout"]


async def test_workers_that_cannot_be_started_are_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """A process killed while it starts, or no room for one."""

    def fail(**_: object) -> None:
        raise RuntimeError("Nanny failed to start worker process\nsecond line")

    monkeypatch.setattr("distributed.LocalCluster", fail)
    with pytest.raises(ConfigError) as raised:
        await DaskCrew(workers=2).open()
    assert str(raised.value) == "workers cannot be started: Nanny failed to start worker process: try again"
