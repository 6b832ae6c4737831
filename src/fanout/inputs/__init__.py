"""Where records come from: files, pipes and URLs in three formats, read lazily and in order."""

from __future__ import annotations

from fanout.inputs.fingerprint import fingerprint, fingerprint_difference
from fanout.inputs.opening import FORMATS, is_url, open_source, open_spool
from fanout.inputs.selecting import SelectionFailed, Selector
from fanout.inputs.shown import shown_location
from fanout.inputs.source import MAX_RECORD_BYTES, Item, Source

__all__ = [
    "FORMATS",
    "MAX_RECORD_BYTES",
    "Item",
    "SelectionFailed",
    "Selector",
    "Source",
    "fingerprint",
    "fingerprint_difference",
    "is_url",
    "open_source",
    "open_spool",
    "shown_location",
]
