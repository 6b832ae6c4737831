"""The proxy of the environment: what is taken, and what is refused in one line, without its password."""

from __future__ import annotations

import os

import pytest

from fanout.errors import ConfigError
from fanout.transports.endpoint import proxy_for


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)


@pytest.mark.parametrize(
    ("value", "proxy"),
    [
        ("proxy:3128", "http://proxy:3128"),
        ("//proxy:3128", "http://proxy:3128"),
        ("http://me:secret@proxy:3128", "http://me:secret@proxy:3128"),
    ],
)
def test_a_proxy_is_taken_with_or_without_its_scheme(
    monkeypatch: pytest.MonkeyPatch, value: str, proxy: str
) -> None:
    """As botocore takes it; for the scheme of the endpoint alone."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    assert proxy_for("https://lambda.us-east-1.amazonaws.com") == proxy
    assert proxy_for("http://127.0.0.1:9") is None


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("http://me:secret@proxy:port", "is not a URL: check HTTPS_PROXY"),
        ("http://[::1", "is not a URL"),
        ("http://proxy:0", "is not a URL"),
        ("http://", "is not a URL"),
        ("socks5://me:secret@proxy:1", "of a kind that is not supported"),
    ],
)
def test_a_proxy_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, value: str, said: str) -> None:
    """The line shows no password."""
    monkeypatch.setenv("HTTPS_PROXY", value)
    with pytest.raises(ConfigError, match=said) as refusal:
        proxy_for("https://lambda.us-east-1.amazonaws.com")
    assert "secret" not in str(refusal.value)
