"""``fanout run``: one outcome a record, kept or streamed, from any input, with the right exit code."""

from __future__ import annotations

import gzip
import json
import logging
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path
from shlex import quote
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess
from tests.cli.inside import Inside
from tests.cli.running import FANOUT, HANDLER, Shell, end, interrupted, wait_until


def test_a_run_leaves_its_directory_and_says_what_came_of_it(shell: Shell) -> None:
    """run.json and outcomes.jsonl have the members they promise; the summary is on stderr; exit code 0."""
    shell.write("in.jsonl", 50)
    done = shell.run("run", "fast", "in.jsonl", "--out", "run")
    assert (done.code, done.out) == (0, "")
    assert "50" in done.err
    assert "\x1b" not in done.err
    outcomes = shell.outcomes()
    assert sorted(outcome["seq"] for outcome in outcomes) == list(range(50))
    for outcome in outcomes:
        assert outcome["status"] == "succeeded"
        assert outcome["output"] == {"n": outcome["seq"]}
        assert (outcome["attempts"], outcome["throttles"], outcome["http_status"]) == (1, 0, 200)
        assert {"request_id", "executed_version", "started_at", "queued_ms", "duration_ms"} <= set(outcome)
        assert "input" not in outcome
    state = shell.state()
    assert (state["state"], state["function"], state["records_read"]) == ("finished", "fast", 50)
    assert state["counts"] == {"succeeded": 50}
    assert state["input"]["location"] == "in.jsonl"
    assert {"fanout_version", "options", "started_at", "finished_at"} <= set(state)
    assert (shell.directory / "run" / "report.html").exists()
    assert (shell.directory / "run").stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in (shell.directory / "run").iterdir()} == {0o600}
    assert sum(shell.executions().values()) == 50

    again = shell.run("run", "fast", "in.jsonl", "--out", "run")
    again.assert_one_line(2, "run holds a run already", "fanout resume ")
    assert len(shell.outcomes()) == 50

    default = shell.run("run", "fast", "in.jsonl", "--quiet", "--take", "3", "--no-report")
    assert (default.code, default.out, default.err) == (0, "", "")
    (run_dir,) = (shell.directory / "runs").iterdir()
    assert run_dir.name.startswith("fast-")
    assert len(shell.outcomes(f"runs/{run_dir.name}")) == 3


def test_json_is_one_document_on_stdout(shell: Shell) -> None:
    """Whatever else is said is on stderr."""
    shell.write("in.jsonl", 5)
    done = shell.run("run", "errors", "in.jsonl", "--out", "run", "--json")
    report = json.loads(done.out)
    assert done.code == report["exit_code"] == 1
    assert report["counts"]["function_error"] == report["records"] == 5
    assert report["run_dir"] == "run"
    (outcome, *_) = shell.outcomes()
    assert outcome["status"] == "function_error"
    assert outcome["error"]["type"] == "Boom"
    assert outcome["error"]["message"] == "went off"
    assert outcome["input"] == {"n": outcome["seq"]}
    assert f"fanout redrive {quote(f'{shell.directory}/run')}\n" in done.err


def test_outcomes_stream_to_stdout_in_order_if_asked(shell: Shell) -> None:
    """With ``--out -`` there is no directory, and stdout has nothing but outcomes."""
    shell.write("in.jsonl", 300)
    plain = shell.run("run", "fast", "in.jsonl", "--out", "-")
    assert plain.code == 0
    assert sorted(outcome["seq"] for outcome in plain.lines) == list(range(300))
    ordered = shell.run("run", "fast", "in.jsonl", "--out", "-", "--keep-order", "--quiet")
    assert [outcome["seq"] for outcome in ordered.lines] == list(range(300))
    assert ordered.err == ""
    assert not (shell.directory / "runs").exists()


