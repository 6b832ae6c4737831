"""``fanout resume``: every record without an outcome, and none of the others."""

from __future__ import annotations

import http.server
import json
import os
import re
import signal
import subprocess
import threading
from datetime import datetime, timedelta
from pathlib import Path
from shlex import quote

import pytest

from fanout.emulator import EmulatorProcess
from tests.cli.inside import Inside
from tests.cli.running import Shell, end, interrupted, wait_until


def kill_in_the_middle(shell: Shell, *words: str, at_least: int = 30) -> None:
    """Start a run and kill its whole process group when so many outcomes are written."""
    process = shell.start(*words)
    with interrupted(process):
        shell.wait_for_outcomes(at_least)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.mark.parametrize("choice", ["send", "skip", None])
def test_after_a_kill_what_may_have_run_is_told_apart(shell: Shell, choice: str | None) -> None:
    """Finished records are not sent again; the unclear ones are sent or become unknown, as chosen."""
    shell.write("in.jsonl", 300)
    kill_in_the_middle(shell, "run", "steady", "in.jsonl", "--out", "run", "-j", "4")
    assert shell.state()["state"] == "running"
    finished = {json.loads(line)["seq"] for line in _whole_lines(shell)}
    wait_until(lambda: shell.emulator is not None and shell.emulator.stats()["in_flight"] == 0)
    words = () if choice is None else ("--may-have-run", choice)
    resumed = shell.run("resume", "run", "-j", "20", *words)
    assert "Traceback" not in resumed.err
    outcomes = shell.outcomes()
    assert sorted(outcome["seq"] for outcome in outcomes) == list(range(300))
    unknown = {outcome["seq"] for outcome in outcomes if outcome["status"] == "unknown"}
    executions = shell.executions()
    assert all(executions[str(seq)] == 1 for seq in finished)
    assert "may have run before the run was cut off" in resumed.err
    if choice == "send":
        assert resumed.code == 0
        assert not unknown
        assert set(executions.values()) <= {1, 2}
        assert sum(count == 2 for count in executions.values()) <= 20
    else:
        assert resumed.code == 1
        assert 1 <= len(unknown) <= 20 + 256  # in flight, and marked ahead
        assert set(executions.values()) == {1}
        assert all(o["error"]["type"] == "MayHaveRun" for o in outcomes if o["status"] == "unknown")
    assert shell.state()["state"] == "finished"
    assert sum(shell.state()["counts"].values()) == shell.state()["records_read"] == 300


def _whole_lines(shell: Shell) -> list[bytes]:
    lines = (shell.directory / "run" / "outcomes.jsonl").read_bytes().splitlines(keepends=True)
    return [line for line in lines if line.endswith(b"\n")]


def test_a_finished_run_has_nothing_to_resume(shell: Shell) -> None:
    """It says so, exits with the run's own code, and sends nothing."""
    shell.write("in.jsonl", 4)
    assert shell.run("run", "errors", "in.jsonl", "--out", "run").code == 1
    before = (shell.directory / "run" / "outcomes.jsonl").read_bytes()
    resumed = shell.run("resume", "run")
    assert resumed.code == 1
    assert "run is finished: there is nothing to resume" in resumed.err
    assert (shell.directory / "run" / "outcomes.jsonl").read_bytes() == before
    assert set(shell.executions().values()) == {1}


def test_what_may_not_change_is_refused(inside: Inside) -> None:
    """A changed input, and options that change what is sent: one line names the difference."""
    path = inside.write("in.jsonl", 400)
    inside.run(
        "run", "steady", "in.jsonl", "--out", "run", "-j", "5", "--deadline", "300ms", "--retries", "1"
    )
    lines = path.read_bytes()

    path.write_bytes(lines + b'{"n": 400}\n')
    inside.run("resume", "run").assert_one_line(2, "in.jsonl is not the input the run began with: ", "size")
    path.write_bytes(lines.replace(b'"n": 7}', b'"n": 8}'))
    inside.run("resume", "run").assert_one_line(2, "in.jsonl is not the input the run began with: ")
    path.unlink()
    inside.run("resume", "run").assert_one_line(2, "in.jsonl")
    path.write_bytes(lines)
    for words in (
        ("--qualifier", "live"),
        ("--select", "n"),
        ("--invocation-type", "Event"),
        ("--format", "csv"),
    ):
        inside.run("resume", "run", *words).assert_one_line(2, "cannot be changed now")
    assert inside.state()["state"] == "halted"
    resumed = inside.run("resume", "run", "-j", "10", "--retries", "5", "--deadline", "1h")
    assert resumed.code == 0
    assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(400))


