"""The version is found beside the package, or where it is installed from, without importlib.metadata."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest

METADATA = "Metadata-Version: 2.1\nName: lambda-fanout\nVersion: 9.8.7\n"


@pytest.mark.parametrize(
    ("names", "found", "is_quick"),
    [
        (["lambda_fanout-9.8.7.dist-info"], "9.8.7", True),
        (["other-1.dist-info"], version("lambda-fanout"), True),
        (["lambda_fanout-1.dist-info", "lambda_fanout-2.dist-info"], None, False),
    ],
)
def test_the_first_directory_that_has_it_decides(
    tmp_path: Path, names: list[str], found: str | None, is_quick: bool
) -> None:
    """As importlib.metadata would: which is asked only where that is not enough."""
    for name in names:
        (tmp_path / name).mkdir()
        Path(tmp_path, name, "METADATA").write_text(
            "Metadata-Version: 2.1\nName: lambda-fanout\nVersion: 9.8.7\n"
        )
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from fanout.version import version\n"
        "found = version(); quick = 'importlib.metadata' not in sys.modules\n"
        "from importlib.metadata import version as version_of\n"
        "print(quick, found, found == version_of('lambda-fanout'))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    quick, told, is_same = done.stdout.split()
    assert (quick, is_same) == (str(is_quick), "True")
    assert found is None or told == found
