"""How the emulator starts and ends, and that nothing of it is left behind, however it ends."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from fanout.emulator import EmulatorProcess
from fanout.errors import EmulatorError
from tests.cli.running import wait_until
from tests.emulator.conftest import APP, call, lambda_client, raw

PYTHON = sys.executable
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until_gone(pids: list[int]) -> None:
    wait_until(lambda: not any(is_alive(pid) for pid in pids))


def descendants(pid: int) -> list[int]:
    """List the processes below one, at any depth."""
    parents: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            parent = int(stat.read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue
        parents.setdefault(parent, []).append(int(stat.parent.name))
    found: list[int] = []
    waiting = [pid]
    while waiting:
        children = parents.get(waiting.pop(), [])
        found += children
        waiting += children
    return found


def busy_emulator(extra: list[str] | None = None) -> tuple[EmulatorProcess, list[int]]:
    """Start one with an idle environment, a sleeping one and one that spins with a child of its own."""
    emulator = EmulatorProcess(handler=APP, extra=extra or [])
    emulator.start()
    client = lambda_client(emulator.endpoint_url)
    call(client, "app", {})
    for event in ({"do": "spin"}, {"do": "sleep", "s": 60}):
        threading.Thread(target=_call_in_vain, args=(emulator.endpoint_url, event), daemon=True).start()
    wait_until(lambda: len(descendants(emulator.pid)) >= 4)  # the template process, two environments, a child
    return emulator, descendants(emulator.pid)


def _call_in_vain(url: str, event: Any) -> None:
    body = json.dumps(event).encode()
    path = "/2015-03-31/functions/app/invocations"
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n\r\n"
    with contextlib.suppress(OSError):
        raw(url, head.encode() + body)


@LINUX
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_no_environment_outlives_the_emulator(how: signal.Signals) -> None:
    """Killed or asked to end: idle, sleeping and spinning environments die, and their children."""
    emulator, pids = busy_emulator()
    os.kill(emulator.pid, how)
    wait_until_gone([emulator.pid, *pids])
    emulator.stop()


@LINUX
def test_environments_die_with_the_template_process() -> None:
    """Kill -9 of what forked them ends them and their children; the emulator starts anew."""
    emulator, pids = busy_emulator()
    zygote = next(pid for pid in pids if b"zygote" in Path(f"/proc/{pid}/cmdline").read_bytes())
    os.kill(zygote, signal.SIGKILL)
    wait_until_gone(pids)
    assert call(lambda_client(emulator.endpoint_url), "app", {"n": 1})[1]["event"] == {"n": 1}
    emulator.stop()


@LINUX
def test_it_dies_with_a_parent_that_is_killed() -> None:
    """Kill -9 of the program that started it ends the emulator and its environments."""
    program = (
        "import sys, time\n"
        "from fanout.emulator import EmulatorProcess\n"
        f"emulator = EmulatorProcess(handler={APP!r}); emulator.start()\n"
        "print(emulator.pid, flush=True); time.sleep(60)\n"
    )
    parent = subprocess.Popen([PYTHON, "-c", program], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    pids = [pid, *descendants(pid)]
    assert len(pids) >= 3
    parent.kill()
    parent.wait()
    parent.stdout.close()
    wait_until_gone(pids)


@LINUX
def test_stop_leaves_nothing_and_may_be_repeated() -> None:
    """After the with block no process is left; stop again does nothing."""
    with EmulatorProcess(handler=APP) as emulator:
        pids = [emulator.pid, *descendants(emulator.pid)]
    wait_until_gone(pids)
    emulator.stop()


def test_a_child_of_a_program_ignores_ctrl_c() -> None:
    """A Ctrl-C in the terminal reaches the whole group: the parent decides what it means."""
    with EmulatorProcess(simulate=["name=f"]) as emulator:
        os.kill(emulator.pid, signal.SIGINT)
        time.sleep(0.2)
        assert call(lambda_client(emulator.endpoint_url), "f", {"a": 1})[1] == {"a": 1}


def test_a_ctrl_c_for_the_group_leaves_calls_alone() -> None:
    """SIGINT to the emulator's process group, as a terminal sends it, ends no call that is under way."""
    command = [
        PYTHON,
        "-m",
        "fanout.emulator",
        APP,
        "--port",
        "0",
        "--ready-json",
        "--die-with-parent",
        "--quiet",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, process_group=0) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        client = lambda_client(json.loads(process.stdout.readline())["endpoint_url"])
        threading.Timer(0.2, os.killpg, (process.pid, signal.SIGINT)).start()
        reply, answer = call(client, "app", {"do": "sleep", "s": 0.6})
        assert "FunctionError" not in reply
        assert answer["event"]["do"] == "sleep"
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_the_command_greets_and_ends_quietly(how: signal.Signals) -> None:
    """`fanout emulate` says where it listens, shows function logs, and ends with exit 0 even under calls."""
    command = [PYTHON, "-m", "fanout", "emulate", APP, "--port", "0", "--ready-json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["functions"] == ["app"]
    assert ready["pid"] == process.pid
    client = lambda_client(ready["endpoint_url"])
    call(client, "app", {"do": "print", "text": "hello terminal"})
    threading.Thread(
        target=_call_in_vain, args=(ready["endpoint_url"], {"do": "sleep", "s": 60}), daemon=True
    ).start()
    time.sleep(0.2)
    process.send_signal(how)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (0, "")
    assert ready["endpoint_url"] in err
    assert f"AWS_ENDPOINT_URL_LAMBDA={ready['endpoint_url']}" in err
    assert "hello terminal\n" in err
    assert "REPORT RequestId" in err
    assert "Traceback" not in err


def test_both_commands_are_one() -> None:
    """`fanout emulate` and `python -m fanout.emulator` have the same options and the same errors."""
    from fanout.cli.emulate import command
    from fanout.emulator.options import OPTIONS

    flags = {flag for parameter in command.params for flag in parameter.opts if flag.startswith("--")}
    assert flags - {"--config"} == {option.flag for option in OPTIONS}  # every verb of fanout takes --config
    said = []
    for module in (["fanout", "emulate"], ["fanout.emulator"]):
        run = subprocess.run(
            [PYTHON, "-m", *module, "nofile.py:handler"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert run.returncode == 2
        said.append(run.stderr)
    assert (
        said[0]
        == said[1]
        == "fanout: cannot import nofile.py: the file does not exist; give FILE.py:HANDLER\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"extra": ["--host", "0.0.0.0"]}, "loopback only"),
        ({"timeout_s": 0}, "--timeout 0"),
        ({"timeout_s": 901}, "at most 900"),
        ({"concurrency": -1}, "--concurrency -1"),
        ({"name": "a b"}, "function name 'a b'"),
        ({"extra": ["--log-format", "xml"]}, "Text or JSON"),
        ({"extra": ["--count-by", "a[["]}, "JMESPath"),
        ({"simulate": ["name=f", "name=f"]}, "used twice"),
        ({"simulate": []}, "nothing to serve"),
        ({"extra": ["--on-success", "queue"]}, "--on-success queue: write the ARN"),
        ({"extra": ["--durable", "0s"]}, "--durable 0s: an execution may take 1s to 366d"),
        ({"extra": ["--bootstrap", "nosuchcommand"], "handler": APP, "simulate": []}, "nosuchcommand"),
    ],
)
def test_what_cannot_work_is_told_in_one_line(arguments: dict[str, Any], words: str) -> None:
    """The parent gets the child's one line as EmulatorError."""
    with pytest.raises(EmulatorError) as caught:
        EmulatorProcess(**{"simulate": ["name=f"], **arguments}).start()
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_port_that_is_taken() -> None:
    """The line names the port and what to do."""
    with EmulatorProcess(simulate=["name=f"]) as emulator:
        port = emulator.endpoint_url.rpartition(":")[2]
        with pytest.raises(EmulatorError, match=rf"127\.0\.0\.1:{port}: address already in use; choose"):
            EmulatorProcess(simulate=["name=f"], extra=["--port", port]).start()


def test_importing_the_package_is_light() -> None:
    """A program that may never start an emulator does not pay for its server."""
    program = "import sys, fanout.emulator; print('uvicorn' in sys.modules, 'httptools' in sys.modules)"
    run = subprocess.run([PYTHON, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
