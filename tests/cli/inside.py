"""The command in this process, in a directory of its own: as a user types it, without a new interpreter."""

from __future__ import annotations

import gc
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from fanout.cli import main
from fanout.emulator import EmulatorProcess
from tests.cli.running import Ended, environment


def leave_garbage_alone(patch: pytest.MonkeyPatch) -> None:
    """A command ends with its process, and spares itself a last look for garbage: here that would pile up."""
    patch.setattr(gc, "freeze", lambda: None)
    patch.setattr(gc, "set_threshold", lambda *_: None)


class Inside:
    """Runs ``fanout`` in ``directory`` against an emulator, with standard input at its end."""

    def __init__(
        self,
        directory: Path,
        emulator: EmulatorProcess | None,
        patch: pytest.MonkeyPatch,
        capture: pytest.CaptureFixture[str],
    ) -> None:
        self.directory, self.emulator, self._patch, self._capture = directory, emulator, patch, capture
        patch.chdir(directory)
        leave_garbage_alone(patch)
        for name, value in environment().items():
            patch.setenv(name, value)
        if emulator is not None:
            patch.setenv("AWS_ENDPOINT_URL_LAMBDA", emulator.endpoint_url)

    def run(self, *words: str | Path, stdin: bytes = b"") -> Ended:
        """Run to the end."""
        piped = self.directory.parent / f"{self.directory.name}-stdin"
        piped.write_bytes(stdin)
        with piped.open() as source:
            self._patch.setattr(sys, "argv", ["fanout", *map(str, words)])
            self._patch.setattr(sys, "stdin", source)
            self._capture.readouterr()
            with pytest.raises(SystemExit) as end:
                main()
        out, err = self._capture.readouterr()
        return Ended(int(end.value.code or 0), out, err)

    def write(self, name: str, records: int, /, **members: Any) -> Path:
        """An input of so many records, ``{"n": 0}`` and so on."""
        path = self.directory / name
        path.write_text("".join(json.dumps({"n": n, **members}) + "\n" for n in range(records)))
        return path

    def outcomes(self, run_dir: str = "run") -> list[dict[str, Any]]:
        """Every line of the journal."""
        path = self.directory / run_dir / "outcomes.jsonl"
        return [json.loads(line) for line in path.read_bytes().splitlines()]

    def state(self, run_dir: str = "run") -> dict[str, Any]:
        """run.json."""
        state: dict[str, Any] = json.loads((self.directory / run_dir / "run.json").read_text())
        return state


@pytest.fixture
def inside(
    tmp_path: Path,
    shared_emulator: EmulatorProcess,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> Inside:
    """The command in this process, and the shared emulator behind it."""
    directory = tmp_path / "here"
    directory.mkdir()
    return Inside(directory, shared_emulator, monkeypatch, capfd)
