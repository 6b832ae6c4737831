"""The version of this installation, found without reading all of its metadata."""

from __future__ import annotations

import os
import sys
from functools import cache

_NAME = "lambda_fanout-"
_SUFFIX = ".dist-info"
UNKNOWN = "0+unknown"


@cache
def version() -> str:
    """As ``fanout --version`` shows it; ``0+unknown`` where a package was stripped of its metadata.

    importlib.metadata costs 10 ms to import, before every first call. The name of the metadata is enough:
    beside the package, as wheels are installed, or else in the first directory of ``sys.path`` that has it.
    """
    beside = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib costs more
    for directory in (beside, *sys.path):
        try:
            names = os.listdir(directory or ".")  # noqa: PTH208
        except OSError:  # of a zip, or not there
            continue
        found = [name for name in names if name.startswith(_NAME) and name.endswith(_SUFFIX)]
        if len(found) == 1:
            return found[0].removeprefix(_NAME).removesuffix(_SUFFIX)
        if found:  # which of them holds, importlib.metadata knows
            break
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of("lambda-fanout")
    except PackageNotFoundError:
        return UNKNOWN
