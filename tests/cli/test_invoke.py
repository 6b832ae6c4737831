"""``fanout invoke``: one call, as ``aws lambda invoke``, but kinder to people and to pipes."""

from __future__ import annotations

import base64
import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.cli.running import wait_until
from tests.cli.serving import Terminal, arguments, in_region
from tests.transports.wire import Script, Wire, chunk, complete, http, stream

TAIL = (
    "START RequestId: r-1 Version: 1\n\x1b[31mred\x1b[0m\n"
    "REPORT RequestId: r-1\tDuration: 3.10 ms\tBilled Duration: 546 ms\tMemory Size: 128 MB\t"
    "Max Memory Used: 41 MB\tInit Duration: 180.20 ms\t\n"
)
LOGGED = {
    "x-amzn-RequestId": "r-1",
    "X-Amz-Executed-Version": "1",
    "X-Amz-Log-Result": base64.b64encode(TAIL.encode()).decode(),
}
FAILURE = json.dumps(
    {"errorType": "ValueError", "errorMessage": "bad \x1b[2Jtotal", "stackTrace": []}
).encode()


@pytest.fixture
def terminal(
    endpoint: Wire, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> Terminal:
    """The command, with credentials and the endpoint set."""
    in_region(monkeypatch, endpoint)
    monkeypatch.chdir(tmp_path)
    endpoint.received.clear()
    endpoint.answer(http(200, b'{"ok": true}'))
    return Terminal(monkeypatch, capfdbinary, tmp_path, endpoint)


def test_the_payload_comes_from_an_argument_a_file_or_a_pipe(terminal: Terminal) -> None:
    """Its bytes are sent as they are; what is piped in is taken without being asked for."""
    Path("event.json").write_bytes(b'\xef\xbb\xbf{"from": "file"}\n')
    for words, stdin, sent in (
        (["f", '{"id": "ü"}'], None, '{"id": "ü"}'.encode()),
        (["f", "@event.json"], None, b'{"from": "file"}\n'),
        (["f", "file://event.json"], None, b'{"from": "file"}\n'),
        (["f", "fileb://event.json"], None, b'{"from": "file"}\n'),
        (["f", "-"], b"[1,  2]", b"[1,  2]"),
        (["f"], b'"piped"', b'"piped"'),
        (["f"], None, b""),
        (["f", "7"], b"not read", b"7"),
    ):
        ran = terminal.fanout("invoke", *words, stdin=stdin)
        assert (ran.code, ran.out, ran.err) == (0, b'{"ok": true}\n', "")
        assert terminal.endpoint.received[-1].body == sent


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("streams", [False, True])
def test_an_outfile_that_cannot_be_written_is_one_line(terminal: Terminal, streams: bool) -> None:
    """Its disk is full when the reply is there. ``-`` is standard output."""
    if streams:
        terminal.endpoint.answer(stream(chunk(b"x" * 100_000), complete()))
    words = ["--stream"] if streams else []
    ran = terminal.fanout("invoke", "f", "{}", "/dev/full", *words)
    assert (ran.code, ran.out) == (2, b"")
    assert ran.err == "fanout: output file '/dev/full' cannot be written: No space left on device\n"
    if not streams:
        assert terminal.fanout("invoke", "f", "{}", "-").out == b'{"ok": true}\n'
        assert not Path("-").exists()


def test_the_result_is_raw_when_piped(terminal: Terminal) -> None:
    """Byte by byte, JSON or not, and a line break at the end where there was none."""
    for body in (b'{"b":1,\n "a":2}', b"\x00\xff raw", b"null", b"", b"line\n"):
        terminal.endpoint.answer(http(200, body))
        said = terminal.fanout("invoke", "f").out
        assert said == (body + b"\n" if body and not body.endswith(b"\n") else body)


def test_the_result_goes_to_a_file_as_with_the_aws_cli(terminal: Terminal) -> None:
    """Its very bytes there; status, function error and version on stdout; a failure keeps its exit code."""
    Path("event.json").write_bytes(b"{}")
    terminal.endpoint.answer(http(200, b"\x00raw", {"X-Amz-Executed-Version": "7"}))
    ran = terminal.fanout("invoke", "f", "file://event.json", "result")
    assert (ran.code, ran.err) == (0, "")
    assert json.loads(ran.out) == {"StatusCode": 200, "ExecutedVersion": "7"}
    assert Path("result").read_bytes() == b"\x00raw"
    terminal.endpoint.answer(http(200, FAILURE, {"X-Amz-Function-Error": "Unhandled"}))
    ran = terminal.fanout("invoke", "f", "{}", "result")
    assert ran.code == 1
    assert json.loads(ran.out) == {"StatusCode": 200, "FunctionError": "Unhandled"}
    assert Path("result").read_bytes() == FAILURE
    asked = len(terminal.endpoint.received)
    ran = terminal.fanout("invoke", "f", "{}", "no/such/folder")
    assert (ran.code, len(terminal.endpoint.received)) == (2, asked)
    assert "output file 'no/such/folder' cannot be written" in ran.err


def test_a_stream_goes_to_a_file_too(terminal: Terminal) -> None:
    """As it comes, and nothing of it to stdout."""
    terminal.endpoint.answer(stream(chunk(b"one "), chunk(b"two"), complete()))
    ran = terminal.fanout("invoke", "f", "{}", "result", "--stream")
    assert json.loads(ran.out)["StatusCode"] == 200
    assert Path("result").read_bytes() == b"one two"


@pytest.mark.parametrize("kind", ["direct", "sdk"])
def test_every_option_is_sent(terminal: Terminal, kind: str) -> None:
    """Each parameter of the API by its option, through either transport."""
    terminal.fanout(
        "invoke",
        "f",
        "{}",
        "--qualifier",
        "live",
        "--log-type",
        "Tail",
        "--client-context",
        '{"a":1}',
        "--tenant-id",
        "t 1",
        "--durable-name",
        "d-1",
        "--transport",
        kind,
        "--timeout",
        "5",
    )
    request = terminal.endpoint.received[-1]
    assert (request.path, request.query) == ("/2015-03-31/functions/f/invocations", "Qualifier=live")
    assert request.amz_headers == {
        "x-amz-client-context": base64.b64encode(b'{"a":1}').decode(),
        "x-amz-durable-execution-name": "d-1",
        "x-amz-log-type": "Tail",
        "x-amz-tenant-id": "t 1",
    }


def test_the_account_options_are_those_of_the_aws_cli(
    terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--profile, --region and --endpoint-url; a full ARN's Region wins."""
    monkeypatch.delenv("AWS_ENDPOINT_URL_LAMBDA")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    Path("credentials").write_text("[q]\naws_access_key_id = FILEKEY\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "credentials")
    options = ["--profile", "q", "--endpoint-url", terminal.endpoint.url]
    for function, region in (
        ("f", "us-east-2"),
        ("arn:aws:lambda:sa-east-1:123456789012:function:f", "sa-east-1"),
    ):
        assert terminal.fanout("invoke", function, "{}", "--region", "us-east-2", *options).code == 0
        assert (
            f"Credential=FILEKEY/{time.strftime('%Y', time.gmtime())}"
            in terminal.endpoint.received[-1].headers["authorization"]
        )
        assert f"/{region}/lambda/" in terminal.endpoint.received[-1].headers["authorization"]


def test_a_function_error_exits_1(terminal: Terminal) -> None:
    """The error object goes to stdout, one harmless line to stderr."""
    terminal.endpoint.answer(http(200, FAILURE, {"X-Amz-Function-Error": "Unhandled"}))
    ran = terminal.fanout("invoke", "f", "{}")
    assert (ran.code, ran.out) == (1, FAILURE + b"\n")
    assert ran.err == "fanout: f: the function reported: ValueError: bad total\n"


def test_the_log_goes_to_stderr(terminal: Terminal) -> None:
    """Tail: always; OnError: only if the call did not succeed; colours stay out of a pipe."""
    plain = TAIL.replace("\x1b[31m", "").replace("\x1b[0m", "")
    terminal.endpoint.answer(http(200, b"1", LOGGED))
    ran = terminal.fanout("invoke", "f", "{}", "--log-type", "Tail")
    assert (ran.out, ran.err) == (b"1\n", plain)
    assert terminal.fanout("invoke", "f", "{}", "--log-type", "OnError").err == ""
    terminal.endpoint.answer(http(200, FAILURE, {**LOGGED, "X-Amz-Function-Error": "Unhandled"}))
    assert terminal.fanout("invoke", "f", "{}", "--log-type", "OnError").err.startswith(plain)


def test_event_and_dry_run_say_what_they_mean(terminal: Terminal) -> None:
    """Accepted is not executed; valid is not called."""
    terminal.endpoint.answer(http(202, b"", {"x-amzn-RequestId": "r-2"}))
    ran = terminal.fanout("invoke", "f", "{}", "--invocation-type", "Event")
    assert (ran.code, ran.out, ran.err) == (0, b"", "fanout: accepted, not executed yet; request id r-2\n")
    terminal.endpoint.answer(http(204))
    ran = terminal.fanout("invoke", "f", "{}", "--invocation-type", "DryRun")
    assert (ran.code, ran.out, ran.err) == (0, b"", "fanout: valid: the call would be allowed\n")


def test_a_stream_is_shown_as_it_comes(terminal: Terminal) -> None:
    """Joined it is the whole reply; its error is a function error."""
    terminal.endpoint.answer(stream(chunk(b"one "), chunk(b"two"), complete()))
    ran = terminal.fanout("invoke", "f", "{}", "--stream")
    assert (ran.code, ran.out) == (0, b"one two\n")
    end = complete(b'{"ErrorCode":"Sandbox.Timedout","ErrorDetails":"too late"}')
    terminal.endpoint.answer(stream(chunk(b"one "), end))
    ran = terminal.fanout("invoke", "f", "{}", "--stream")
    assert ran.code == 1
    assert ran.out.startswith(b"one ")
    assert ran.err == "fanout: f: the function reported: Sandbox.Timedout: too late\n"
    assert terminal.endpoint.received[-1].path == "/2021-11-15/functions/f/response-streaming-invocations"


def test_json_is_the_whole_outcome(terminal: Terminal) -> None:
    """One object with the members of a run's outcomes, whether it succeeded or not."""
    terminal.endpoint.answer(http(200, b'{"ok": true}', LOGGED))
    ran = terminal.fanout("invoke", "f", "{}", "--log-type", "Tail", "--json")
    outcome = json.loads(ran.out)
    assert ran.err == ""
    assert outcome["status"] == "succeeded"
    assert outcome["output"] == {"ok": True}
    assert (outcome["request_id"], outcome["http_status"], outcome["executed_version"]) == ("r-1", 200, "1")
    assert (outcome["billed_ms"], outcome["init_ms"], outcome["memory_mb"], outcome["max_memory_mb"]) == (
        546,
        180.2,
        128,
        41,
    )
    assert outcome["log_tail"] == TAIL
    terminal.endpoint.answer(http(200, FAILURE, {"X-Amz-Function-Error": "Unhandled"}))
    ran = terminal.fanout("invoke", "f", '{"id": 7}', "--json", "--qualifier", "live")
    outcome = json.loads(ran.out)
    assert (ran.code, outcome["status"], outcome["error"]["type"]) == (1, "function_error", "ValueError")
    assert (outcome["input"], outcome["qualifier"]) == ({"id": 7}, "live")


@pytest.mark.parametrize(
    ("status", "body", "code", "said"),
    [
        (
            404,
            b'{"Type":"User","Message":"Function not found: f"}',
            4,
            "refused: Http404: Function not found: f",
        ),
        (403, b'{"message":"no"}', 4, "refused: Http403: no"),
        (400, b'{"message":"Could not parse","code":"InvalidRequestContentException"}', 1, "Could not parse"),
        (429, b'{"message":"Rate Exceeded."}', 1, "not delivered, the function did not run: Http429"),
        (503, b"", 1, "not delivered, the function did not run"),
        (418, b"", 1, "the reply was lost, the function may have run"),
    ],
)
def test_a_refusal_is_one_line_and_an_exit_code(
    terminal: Terminal, status: int, body: bytes, code: int, said: str
) -> None:
    """And nothing is sent twice."""
    terminal.endpoint.answer(http(status, body))
    ran = terminal.fanout("invoke", "f", "{}")
    assert (ran.code, ran.out) == (code, b"")
    assert said in ran.err
    assert ran.err.count("\n") == 1
    assert len(terminal.endpoint.received) == 1


def test_a_lost_reply_says_that_it_may_have_run(terminal: Terminal) -> None:
    """And is not sent again."""
    terminal.endpoint.answer(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf", end="close")
    ran = terminal.fanout("invoke", "f", "{}")
    assert (ran.code, ran.out) == (1, b"")
    assert "the function may have run" in ran.err
    assert len(terminal.endpoint.received) == 1
    terminal.endpoint.respond = lambda _: Script(http(200, b"{}"), wait_s=2)
    assert "timed out" in terminal.fanout("invoke", "f", "{}", "--timeout", "0.2").err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["f", "{bad"], "the payload is not valid JSON"),
        (["f", "@missing.json"], "payload file 'missing.json' cannot be read: No such file"),
        (["f", "@."], "payload file '.' cannot be read"),
        (["f/g", "{}"], "function is 'f/g'"),
        (["f:a", "{}", "--qualifier", "b"], "qualifier is given twice"),
        (["f", "{}", "--invocation-type", "Event", "--log-type", "Tail"], "needs a synchronous call"),
        (["f", "{}", "--client-context", "{"], "client_context is '{'"),
        (["f", "{}", "--endpoint-url", "localhost:9"], "endpoint_url is invalid"),
        (["f", "{}", "--profile", "nosuch"], "(nosuch) could not be found"),
        (["f", "{}", "--timeout", "0"], "0 is not in the range"),
        (["f", '"' + "x" * 6_291_455 + '"'], "the payload has 6,291,457 bytes"),
    ],
)
def test_a_wrong_word_exits_2(terminal: Terminal, words: list[str], said: str) -> None:
    """Before anything is sent, in words that name it; no traceback."""
    ran = terminal.fanout("invoke", *words)
    assert ran.code == 2
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert terminal.endpoint.received == []


def test_no_credentials_exits_4(terminal: Terminal, monkeypatch: pytest.MonkeyPatch) -> None:
    """One line that says how to get some."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    ran = terminal.fanout("invoke", "f", "{}")
    assert ran.code == 4
    assert ran.err.startswith("fanout: ")
    assert "credentials" in ran.err
    assert ran.err.count("\n") == 1


def on_a_terminal(*words: str) -> tuple[int, str]:
    """The installed command with a terminal for output: its exit code and what the terminal got."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        arguments(*words), stdin=subprocess.DEVNULL, stdout=theirs, stderr=theirs
    ) as process:
        os.close(theirs)
        got = b""
        while select.select([ours], [], [], 100)[0]:
            try:
                data = os.read(ours, 65536)
            except OSError:
                break
            if not data:
                break
            got += data
        code = process.wait(100)
    os.close(ours)
    return code, got.decode().replace("\r\n", "\n")


