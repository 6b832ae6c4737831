"""``find … | fanout run f - --format lines``: names of files are records."""

from __future__ import annotations

import json
import subprocess

from tests.cli.inside import Inside


def test_what_find_prints_is_one_call_each(inside: Inside) -> None:
    """Each name is a JSON string, whatever is in it; nothing of it is taken for JSON or CSV."""
    folder = inside.directory / "files"
    folder.mkdir()
    names = ["plain.txt", "12", '{"a":1}', 'a,"b"', "grün é"]
    for name in names:
        (folder / name).touch()
    found = subprocess.run(["find", folder, "-type", "f"], stdout=subprocess.PIPE, check=True).stdout
    done = inside.run("run", "fast", "-", "--format", "lines", "--out", "run", "--quiet", stdin=found)
    assert (done.code, len(inside.outcomes())) == (0, len(names)), done.err
    exported = inside.run("export", "run", "--status", "succeeded")
    assert [json.loads(line) for line in exported.out.splitlines()] == found.decode().splitlines()
