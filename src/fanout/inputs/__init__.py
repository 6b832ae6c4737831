"""Inputs: records from files, pipes, URLs and objects in S3, in many formats, lazily and in order."""

from __future__ import annotations

from fanout.aws.s3_faults import is_s3
from fanout.inputs.fingerprint import fingerprint, fingerprint_difference, has_grown
from fanout.inputs.listing import LISTING_FILE, KeptListing
from fanout.inputs.locations import Input, is_list, is_pattern, is_url, locations_of
from fanout.inputs.opener import Opener, open_source, open_spool
from fanout.inputs.options import FORMATS, RULES, InputOptions
from fanout.inputs.places import PLACES_FILE, PlacedSource, Places
from fanout.inputs.reading import Reading
from fanout.inputs.redaction import shown_location
from fanout.inputs.repeat import RepeatSource
from fanout.inputs.rows import Rows
from fanout.inputs.selector import SelectionFailed, Selector
from fanout.inputs.source import MAX_RECORD_BYTES, Item, Jump, Place, Source

__all__ = [
    "FORMATS",
    "LISTING_FILE",
    "MAX_RECORD_BYTES",
    "PLACES_FILE",
    "RULES",
    "Input",
    "InputOptions",
    "Item",
    "Jump",
    "KeptListing",
    "Opener",
    "Place",
    "PlacedSource",
    "Places",
    "Reading",
    "RepeatSource",
    "Rows",
    "SelectionFailed",
    "Selector",
    "Source",
    "fingerprint",
    "fingerprint_difference",
    "has_grown",
    "is_list",
    "is_pattern",
    "is_s3",
    "is_url",
    "locations_of",
    "open_source",
    "open_spool",
    "shown_location",
]