def test_a_reader_that_goes_away_ends_the_run_quietly(shell: Shell) -> None:
    """As ``| head -1`` does; nothing is printed, and the input is not run to its end."""
    shell.write("in.jsonl", 20_000)
    done = subprocess.run(
        ["sh", "-c", f"'{FANOUT}' run fast in.jsonl --out - -j 20 | head -1"],
        cwd=shell.directory,
        env=shell.environment,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert json.loads(done.stdout)["status"] == "succeeded"
    assert done.stderr == b""
    assert sum(shell.executions().values()) < 20_000


BAD_LINES = b'\xef\xbb\xbf{"n":0}\r\n\r\n  \n{broken\n{"n":1}\n"\xff"\n{"n":2}'


@pytest.mark.parametrize("how", ["path", "gzip", "stdin"])
def test_json_lines_with_every_oddity(shell: Shell, how: str) -> None:
    """BOM, CRLF, blank lines and no last line break are fine; a bad line is rejected, with its number."""
    name, stdin = "in.jsonl", None
    if how == "gzip":
        name = "in.jsonl.gz"
        (shell.directory / name).write_bytes(gzip.compress(BAD_LINES))
    elif how == "path":
        (shell.directory / name).write_bytes(BAD_LINES)
    else:
        name, stdin = "-", BAD_LINES
    done = shell.run("run", "fast", name, "--out", "run", stdin=stdin)
    assert done.code == 1
    outcomes = sorted(shell.outcomes(), key=lambda outcome: outcome["seq"])
    assert [outcome["status"] for outcome in outcomes] == [
        "succeeded",
        "rejected",
        "succeeded",
        "rejected",
        "succeeded",
    ]
    assert [outcome.get("line") for outcome in outcomes] == [None, 4, None, 6, None]
    assert outcomes[1]["input"] == "{broken"
    assert outcomes[1]["attempts"] == 0
    assert shell.state()["counts"] == {"succeeded": 3, "rejected": 2}
    assert shell.executions() == {"0": 1, "1": 1, "2": 1}
    if how == "stdin":
        assert (shell.directory / "run" / "spool").read_bytes() == BAD_LINES


def test_other_formats_and_expressions(shell: Shell) -> None:
    """CSV and JSON arrays; ``--key`` names a record, ``--select`` makes its payload."""
    (shell.directory / "in.csv").write_text('n,name\n1,"a, b"\n2,c\n')
    (shell.directory / "in.json").write_text('[{"n": 1, "id": "x"}, {"n": 2, "id": "y"}]')
    csv = shell.run("run", "fast", "in.csv", "--out", "-", "--keep-order", "-q").lines
    assert [outcome["output"] for outcome in csv] == [{"n": "1", "name": "a, b"}, {"n": "2", "name": "c"}]
    array = shell.run(
        "run", "fast", "in.json", "--out", "-", "--keep-order", "-q", "--key", "id", "--select", "{n: n}"
    ).lines
    assert [(outcome["key"], outcome["output"]) for outcome in array] == [("x", {"n": 1}), ("y", {"n": 2})]
    forced = shell.run("run", "fast", "-", "--format", "json", "--out", "-", "-q", stdin=b"[1, 2, 3]").lines
    assert sorted(outcome["output"] for outcome in forced) == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "status", "http_status"), [("Event", "accepted", 202), ("DryRun", "valid", 204)]
)
def test_other_invocation_types(shell: Shell, kind: str, status: str, http_status: int) -> None:
    """An Event is accepted, a DryRun is valid: neither is called succeeded."""
    shell.write("in.jsonl", 4)
    done = shell.run("run", "fast", "in.jsonl", "--out", "-", "--invocation-type", kind, "-q")
    assert done.code == 0
    assert {(outcome["status"], outcome["http_status"]) for outcome in done.lines} == {(status, http_status)}


