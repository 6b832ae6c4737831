"""The dialect of a text: what was found of how it is written, kept so that it is read alike ever after."""

from __future__ import annotations

import msgspec


class Dialect(msgspec.Struct, frozen=True, omit_defaults=True):
    """``delimiter`` of CSV, ``encoding`` by a byte order mark, ``line_end`` ``cr`` where it alone ends lines.

    None: nothing but the usual was found.
    """

    delimiter: str | None = None
    encoding: str | None = None
    line_end: str | None = None


USUAL = Dialect()
