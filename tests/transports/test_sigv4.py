"""The signature against botocore's own SigV4Auth, for inputs that no test could send."""

from __future__ import annotations

import datetime as dt

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotoCredentials
from hypothesis import given, settings
from hypothesis import strategies as st

from fanout.transports.sigv4 import Credentials, RequestSigner, SigningKeys, canonical_path
from tests.example_counts import examples

printable = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=40)
hosts = st.one_of(
    st.from_regex(r"\A[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?(\.[a-z]{2,5}){0,3}\Z"),
    st.from_regex(r"\A[a-z][a-z0-9-]{0,20}[a-z0-9]:(8080|4566|65535)\Z"),
    st.sampled_from(["127.0.0.1:9001", "[::1]:9001", "lambda.eu-west-1.amazonaws.com"]),
)
paths = st.lists(
    st.text("abcXYZ019-._~%2F:$@=+,;'()!*&", min_size=0, max_size=12).filter(lambda part: "?" not in part),
    min_size=1,
    max_size=6,
).map(lambda parts: "/" + "/".join(parts))
queries = st.one_of(st.just(""), st.from_regex(r"\AQualifier=[a-zA-Z0-9_%-]{1,40}\Z"))
values = st.from_regex(r"\A[!-~]([ -~]{0,40}[!-~])?\Z")
headers = st.dictionaries(
    st.sampled_from(["x-amz-client-context", "x-amz-invocation-type", "x-amz-log-type", "x-amz-tenant-id"]),
    values,
)
moments = st.integers(1_577_836_800, 4_102_444_799).map(
    lambda second: dt.datetime.fromtimestamp(second, dt.UTC)
)
tokens = st.one_of(st.none(), printable)


@settings(max_examples=examples(300), deadline=None)
@given(
    host=hosts,
    path=paths,
    query=queries,
    headers=headers,
    body=st.binary(max_size=200),
    moments=st.lists(moments, min_size=1, max_size=3),
    keys=st.lists(st.tuples(printable, printable, tokens), min_size=1, max_size=2),
    region=st.sampled_from(["eu-west-1", "us-gov-east-1", "cn-north-1"]),
)
def test_signs_as_botocore_does(
    host: str,
    path: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
    moments: list[dt.datetime],
    keys: list[tuple[str, str, str | None]],
    region: str,
) -> None:
    """Any host, path, header, token and time give botocore's signature, one after the other too."""
    signer = RequestSigner(
        SigningKeys(region), host=host, path=path, query=query, headers=tuple(sorted(headers.items()))
    )
    for access_key, secret_key, token in keys:
        credentials = Credentials(access_key, secret_key, token)
        for moment in moments:
            others, authorization = signer.sign(body, moment.timestamp(), credentials)
            theirs = _botocores(host, path, query, headers, body, moment, credentials, region)
            assert {**others, "authorization": authorization} == theirs


def _botocores(
    host: str,
    path: str,
    query: str,
    headers: dict[str, str],
    body: bytes,
    moment: dt.datetime,
    credentials: Credentials,
    region: str,
) -> dict[str, str]:
    timestamp = moment.strftime("%Y%m%dT%H%M%SZ")
    sent = {**headers, "x-amz-date": timestamp}
    if credentials.token:
        sent["x-amz-security-token"] = credentials.token
    request = AWSRequest(
        method="POST",
        url=f"https://{host}{path}" + (f"?{query}" if query else ""),
        data=body,
        headers={**sent, "host": host},
    )
    request.context["timestamp"] = timestamp
    auth = SigV4Auth(BotoCredentials(*credentials), "lambda", region)
    signature = auth.signature(auth.string_to_sign(request, auth.canonical_request(request)), request)
    signed = auth.signed_headers(auth.headers_to_sign(request))
    sent["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={auth.scope(request)}, SignedHeaders={signed}, Signature={signature}"
    )
    return sent


def test_a_key_is_worked_out_once_a_day() -> None:
    """The day's signing key is shared by all signers, and is another one the next day."""
    keys = SigningKeys("eu-west-1")
    first = keys.key("secret", "20261120")
    assert keys.key("secret", "20261120") is first
    assert keys.key("secret", "20261121") != first
    assert keys.key("other", "20261120") != first


def test_keys_of_many_days_are_not_all_kept() -> None:
    """And dot segments are resolved as they are signed."""
    keys = SigningKeys("eu-west-1")
    first = keys.key("secret", "20261101")
    for day in range(2, 29):
        keys.key("secret", f"202611{day:02}")
        assert len(keys._keys) < 12
    assert keys.key("secret", "20261101") == first
    assert canonical_path("/a/b/../c/./d/") == "/a/c/d/"
    assert canonical_path("/../..") == "/"