@pytest.mark.parametrize("transport", ["direct", "sdk"])
def test_a_handler_on_this_machine(tmp_path: Path, transport: str) -> None:
    """``--local`` runs a handler with no account, and no credentials, in either way of sending."""
    shell = Shell(tmp_path)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_REGION"):
        del shell.environment[name]
    (tmp_path / "app.py").write_text(HANDLER)
    (tmp_path / "in.jsonl").write_text('{"n": 0}\n{"n": 1, "fail": true}\n{"n": 2}\n')
    done = shell.run(
        *("run", "demo", "in.jsonl", "--local", "app.py:handler", "--local-concurrency", "2"),
        *("--out", "run", "--log-type", "Tail", "--transport", transport),
    )
    assert done.code == 1, done.err
    outcomes = sorted(shell.outcomes(), key=lambda outcome: outcome["seq"])
    assert [outcome["status"] for outcome in outcomes] == ["succeeded", "function_error", "succeeded"]
    assert outcomes[0]["output"] == {"got": {"n": 0}}
    assert outcomes[1]["error"]["type"] == "ValueError"
    assert outcomes[1]["error"]["message"] == "bad record 1"
    assert outcomes[1]["error"]["stack_trace"]
    assert all(outcome["billed_ms"] >= 1 and outcome["memory_mb"] == 128 for outcome in outcomes)
    assert sum("init_ms" in outcome for outcome in outcomes) >= 1


def test_what_passes_is_tried_again_and_then_undelivered(shell: Shell) -> None:
    """``--retries`` says how often."""
    shell.write("in.jsonl", 2)
    done = shell.run("run", "shy", "in.jsonl", "--out", "run", "--retries", "2")
    assert done.code == 1
    assert {(o["status"], o["attempts"], o["http_status"]) for o in shell.outcomes()} == {
        ("undelivered", 3, 503)
    }
    assert shell.state()["state"] == "finished"


def test_thresholds_stop_a_run(shell: Shell) -> None:
    """Exit code 3; what was read is accounted for; a percentage counts from a hundred outcomes on."""
    shell.write("in.jsonl", 5_000)
    count = shell.run(
        "run", "errors", "in.jsonl", "--out", "run", "-j", "5", "--tolerated-failure-count", "10"
    )
    assert count.code == 3
    state = shell.state()
    assert (state["state"], state["halted_by"]) == ("halted", "threshold")
    assert 10 < len(shell.outcomes()) < 1_000
    assert state["records_read"] == len(shell.outcomes()) + len(state.get("not_sent", []))
    assert "10 are tolerated" in count.err
    assert f"fanout resume {quote(f'{shell.directory}/run')}\n" in count.err

    share = shell.run(
        *("run", "errors", "in.jsonl", "--out", "share", "-j", "1"),
        *("--tolerated-failure-percentage", "50", "--take", "99"),
    )
    assert share.code == 1  # all failed, but there were not a hundred
    assert len(shell.outcomes("share")) == 99


def test_a_deadline_stops_a_run_that_resumes(shell: Shell) -> None:
    """Exit code 5; the rest is sent by a resume, and nothing twice."""
    shell.write("in.jsonl", 400)
    done = shell.run("run", "steady", "in.jsonl", "--out", "run", "-j", "5", "--deadline", "500ms")
    assert done.code == 5
    assert (shell.state()["state"], shell.state()["halted_by"]) == ("halted", "deadline")
    first = len(shell.outcomes())
    assert 0 < first < 400
    resumed = shell.run("resume", "run", "--deadline", "1h", "-j", "20")
    assert resumed.code == 0, resumed.err
    assert sorted(outcome["seq"] for outcome in shell.outcomes()) == list(range(400))
    assert set(shell.executions().values()) == {1}


def test_a_spending_cap_stops_a_run(shell: Shell) -> None:
    """Exit code 5 as well."""
    shell.write("in.jsonl", 5_000)
    done = shell.run("run", "fast", "in.jsonl", "--out", "run", "-j", "5", "--max-cost", "0.00002")
    assert done.code == 5
    assert shell.state()["halted_by"] == "cost"
    assert 20 < len(shell.outcomes()) < 2_000
    assert "allowed" in done.err
    spent = shell.run("report", "run", "--json").out
    assert 0.00002 <= json.loads(spent)["cost"]["usd"] < 0.00002 * 1.2  # one mean call per permit at the most