def test_a_record_changed_in_the_midst_of_a_large_input_is_noticed(shell: Shell) -> None:
    """Size, beginning and end are the same: the records themselves are compared, by a sample."""
    path = shell.write("in.jsonl", 6_000, filler="x" * 1_000)
    process = shell.start("run", "fast", "in.jsonl", "--out", "run", "--rate", "1500", "-j", "5")
    with interrupted(process):
        shell.wait_for_outcomes(1_200)
        process.send_signal(signal.SIGINT)
        assert end(process).code == 130
    text = path.read_bytes()
    path.write_bytes(text.replace(b'{"n": 1088, "filler": "x', b'{"n": 1088, "filler": "y'))
    resumed = shell.run("resume", "run")
    assert resumed.code == 2
    assert "in.jsonl is not the input the run began with: record 1088 is another" in resumed.err
    assert sum(shell.executions().values()) == len(shell.outcomes())
    path.write_bytes(text)
    assert shell.run("resume", "run", "--rate", "9999", "-j", "20").code == 0
    assert set(shell.executions().values()) == {1}


def test_two_processes_cannot_run_in_one_directory(shell: Shell) -> None:
    """The second is refused, naming the first; the lock dies with its holder."""
    shell.write("in.jsonl", 60)
    process = shell.start("run", "slow", "in.jsonl", "--out", "run", "-j", "5")
    with interrupted(process):
        wait_until(lambda: shell.emulator is not None and shell.emulator.stats()["in_flight"] == 5)
        shell.run("resume", "run").assert_one_line(2, "run is in use by process ", str(process.pid))
        process.send_signal(signal.SIGINT)
        assert end(process).code == 130
    assert shell.run("resume", "run", "-j", "60").code == 0


def test_what_was_piped_in_resumes_from_its_copy(shell: Shell) -> None:
    """Standard input cannot be read again: the run keeps it, unless told not to."""
    records = b"".join(b'{"n": %d}\n' % n for n in range(300))
    stop = ("-j", "5", "--deadline", "500ms")
    done = shell.run("run", "steady", "-", "--out", "run", *stop, stdin=records)
    assert done.code == 5
    assert 0 < len(shell.outcomes()) < 300
    resumed = shell.run("resume", "run", "--deadline", "1h", "-j", "20")
    # The pipe was read ahead, though not wholly run: whatever was read is in the copy.
    assert resumed.code == 0, resumed.err
    assert sorted(outcome["seq"] for outcome in shell.outcomes()) == list(range(300))
    assert set(shell.executions().values()) == {1}

    gone = shell.run("run", "steady", "-", "--out", "gone", "--no-spool", *stop, stdin=records)
    assert gone.code == 5
    shell.run("resume", "gone").assert_one_line(2, "was not kept")


def test_what_is_no_run_is_refused(inside: Inside) -> None:
    """A missing directory, an empty one, a damaged one, and one of a later version."""
    inside.run("resume", "none").assert_one_line(2, "none is not a run directory: there is no such directory")
    (inside.directory / "file").touch()
    inside.run("resume", "file").assert_one_line(
        2, "file is not a run directory: it is a file, not a directory"
    )
    (inside.directory / "empty").mkdir()
    inside.run("resume", "empty").assert_one_line(2, "empty is not a run directory: it has no run.json")
    _run(inside, "damaged")
    inside.run("resume", "damaged/run.json").assert_one_line(
        2, f"it is a file: give {quote(f'{inside.directory}/damaged')}"
    )
    (inside.directory / "damaged" / "run.json").write_text("{")
    inside.run("resume", "damaged").assert_one_line(2, "run.json is damaged")
    _run(inside, "newer")
    state = inside.state("newer")
    (inside.directory / "newer" / "run.json").write_text(json.dumps({**state, "format": 99}))
    inside.run("resume", "newer").assert_one_line(2, "format 99", "upgrade")


