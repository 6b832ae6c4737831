"""A function that is not charged by the GB-second: its cost is not known, and no cap is kept blindly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import fanout
from tests.cli.serving import serving
from tests.transports.wire import Received, Script, http

MANAGED = {
    "Configuration": {
        "Timeout": 30,
        "MemorySize": 2048,
        "CapacityProviderConfig": {
            "LambdaManagedInstancesCapacityProviderConfig": {"PerExecutionEnvironmentMaxConcurrency": 16}
        },
    }
}


def answer(request: Received) -> Script:
    """Limits of a managed function; every call succeeds."""
    if request.method == "GET" and "account-settings" not in request.path:
        return Script(http(200, json.dumps(MANAGED).encode()))
    return Script(http(200, b"{}"))


def test_a_function_on_managed_instances(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The report, live and from the disk, says that its cost is not known; ``max_cost`` is refused."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "local")
    with serving() as endpoint:
        endpoint.respond = answer
        where = {"endpoint_url": endpoint.url, "region": "eu-west-1"}
        seen: list[float | None] = []
        report = fanout.run(
            "f",
            [1, 2, 3],
            out=tmp_path / "run",
            on_progress=lambda snapshot: seen.append(snapshot.cost_usd),
            **where,  # type: ignore[arg-type]
        )
        with pytest.raises(fanout.ConfigError, match="max_cost cannot be kept: the function has managed"):
            fanout.run("f", [1], out=tmp_path / "capped", max_cost=1.0, **where)  # type: ignore[arg-type]
    assert not (tmp_path / "capped").exists()
    assert report.counts["succeeded"] == 3
    assert set(seen) == {None}
    for each in (report, fanout.RunReport.from_run_dir(tmp_path / "run")):
        assert each.to_dict()["cost"]["usd"] is None
        assert "cost        not known" in each.render()
        each.write_html(tmp_path / "page.html")
        assert "managed instances" in (tmp_path / "page.html").read_text()