def test_truncated_gzip_accounts_for_what_was_read(shell: Shell) -> None:
    """The records before the cut have outcomes; one line says what happened; exit code 2."""
    lines = b"".join(b'{"n": %d, "x": "%s"}\n' % (n, os.urandom(20).hex().encode()) for n in range(5_000))
    (shell.directory / "in.jsonl.gz").write_bytes(gzip.compress(lines)[:-20_000])
    done = shell.run("run", "fast", "in.jsonl.gz", "--out", "run")
    assert done.code == 2
    state = shell.state()
    assert (state["state"], state["halted_by"]) == ("halted", "source")
    assert "in.jsonl.gz: ends in the middle of its gzip data" in state["message"]
    assert sum(state["counts"].values()) == state["records_read"] == len(shell.outcomes()) > 1_000
    assert "Traceback" not in done.err


# --- signals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_drains(shell: Shell, number: signal.Signals, code: int) -> None:
    """No new calls, those in flight finish, the exact resume command is printed, and it works."""
    shell.write("in.jsonl", 300)
    process = shell.start("run", "steady", "in.jsonl", "--out", "run", "-j", "2")
    with interrupted(process):
        shell.wait_for_outcomes(10)
        process.send_signal(number)
        done = end(process)
    assert done.code == code
    assert f"fanout resume {quote(f'{shell.directory}/run')}\n" in done.err
    assert "Traceback" not in done.err
    state = shell.state()
    assert state["state"] == "interrupted"
    outcomes = shell.outcomes()
    assert 10 <= len(outcomes) < 300
    assert {outcome["status"] for outcome in outcomes} == {"succeeded"}
    assert sum(shell.executions().values()) == len(outcomes)  # what ran is known, all of it
    resumed = shell.run("resume", "run", "-j", "20")
    assert resumed.code == 0
    assert "may have run" not in resumed.err
    assert sorted(outcome["seq"] for outcome in shell.outcomes()) == list(range(300))
    assert set(shell.executions().values()) == {1}
    assert shell.state()["state"] == "finished"
    assert shell.state()["counts"] == {"succeeded": 300}


def test_the_second_signal_stops_at_once(tmp_path: Path) -> None:
    """In flight stays without an outcome, as what may have run; a resume skips it by default."""
    with EmulatorProcess(simulate=["name=f,latency=1h"], extra=["--count-by", "n"]) as emulator:
        shell = Shell(tmp_path, emulator)
        shell.write("in.jsonl", 20)
        process = shell.start("run", "f", "in.jsonl", "--out", "run", "-j", "10")
        with interrupted(process):
            wait_until(lambda: emulator.stats()["in_flight"] == 10)
            process.send_signal(signal.SIGINT)
            wait_until(lambda: process.poll() is not None or b"no new calls" in _read_some(process))
            process.send_signal(signal.SIGINT)
            done = end(process)
        ran = shell.executions()
    assert done.code == 130
    assert shell.outcomes() == []
    assert shell.state()["state"] == "interrupted"
    with EmulatorProcess(simulate=["name=f"], extra=["--count-by", "n"]) as emulator:
        shell = Shell(tmp_path, emulator)
        resumed = shell.run("resume", "run", "--may-have-run", "skip")
        ran |= shell.executions()
    assert resumed.code == 1
    by_status: dict[str, set[int]] = {}
    for outcome in shell.outcomes():
        by_status.setdefault(outcome["status"], set()).add(outcome["seq"])
    assert by_status == {"unknown": set(range(10)), "succeeded": set(range(10, 20))}
    assert ran == {str(seq): 1 for seq in range(20)}


def _read_some(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stderr is not None
    return os.read(process.stderr.fileno(), 65_536)


@pytest.mark.skipif(sys.platform == "win32", reason="no resource limits")
def test_a_full_disk_stops_a_run_that_resumes(shell: Shell) -> None:
    """Exit code 5, one line that says so, and nothing lost."""
    shell.write("in.jsonl", 3_000)
    # A file may not grow beyond 200 KiB: the journal of 3,000 records would.
    limited = (
        "import resource, signal, os, sys\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200 * 1024, 200 * 1024))\n"
        "os.execv(sys.argv[1], sys.argv[1:])\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            limited,
            FANOUT,
            "run",
            "fast",
            "in.jsonl",
            "--out",
            "run",
            "-j",
            "10",
            "--no-report",
        ],
        cwd=shell.directory,
        # Coverage's own data would not fit either: half of a file is no data.
        env={k: v for k, v in shell.environment.items() if not k.startswith("COVERAGE")},
        capture_output=True,
        timeout=60,
        check=False,
    )
    err = done.stderr.decode()
    assert done.returncode == 5, err
    assert "Traceback" not in err
    assert "outcomes.jsonl cannot be written: File too large" in err
    resumed = shell.run("resume", "run", "--may-have-run", "send")
    assert resumed.code == 0, resumed.err
    assert sorted({outcome["seq"] for outcome in shell.outcomes()}) == list(range(3_000))