def _run(shell: Shell | Inside, name: str) -> None:
    shell.write("in.jsonl", 2)
    assert shell.run("run", "fast", "in.jsonl", "--out", name, "--no-report", "-q").code == 0


def test_a_torn_last_line_is_a_pending_record(shell: Shell) -> None:
    """It is cut off, even in the middle of a character, and its record is sent."""
    shell.write("in.jsonl", 10, name="ü")
    assert shell.run("run", "fast", "in.jsonl", "--out", "run").code == 0
    path = shell.directory / "run" / "outcomes.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    torn = lines[-1][: lines[-1].index("ü".encode()) + 1]
    path.write_bytes(b"".join(lines[:-1]) + torn)
    state = {**shell.state(), "state": "running"}
    (shell.directory / "run" / "run.json").write_text(json.dumps(state))
    resumed = shell.run("resume", "run", "--may-have-run", "send")
    assert resumed.code == 0, resumed.err
    assert sorted(outcome["seq"] for outcome in shell.outcomes()) == list(range(10))


def test_resume_after_a_fatal_refusal(shell: Shell) -> None:
    """What was refused alike ran nowhere, and is sent once the cause is mended."""
    shell.write("in.jsonl", 30)
    path = Path(shell.directory) / "in.jsonl"
    assert path.exists()
    done = shell.run(
        "run", "steady", "in.jsonl", "--out", "run", AWS_ENDPOINT_URL_LAMBDA="http://127.0.0.1:1"
    )
    assert done.code == 4
    if (shell.directory / "run").exists():
        resumed = shell.run("resume", "run")
        assert resumed.code == 0, resumed.err
        assert sorted({o["seq"] for o in shell.outcomes()}) == list(range(30))
        assert set(shell.executions().values()) == {1}


def test_a_closed_terminal_ends_admission(shell: Shell) -> None:
    """SIGHUP drains as SIGTERM does."""
    shell.write("in.jsonl", 300)
    process: subprocess.Popen[bytes] = shell.start(
        "run", "steady", "in.jsonl", "--out", "run", "-q", "-j", "2"
    )
    with interrupted(process):
        shell.wait_for_outcomes(10)
        process.send_signal(signal.SIGHUP)
        done = end(process)
    assert done.code == 129
    assert shell.state()["state"] == "interrupted"
    assert sum(shell.executions().values()) == len(shell.outcomes())


def test_a_pause_has_no_length(shell: Shell) -> None:
    """A run that is resumed an hour later took as long as it ran: in the summary, the JSON and the page."""
    shell.write("in.jsonl", 60)
    assert shell.run("run", "steady", "in.jsonl", "-j", "2", "--deadline", "0.3", "--out", "run").code == 5
    move_to_the_past(shell.directory / "run", 3600)
    resumed = shell.run("resume", "run", "--deadline", "60", "-j", "20")
    assert resumed.code == 0, resumed
    did = r"went on with (\d+): \1 succeeded, 0 failed\n"
    said = re.search(rf"{did}  the whole run: 60 records in (.+)s\n", resumed.err)
    assert said, resumed
    report = json.loads(shell.run("report", "run", "--json").out)
    assert report["elapsed_s"] < 30
    assert float(said[2]) == pytest.approx(report["elapsed_s"], abs=0.06)
    assert report["throughput_per_s"] == pytest.approx(60 / report["elapsed_s"], rel=0.01)
    page = (shell.directory / "run" / "report.html").read_text()
    assert f">in {said[2]}s<" in page


def move_to_the_past(run_dir: Path, by_s: float) -> None:
    """Every time that a run directory holds, so much earlier."""

    def earlier(found: re.Match[str]) -> str:
        moment = datetime.fromisoformat(found[0]) - timedelta(seconds=by_s)
        return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    for name in ("run.json", "outcomes.jsonl"):
        path = run_dir / name
        path.write_text(re.sub(r"\d{4}-\d\d-\d\dT[\d:.]+Z", earlier, path.read_text()))
    path = run_dir / "timeline.jsonl"
    path.write_text(re.sub(r'"t":([\d.]+)', lambda found: f'"t":{float(found[1]) - by_s}', path.read_text()))


