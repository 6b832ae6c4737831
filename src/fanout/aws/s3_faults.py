"""Addresses in S3, and what S3's answers mean to a person: one line, and whether waiting can help."""

from __future__ import annotations

import re

from fanout.errors import SourceError

CHANGED = (
    "is not the object that the run began with: its ETag has changed "
    "(put that one back, or run this one into another directory)"
)
_CREDENTIALS = {
    "InvalidAccessKeyId": "S3 does not know the access key: check the credentials",
    "SignatureDoesNotMatch": "the signature is wrong: check the secret key",
    "RequestTimeTooSkewed": "this machine's clock is wrong: set it",
    "ExpiredToken": "the credentials have expired: sign in again",
    "TokenRefreshRequired": "the credentials have expired: sign in again",
    "InvalidToken": "the session token is wrong: sign in again",
}
_PASSING = frozenset({408, 429, 500, 502, 503, 504})
# Of status 400 or even 200: bytes that came too slowly or were damaged on their way.
_PASSING_CODES = frozenset({"RequestTimeout", "BadDigest", "InternalError", "SlowDown"})


def is_s3(location: str) -> bool:
    """True for a location that lies in S3."""
    return location.startswith("s3://")


def split_location(location: str) -> tuple[str, str]:
    """Bucket and key. Raises SourceError for an address without a bucket, or that S3 cannot have."""
    try:
        location.encode()
    except UnicodeEncodeError:
        raise SourceError(f"{location!r} is not UTF-8, as every key in S3 is") from None
    bucket, _, key = location.removeprefix("s3://").partition("/")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{1,254}|arn:aws[a-z-]*:s3[a-z0-9:/._-]+", bucket):
        raise SourceError(f"{location} is not an address in S3: give s3://BUCKET/KEY")
    return bucket, key


def fault_of(error: Exception, permission: str) -> tuple[str, bool]:
    """An answer of S3, or its absence, in words; and True where it may pass."""
    reply = getattr(error, "response", None)
    if isinstance(error, RecursionError):  # botocore asks where the bucket is, and is sent there again
        return "S3 says that the bucket is elsewhere, and not where: give the endpoint or the Region", False
    if not isinstance(reply, dict):
        from botocore.exceptions import EndpointProviderError

        text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
        if isinstance(error, EndpointProviderError):  # an endpoint, a Region or a bucket that can be none
            return text, False
        return f"S3 cannot be reached: {text}", True
    code = str(reply.get("Error", {}).get("Code", ""))
    status = int(reply.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    text = " ".join(str(reply.get("Error", {}).get("Message", "")).split())
    if code == "NoSuchBucket":
        return "no such bucket", False
    if code in ("NoSuchKey", "404", "NoSuchVersion"):
        return "no such object (a prefix ends in /, and a pattern has a *)", False
    if code in ("PreconditionFailed", "412"):
        return CHANGED, False
    if code in _CREDENTIALS:
        return _CREDENTIALS[code], False
    if code == "InvalidObjectState":
        return "is archived: restore it first", False
    if code in ("AccessDenied", "403", "AllAccessDisabled"):
        and_key = " (and a key that is there)" if permission == "s3:GetObject" else ""
        return f"access denied: the credentials need {permission}{and_key}", False
    return f"S3 answers {code} ({status}): {text}", status in _PASSING or code in _PASSING_CODES
