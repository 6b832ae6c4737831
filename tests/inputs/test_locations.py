"""Names of inputs: patterns of keys, and what is not a name."""

from __future__ import annotations

import fnmatch
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.errors import ConfigError, SourceError
from fanout.inputs import Input
from fanout.inputs.locations import check_text, format_of, key_pattern
from fanout.inputs.options import InputOptions
from tests.example_counts import examples


@pytest.mark.parametrize(
    ("pattern", "key", "is_match"),
    [
        ("a/*.jsonl", "a/b.jsonl", True),
        ("a/*.jsonl", "a/b/c.jsonl", False),
        ("a/**/c.jsonl", "a/c.jsonl", True),
        ("a/**/c.jsonl", "a/x/y/c.jsonl", True),
        ("a**", "a/x/y", True),
        ("a/?.jsonl", "a/1.jsonl", True),
        ("a/?.jsonl", "a//.jsonl", False),
        ("a/[0-9].jsonl", "a/7.jsonl", True),
        ("a/[!0-9].jsonl", "a/7.jsonl", False),
        ("a/[!0-9].jsonl", "a/x.jsonl", True),
        ("a/[!0-9]b", "a//b", False),
        ("a/[z-a].jsonl", "a/m.jsonl", False),
        ("a/[!z-a].jsonl", "a/m.jsonl", True),
        ("a/[]x].jsonl", "a/].jsonl", True),
        ("a/[!]x].jsonl", "a/].jsonl", False),
        ("a/[^x].jsonl", "a/^.jsonl", True),
        ("a/[x.jsonl*", "a/[x.jsonl", True),
    ],
)
def test_a_pattern_of_keys(pattern: str, key: str, is_match: bool) -> None:
    """``*``, ``?`` and sets stop at ``/``; ``**`` does not; a set is as in a pattern of files."""
    prefix, found = key_pattern(f"s3://bucket/{pattern}")
    assert prefix == re.split(r"[*?[]", pattern)[0]
    assert bool(found.fullmatch(key)) is is_match


@given(
    st.from_regex(r"!?[a\]\[^\-&|~\\z.]{0,8}", fullmatch=True),
    st.text("a]![^-&|~\\z.", min_size=1, max_size=3),
)
@settings(max_examples=examples(60))
def test_any_set_means_what_it_means_in_a_pattern_of_files(members: str, key: str) -> None:
    """No text between brackets is an error, or a warning of Python's about sets to come."""
    _, found = key_pattern(f"s3://bucket/x[{members}]")
    assert bool(found.fullmatch(f"x{key}")) is fnmatch.fnmatchcase(f"x{key}", f"x[{members}]")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "Input names nothing"),
        ([7], "Input takes strings and paths, not int"),
    ],
)
def test_an_input_takes_names(given: list[Any], said: str) -> None:
    """Whatever else is a mistake of the caller's."""
    with pytest.raises(ConfigError, match=said):
        Input(*given)


def test_names_that_are_none() -> None:
    """An empty one, a queue where none can be, and one that no file system takes."""
    with pytest.raises(SourceError, match="an INPUT is empty"):
        check_text("")
    with pytest.raises(SourceError, match="is a queue: only a run in a directory reads one"):
        check_text("sqs://jobs")
    with pytest.raises(SourceError, match="unknown format"):
        format_of("x" * 5_000, InputOptions())