class _Once(http.server.BaseHTTPRequestHandler):
    """A signed address: it answers once, without ETag or date, and has expired then."""

    seen = 0

    def do_GET(self) -> None:
        type(self).seen += 1
        if self.seen > 1:
            self.send_error(403)
            return
        body = b"".join(b'{"n":%d}\n' % n for n in range(200))
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


def test_a_url_that_has_expired_is_read_from_the_runs_own_copy(inside: Inside) -> None:
    """The resume needs nothing of the server, and run.json and the spool belong to the owner alone."""
    _Once.seen = 0
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Once) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/in.jsonl?signature=x"
        begun = inside.run("run", "steady", url, "--out", "run", "-j", "4", "--enough", "40")
        assert begun.code == 0, begun
        assert len(inside.outcomes()) < 200
        ended = inside.run("resume", "run", "--all", "-j", "50")
        server.shutdown()
    assert (ended.code, _Once.seen) == (0, 1), ended
    assert sorted(outcome["output"]["n"] for outcome in inside.outcomes()) == list(range(200))
    assert (inside.directory / "run" / "spool").stat().st_mode & 0o777 == 0o600


def test_a_smaller_take_leaves_out_nothing_that_was_read(inside: Inside) -> None:
    """Fewer records than were read already: one line, the run as it was. As many, or more: it goes on."""
    inside.write("in.jsonl", 60)
    halted = inside.run("run", "steady", "in.jsonl", "--out", "run", "-j", "2", "--deadline", "500ms")
    assert halted.code == 5
    before, read = inside.outcomes(), inside.state()["records_read"]
    assert 2 <= read < 40
    for words in (("resume", "run"), ("run", "--resume", "steady", "in.jsonl", "--out", "run")):
        refused = inside.run(*words, "--take", str(read - 1), "--deadline", "1m")
        refused.assert_one_line(2, f"take is {read - 1}", f"the first {read} records were read already")
        assert (inside.outcomes(), inside.state()["state"]) == (before, "halted")
    for take in (read, 50):
        assert inside.run("resume", "run", "--take", str(take), "--deadline", "1m").code == 0
        assert sorted(outcome["seq"] for outcome in inside.outcomes()) == list(range(take))
    assert inside.state()["state"] == "finished"


def test_what_is_left_is_never_less_than_what_is_pending(inside: Inside) -> None:
    """An outage hands back what was pulled: those records are pending, and left."""
    inside.write("in.jsonl", 4_000)  # more than any machine sends before the outage
    words = ("run", "gone", "in.jsonl", "--out", "run", "-j", "30", "--no-report", "--outage-patience", "1s")
    with EmulatorProcess(simulate=["name=gone,latency=10ms,outage=60s@0.15s"]) as emulator:
        done = inside.run(*words, "--endpoint-url", emulator.endpoint_url)
    assert done.code == 5, done.err
    counted = json.loads(inside.run("report", "run", "--json").out)
    assert counted["pending"] > 0
    found = re.search(r"(?:about )?([\d,]+) (?:of [\d,]+ )?records are left", done.err)
    assert found is not None, done.err
    assert int(found[1].replace(",", "")) >= counted["pending"]


def test_a_lost_list_of_inputs_is_refused(shell: Shell) -> None:
    """A file that came meanwhile would shift every number: nothing is listed anew, and nothing sent."""
    (shell.directory / "in").mkdir()
    shell.write("in/b.jsonl", 4)
    run = ("run", "fast", "in/*.jsonl", "--out", "run", "--take")
    assert shell.run(*run, "2").code == 0
    shell.write("in/a.jsonl", 4)
    listing = shell.directory / "run" / "inputs.gz"
    kept = listing.read_bytes()
    listing.unlink()
    more = ("--take", "99")
    for words in (
        ("resume", "run", *more),
        (*run, "99", "--resume"),
        ("export", "run", "--status", "succeeded"),
    ):
        shell.run(*words).assert_one_line(2, "run/inputs.gz is missing", "put that file back")
    assert not listing.exists()
    listing.write_bytes(kept[:20])
    shell.run("resume", "run", *more).assert_one_line(2, "run/inputs.gz is empty or cut off")
    listing.write_bytes(kept)
    assert shell.run("resume", "run", *more).code == 0
    assert sorted(line["seq"] for line in shell.outcomes()) == [*range(4)]
