"""``fanout emulate … -- COMMAND``: the command's Lambda calls come here, and nothing else does."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fanout.emulator.command import Command, environment
from fanout.errors import EmulatorError

PYTHON = sys.executable
URL = "http://127.0.0.1:1"


def emulate(
    *words: str, env: dict[str, str] | None = None, cwd: Path | None = None
) -> subprocess.CompletedProcess[str]:
    command = [PYTHON, "-m", "fanout.emulator", "--simulate", "name=f,output=17", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=env, cwd=cwd)


@pytest.fixture
def bare(tmp_path: Path) -> dict[str, str]:
    """The environment of a shell that knows of no AWS account."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}


def test_a_script_finds_the_function_without_an_account(bare: dict[str, str], tmp_path: Path) -> None:
    """boto3 needs no setting of its own; the exit code is the script's, and the output nobody else's."""
    script = tmp_path / "script.py"
    script.write_text(
        "import sys, boto3\n"
        "reply = boto3.client('lambda').invoke(FunctionName='f')\n"
        "print(reply['Payload'].read().decode())\n"
        "sys.exit(3)\n"
    )
    done = emulate("--", PYTHON, str(script), env=bare)
    assert (done.returncode, done.stdout, done.stderr) == (3, "17\n", "")


def test_the_commands_own_options_are_its_own(bare: dict[str, str]) -> None:
    """Everything behind the first --, options and a second -- too."""
    show = "import sys; print(sys.argv[1:])"
    done = emulate("--", PYTHON, "-c", show, "--quiet", "--", "--port", "x", env=bare)
    assert done.stdout == "['--quiet', '--', '--port', 'x']\n"


def test_a_signal_is_128_and_its_number(bare: dict[str, str]) -> None:
    """As a shell has it."""
    assert emulate("--", "sh", "-c", "kill -9 $$", env=bare).returncode == 137


def test_sigterm_is_passed_on(bare: dict[str, str]) -> None:
    """The command may drain: the emulator serves it until it has ended."""
    program = (
        "import os, signal, sys, boto3\n"
        "client = boto3.client('lambda')\n"
        "def drain(*_):\n"
        "    os.write(1, client.invoke(FunctionName='f')['Payload'].read())\n"
        "    sys.exit(5)\n"
        "signal.signal(signal.SIGTERM, drain)\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    command = [PYTHON, "-m", "fanout.emulator", "--simulate", "name=f,output=17", "--", PYTHON, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=bare) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.stdout.read() == "17"
        assert process.wait(100) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--"], "no command after --"),
        (["--", "no-such-command"], "cannot run no-such-command: no such command"),
        (["--die-with-parent", "--", "true"], "--die-with-parent cannot be given"),
    ],
)
def test_what_cannot_run_is_told_in_one_line(bare: dict[str, str], words: list[str], said: str) -> None:
    """Exit code 2, before anything is started."""
    done = emulate(*words, env=bare)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


def test_fanout_emulate_takes_a_command_too(bare: dict[str, str]) -> None:
    """Its first word is not taken for the handler."""
    command = [PYTHON, "-m", "fanout", "emulate", "--simulate", "name=f", "--", PYTHON, "-c", "exit(4)"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=bare, timeout=60)
    assert (done.returncode, done.stderr) == (4, "")


def test_a_setting_that_would_send_the_calls_to_aws_is_refused(bare: dict[str, str]) -> None:
    """With configured endpoints ignored the command would invoke real functions."""
    done = emulate("--", "true", env=bare | {"AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": "true"})
    assert (done.returncode, "unset it" in done.stderr) == (2, True)