# --- moto ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["direct", "sdk"])
def test_against_moto_record_by_record(tmp_path: Path, moto: str, transport: str) -> None:
    """An implementation of the Invoke API that knows nothing of fanout echoes each record."""
    shell = Shell(tmp_path)
    shell.environment["AWS_ENDPOINT_URL"] = moto
    shell.write("in.jsonl", 60)
    done = shell.run("run", "moto-function", "in.jsonl", "--out", "run", "--transport", transport, "-j", "8")
    assert done.code == 0, done.err
    outcomes = shell.outcomes()
    assert sorted(outcome["seq"] for outcome in outcomes) == list(range(60))
    assert all(outcome["output"] == {"n": outcome["seq"]} for outcome in outcomes)


@pytest.fixture(scope="module")
def moto() -> Any:
    """moto's server in simple mode, with one function."""
    import io
    import urllib.request
    import zipfile

    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    url = f"http://{host}:{port}"
    request = urllib.request.Request(
        f"{url}/moto-api/config",
        data=b'{"lambda":{"use_docker":false}}',
        headers={"Content-Type": "application/json"},
        method="POST",
    )
    urllib.request.urlopen(request).close()
    account = {"region_name": "us-east-1", "aws_access_key_id": "test", "aws_secret_access_key": "test"}
    iam = boto3.client("iam", endpoint_url=url, **account)
    role = iam.create_role(RoleName="r", AssumeRolePolicyDocument="{}", Path="/")["Role"]["Arn"]
    code = io.BytesIO()
    with zipfile.ZipFile(code, "w") as archive:
        archive.writestr("app.py", "def handler(event, context): return event")
    boto3.client("lambda", endpoint_url=url, **account).create_function(
        FunctionName="moto-function",
        Runtime="python3.12",
        Role=role,
        Handler="app.handler",
        Code={"ZipFile": code.getvalue()},
    )
    yield url
    server.stop()


def test_a_live_page_beside_the_run(shell: Shell) -> None:
    """--dashboard 0: the address is printed first, answers while the run goes on, and is gone after it."""
    shell.write("in.jsonl", 60)
    process = shell.start(
        "run", "steady", "in.jsonl", "-j", "3", "--out", "run", "--dashboard", "0", "--quiet"
    )
    with interrupted(process):
        assert process.stderr is not None
        address = process.stderr.readline().decode().strip().removeprefix("dashboard: ")
        with urllib.request.urlopen(address) as reply:
            assert b"<h1>steady" in reply.read()
        with pytest.raises(urllib.error.HTTPError, match="403") as refusal:
            urllib.request.urlopen(address.partition("?")[0])
        refusal.value.close()
        assert end(process).code == 0
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(address)
    assert "dashboard" not in shell.state()["options"]


def test_what_the_engine_warns_of_is_a_message_of_the_run(
    inside: Inside, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the program's name, above the progress, and once."""
    log = logging.getLogger("fanout.dispatcher")
    monkeypatch.setattr("fanout.cli.run_display.show", lambda *_, **__: log.warning("too late"))
    monkeypatch.setattr("fanout.commands.session.write_page", lambda _: log.warning("pausing"))
    inside.write("in.jsonl", 1)
    ended = inside.run("run", "fast", "in.jsonl", "--out", "run", "--quiet")
    assert (ended.code, ended.err.count("pausing"), "fanout: pausing\n" in ended.err) == (0, 1, True)
    assert "fanout: too late" not in ended.err
