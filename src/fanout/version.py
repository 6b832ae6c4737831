"""The version of this installation, found without reading all of its metadata."""

from __future__ import annotations

import os
from functools import cache

_NAME = "lambda_fanout-"
_SUFFIX = ".dist-info"
UNKNOWN = "0+unknown"


@cache
def version() -> str:
    """As ``fanout --version`` shows it; ``0+unknown`` where a package was stripped of its metadata.

    importlib.metadata costs 10 ms to import, before every first call: where the metadata lies beside
    the package, as wheels are installed, its name is enough.
    """
    beside = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))  # noqa: PTH100, PTH120 - pathlib costs more
    try:
        found = [name for name in os.listdir(beside) if name.startswith(_NAME) and name.endswith(_SUFFIX)]  # noqa: PTH208
    except OSError:  # of a zip
        found = []
    if len(found) == 1:
        return found[0].removeprefix(_NAME).removesuffix(_SUFFIX)
    from importlib.metadata import PackageNotFoundError
    from importlib.metadata import version as version_of

    try:
        return version_of("lambda-fanout")
    except PackageNotFoundError:
        return UNKNOWN
