"""The kept listing of a run's objects: damage and a disk that refuses, each in one line."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from fanout.errors import SourceError
from fanout.inputs.listing import Entry, KeptListing


def test_a_listing_is_read_back_and_a_cut_page_is_dropped(tmp_path: Path) -> None:
    """A crash cuts the last page short: it was never used."""
    listing = KeptListing(tmp_path / "listing")
    pages = [[Entry("s3://bucket/a", size=1)], [Entry("b\udcff", size=2)]]
    for page in pages:
        listing.append([*page])
    whole = (tmp_path / "listing").read_bytes()
    (tmp_path / "listing").write_bytes(whole + gzip.compress(b'{"location":"c"}\n')[:-6])
    assert list(listing.pages()) == pages
    assert (tmp_path / "listing").read_bytes() == whole


@pytest.mark.parametrize("damaged", ["nonsense", '{"size":"x"}', '{"found":{}}'])
def test_a_damaged_listing_is_named(tmp_path: Path, damaged: str) -> None:
    """It decides the numbers of records: nothing is guessed."""
    is_packed = damaged.startswith("{")
    (tmp_path / "listing").write_bytes(gzip.compress(damaged.encode()) if is_packed else damaged.encode())
    with pytest.raises(SourceError, match="listing is damaged"):
        list(KeptListing(tmp_path / "listing").pages())


def test_a_listing_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """Before any record of the page is sent."""
    with pytest.raises(SourceError, match="listing cannot be written: Is a directory"):
        (tmp_path / "listing").mkdir()
        KeptListing(tmp_path / "listing").append([Entry("a")])
    assert not KeptListing(tmp_path / "nothing").is_short
