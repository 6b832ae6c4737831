"""``fanout functions``: what there is to invoke, through all pages, in three shapes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import pytest

from tests.cli.serving import Terminal, in_region
from tests.cli.test_invoke import on_a_terminal
from tests.transports.wire import Received, Script, Wire, http


def function(number: int, **members: Any) -> dict[str, Any]:
    """One entry of ListFunctions."""
    name = f"orders-{number:04d}" if number % 2 else f"audit-{number:04d}"
    return {
        "FunctionName": name,
        "FunctionArn": f"arn:aws:lambda:eu-west-1:123456789012:function:{name}",
        "Runtime": "python3.13",
        "MemorySize": 128 + number,
        "Timeout": 30,
        "LastModified": "2026-11-20T08:00:00.000+0000",
        "PackageType": "Zip",
        "Architectures": ["arm64"],
        **members,
    }


FUNCTIONS = [function(number) for number in range(2_500)]
FUNCTIONS[1] = function(1, PackageType="Image", Runtime=None, Architectures=["x86_64"])
FUNCTIONS[1].pop("Runtime")


def list_functions(request: Received) -> Script:
    """Fifty a page, as Lambda does it."""
    start = int(parse_qs(request.query).get("Marker", ["0"])[0])
    page: dict[str, Any] = {"Functions": FUNCTIONS[start : start + 50]}
    if start + 50 < len(FUNCTIONS):
        page["NextMarker"] = str(start + 50)
    return Script(http(200, json.dumps(page).encode()))


@pytest.fixture
def terminal(
    endpoint: Wire, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Terminal:
    """The command, with credentials and the endpoint set."""
    in_region(monkeypatch, endpoint)
    endpoint.received.clear()
    endpoint.respond = list_functions
    return Terminal(monkeypatch, capfdbinary, tmp_path, endpoint)


def test_every_page_is_read(terminal: Terminal) -> None:
    """Thousands, sorted by name, as tab-separated lines when piped."""
    ran = terminal.fanout("functions")
    lines = ran.out.decode().splitlines()
    assert (ran.code, ran.err) == (0, "")
    assert [line.split("\t")[0] for line in lines] == sorted(entry["FunctionName"] for entry in FUNCTIONS)
    assert lines[0] == "audit-0000\tpython3.13\t128\t30\t2026-11-20T08:00:00.000+0000"
    assert len(terminal.endpoint.received) == 50


def test_a_prefix_selects(terminal: Terminal) -> None:
    """Only those whose name begins with it; an image has no runtime."""
    lines = terminal.fanout("functions", "orders-00").out.decode().splitlines()
    assert len(lines) == 50
    assert lines[0].split("\t")[:3] == ["orders-0001", "image", "129"]
    assert terminal.fanout("functions", "nosuch").out == b""


def test_json_is_an_array(terminal: Terminal) -> None:
    """With the ARN and the architecture too."""
    found = json.loads(terminal.fanout("functions", "orders-0003", "--json").out)
    assert found == [
        {
            "name": "orders-0003",
            "runtime": "python3.13",
            "memory_mb": 131,
            "timeout_s": 30,
            "last_modified": "2026-11-20T08:00:00.000+0000",
            "arn": "arn:aws:lambda:eu-west-1:123456789012:function:orders-0003",
            "architecture": "arm64",
        }
    ]


def test_a_terminal_gets_a_table(terminal: Terminal) -> None:
    """With units and a count."""
    code, shown = on_a_terminal("functions", "orders-000")
    assert code == 0
    assert "orders-0003" in shown
    assert "131 MB" in shown
    assert "30 s" in shown
    assert "5 functions" in shown


def test_a_refusal_names_the_permission(terminal: Terminal) -> None:
    """One line, exit 4."""
    terminal.endpoint.answer(
        http(403, b'{"Message":"not\\nyours"}', {"x-amzn-ErrorType": "AccessDeniedException"})
    )
    ran = terminal.fanout("functions")
    assert ran.code == 4
    assert ran.err == (
        "fanout: the functions cannot be listed: AccessDeniedException: not yours "
        "(it takes lambda:ListFunctions)\n"
    )


def test_an_endpoint_that_is_not_there_exits_4(terminal: Terminal) -> None:
    """One line that names it."""
    ran = terminal.fanout("functions", "--endpoint-url", "http://127.0.0.1:1")
    assert ran.code == 4
    assert "http://127.0.0.1:1" in ran.err
    assert ran.err.count("\n") == 1


def test_no_function_is_said_on_a_terminal(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """On standard error; a script reads an empty list."""
    terminal.endpoint.answer(http(200, b'{"Functions":[]}'))
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    for words, said in ((["x"], "no function begins with 'x'\n"), ([], "no functions in this Region\n")):
        ran = terminal.fanout("functions", *words)
        assert (ran.code, ran.out, ran.err) == (0, b"", said)
    ran = terminal.fanout("functions", "--json")
    assert (json.loads(ran.out), ran.err) == ([], "")