def test_keys_and_region_only_where_there_are_none(tmp_path: Path) -> None:
    """What the user has stays, wherever it stands; other services keep their endpoints."""
    nothing = {"HOME": str(tmp_path), "AWS_CONFIG_FILE": str(tmp_path / "config")}
    nothing["AWS_SHARED_CREDENTIALS_FILE"] = str(tmp_path / "credentials")
    made = environment(nothing, URL, "eu-west-1")
    assert made["AWS_ENDPOINT_URL_LAMBDA"] == URL
    assert (made["AWS_ACCESS_KEY_ID"], made["AWS_SECRET_ACCESS_KEY"]) == ("local", "local")
    assert made["AWS_REGION"] == made["AWS_DEFAULT_REGION"] == "eu-west-1"
    for name in ("AWS_PROFILE", "AWS_ROLE_ARN", "AWS_CONTAINER_CREDENTIALS_FULL_URI"):
        assert "AWS_ACCESS_KEY_ID" not in environment(nothing | {name: "x"}, URL, "eu-west-1")
    own = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_REGION": "sa-east-1"}
    own |= {"AWS_ENDPOINT_URL_S3": "http://s3", "AWS_ENDPOINT_URL": "http://all"}
    made = environment(nothing | own, URL, "eu-west-1")
    assert {name: made[name] for name in own} == own
    assert "AWS_DEFAULT_REGION" not in made
    (tmp_path / "config").write_text("[default]\nregion = us-west-2\n[profile p]\nsso_session = s\n")
    made = environment(nothing, URL, "eu-west-1")
    assert ("AWS_REGION" in made, made["AWS_ACCESS_KEY_ID"]) == (False, "local")
    assert "AWS_ACCESS_KEY_ID" not in environment(nothing | {"AWS_PROFILE": "p"}, URL, "eu-west-1")
    (tmp_path / "credentials").write_text("[default]\naws_access_key_id = k\naws_secret_access_key = s\n")
    assert "AWS_ACCESS_KEY_ID" not in environment(nothing, URL, "eu-west-1")


def test_a_command_knows_how_it_was_rehearsed(bare: dict[str, str], tmp_path: Path) -> None:
    """What was typed before it, quoted for a shell: what a run says next begins with that."""
    script = "import os; print(os.environ['FANOUT_REHEARSAL'])"
    done = emulate("--simulate", 'name=g,output={"a":1}', "--", PYTHON, "-c", script, env=bare, cwd=tmp_path)
    words = "--simulate name=f,output=17 --simulate 'name=g,output={\"a\":1}'"
    assert done.stdout == f"fanout emulate {words} --\n", done


def test_a_proxy_does_not_take_the_calls(tmp_path: Path) -> None:
    """The emulator's address is excepted from it, beside what was."""
    made = environment(
        {"HOME": str(tmp_path), "HTTP_PROXY": "http://p:1", "no_proxy": "a.b"}, URL, "us-east-1"
    )
    assert made["no_proxy"] == made["NO_PROXY"] == "a.b,127.0.0.1,localhost"
    assert "no_proxy" not in environment({"HOME": str(tmp_path)}, URL, "us-east-1")


def test_the_greeting_works_in_a_fresh_shell(bare: dict[str, str]) -> None:
    """Its lines, pasted as they stand into a shell that knows nothing, invoke the function."""
    command = [PYTHON, "-m", "fanout", "emulate", "--simulate", "name=f,output=17", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=bare) as process:
        assert process.stderr is not None
        lines = [process.stderr.readline() for _ in range(3)]
        pasted = "\n".join(line.partition(": ")[2] for line in lines[1:])
        path = f"{Path(PYTHON).parent}:{bare['PATH']}"
        done = subprocess.run(
            ["sh", "-c", pasted],
            capture_output=True,
            text=True,
            check=False,
            env=bare | {"PATH": path},
            timeout=60,
        )
        process.terminate()
    assert (done.returncode, json.loads(done.stdout)["output"]) == (0, 17)


async def test_a_signal_before_the_command_is_there_is_passed_on_later() -> None:
    """SIGTERM, that is: of Ctrl-C the terminal tells the command itself."""
    command = Command(["sleep", "600"], region="us-east-1")
    loop = asyncio.get_running_loop()
    command.watch_signals(loop)
    try:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGTERM)
        await asyncio.sleep(0.01)
        async with asyncio.timeout(100):
            assert await command.run("http://127.0.0.1:9") == 128 + signal.SIGTERM
    finally:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            loop.remove_signal_handler(number)


async def test_what_is_no_program_after_all_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It may be executed, and cannot be; or its calls would go to AWS."""
    program = tmp_path / "program"
    program.write_bytes(b"\x7fELF")
    program.chmod(0o700)
    with pytest.raises(EmulatorError, match=r"cannot run .*/program: exec format error"):
        await Command([str(program)], region="us-east-1").run("http://127.0.0.1:9")
    monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
    with pytest.raises(EmulatorError, match="unset it"):
        Command([str(program)], region="us-east-1")