def test_a_terminal_gets_pretty_and_harmless_text(terminal: Terminal) -> None:
    """Indented JSON; whatever could move or hide something on the screen is an escape that can be seen."""
    body = json.dumps({"name": "Zoë \x1b[2J \x9b31m \u202e", "n": [1]}, ensure_ascii=False).encode()
    terminal.endpoint.answer(http(200, body, LOGGED))
    code, shown = on_a_terminal("invoke", "f", "{}", "--log-type", "Tail")
    assert code == 0
    assert '{\n  "name": "Zoë \\u001b[2J \\u009b31m \\u202e",\n  "n": [\n    1\n  ]\n}\n' in shown
    assert "\\u001b[31mred" in shown
    assert not set(shown) & {"\x1b", "\x9b", "\u202e"}


def test_half_of_a_character_is_shown_on_a_terminal_as_its_escape(terminal: Terminal) -> None:
    """As the function wrote it, in the reply and in the outcome."""
    terminal.endpoint.answer(http(200, rb'{"cut":"\ud83d"}', LOGGED))
    for option in ((), ("--json",)):
        code, shown = on_a_terminal("invoke", "f", "{}", *option)
        assert code == 0
        assert r'"cut": "\ud83d"' in shown


def test_a_terminal_gets_a_stream_harmless_too(terminal: Terminal) -> None:
    """A character that is cut in two by a chunk is shown whole; what is no text is marked."""
    cut = "Zoë".encode()
    terminal.endpoint.answer(stream(chunk(cut[:3]), chunk(cut[3:] + b"\x1b[2J\xff"), complete()))
    code, shown = on_a_terminal("invoke", "f", "{}", "--stream")
    assert code == 0
    text, _, status = shown.partition("\n")
    assert text == "Zoë\\u001b[2J\N{REPLACEMENT CHARACTER}"
    assert re.fullmatch(r"fanout: StatusCode 200, version 7, \d+ ms\n", status)


def test_ctrl_c_exits_130(terminal: Terminal) -> None:
    """At once, with one line: a call that was made runs on."""
    terminal.endpoint.respond = lambda _: Script(http(200, b"{}"), wait_s=60)
    with subprocess.Popen(
        arguments("invoke", "f", "{}"), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as process:
        wait_until(lambda: bool(terminal.endpoint.received))
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err == "fanout: interrupted: a function that was called runs on\n"


def test_a_reader_that_goes_is_no_traceback(terminal: Terminal) -> None:
    """As with head."""
    terminal.endpoint.answer(http(200, b"x" * 3_000_000))
    with subprocess.Popen(
        arguments("invoke", "f", "{}"),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
