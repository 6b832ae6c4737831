"""The pattern of a function's name in Lambda's API: name, partial ARN or ARN, with or without a qualifier.

The one pattern for the request builder, the reading of limits and the emulator. From the API model
(FunctionName of Invoke); AWS's European Sovereign Cloud, GovCloud and isolated Regions included.
"""

from __future__ import annotations

import re

MAX_CHARS = 256
FUNCTION_NAME = re.compile(
    r"(?P<unqualified>(?:arn:(?:aws[a-zA-Z-]*)?:lambda:)?"
    r"(?:(?P<region>(?:eusc-)?[a-z]{2}(?:-gov|-iso[a-z]?)?-[a-z]+-\d):)?"
    r"(?:(?P<account>\d{12}):)?(?:function:)?"
    r"(?P<name>[a-zA-Z0-9_.-]+))"
    r"(?::(?P<qualifier>\$LATEST(?:\.PUBLISHED)?|[a-zA-Z0-9_-]+))?",
    re.ASCII,
)


def parse_function_name(name: str) -> re.Match[str] | None:
    """``unqualified``, ``region``, ``account``, ``name`` and ``qualifier``; None for anything else."""
    return FUNCTION_NAME.fullmatch(name) if len(name) <= MAX_CHARS else None


def split_qualifier(function: str, qualifier: str | None = None) -> tuple[str, str | None]:
    """The name without its qualifier, and the qualifier: the one given apart, else the name's own."""
    match = parse_function_name(function)
    return (match["unqualified"], qualifier or match["qualifier"]) if match else (function, qualifier)
