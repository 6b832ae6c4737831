"""The shell code of the guides runs as it stands, page by page, against simulated functions."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from fanout.emulator import EmulatorProcess

from .pages import ROOT, Block, blocks

pytestmark = pytest.mark.slow

GUIDES = ROOT / "docs" / "guides"
FUNCTIONS = ["my-function", "price-order", "f"]
# What a test cannot have: another program, a service of AWS, a machine of its own.
ELSEWHERE = re.compile(
    r"\b(aws|docker|parallel|dagster|pip|dask|crontab|curl|kubectl|watch|tune)\b"
    r"|s3:|sqs:|https?:|--durable|--workers|--scheduler|--results|Event|--port|runs/…"
)
# Not every block ends with 0: runs with failures exit with 1, those that stop early with 3 or 5.
ORDERLY = {0, 1, 3, 5}


def runnable() -> list[Block]:
    return [
        block
        for page in sorted(GUIDES.glob("*.md"))
        if page.name != "data-frames.md"  # of a run that is there: test_data_frames.py
        for block in blocks(page, "sh")
        if not ELSEWHERE.search(block.text)
    ]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader stands: with a file of records under each name that the guides use."""
    where = tmp_path_factory.mktemp("reader")
    (where / "examples").symlink_to(ROOT / "examples")
    lines = "".join(json.dumps({"id": f"o{n}", "n": n, "total": n}) + "\n" for n in range(150))
    for name in ("orders.jsonl", "in.jsonl", "records.jsonl"):
        (where / name).write_text(lines)
    return where


@pytest.fixture(scope="module")
def environ(folder: Path) -> Iterator[dict[str, str]]:
    """The settings that lead a shell to the functions, some of whose calls fail."""
    simulate = [f"name={name},concurrency=100,error_rate=2%" for name in FUNCTIONS]
    with EmulatorProcess(simulate=simulate) as emulator:
        yield {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(folder),
            "AWS_ENDPOINT_URL_LAMBDA": emulator.endpoint_url,
            "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
        }


@pytest.mark.parametrize("block", runnable(), ids=lambda block: block.name)
def test_shell_code_of_a_guide_runs(block: Block, folder: Path, environ: dict[str, str]) -> None:
    """Without a traceback, without a usage error."""
    done = subprocess.run(
        ["bash", "-c", re.sub(r"(fanout plan [^\n]*)", r"\1 --yes", block.text)],  # nobody can be asked
        cwd=folder,
        env=environ,
        capture_output=True,
        text=True,
        timeout=25,
        check=False,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode in ORDERLY, done.stderr
    assert "Traceback" not in done.stderr
    assert not re.search(r"^(Usage|Error):", done.stderr, re.MULTILINE), done.stderr
