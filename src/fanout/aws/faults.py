"""botocore's exceptions in one line for a person, and whether waiting can help."""

from __future__ import annotations

from typing import Any

from fanout.errors import ConfigError, FanoutError, FatalRefusal, RequestNotSent

NO_CREDENTIALS = (
    "no AWS credentials found: give --profile, set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
    "or sign in (aws configure, aws sso login)"
)


def credentials_fault(error: Exception) -> FanoutError:
    """A failure of the credential chain as an error: one that may pass, or one that needs a person."""
    from botocore import exceptions as boto

    if isinstance(error, FanoutError):
        return error
    if isinstance(error, boto.NoCredentialsError):
        return FatalRefusal(NO_CREDENTIALS, code="NoCredentials")
    text = " ".join(str(error).split()) or type(error).__name__
    if isinstance(error, (boto.SSOError, boto.TokenRetrievalError, boto.LoginError)):
        return FatalRefusal(f"the AWS sign-in is no longer valid: {text}", code=type(error).__name__)
    if isinstance(error, (boto.PartialCredentialsError, boto.InvalidConfigError)):
        return FatalRefusal(f"the AWS credentials are incomplete: {text}", code=type(error).__name__)
    return RequestNotSent(f"the AWS credentials cannot be fetched: {text}")


def settings_fault(error: Exception, otherwise: str | None = "the AWS settings do not work") -> Any:
    """The ConfigError for what botocore says of settings; None if it is not about settings."""
    from botocore import exceptions as boto

    text = " ".join(str(error).split())
    if isinstance(error, boto.ProfileNotFound):
        return ConfigError(f"{text}: see `aws configure list-profiles`")
    if isinstance(error, boto.NoRegionError):
        return ConfigError("no Region: give --region, a full ARN, or set AWS_REGION or the profile's region")
    if isinstance(error, boto.InvalidRegionError):
        return ConfigError(f"region is invalid: {text}")
    if isinstance(error, (boto.ConfigParseError, boto.ConfigNotFound)):
        return ConfigError(f"the AWS configuration cannot be read: {text}")
    if isinstance(error, ValueError) and "endpoint" in text.lower():
        return ConfigError(f"endpoint_url is invalid: {text}; give http://… or https://…")
    return None if otherwise is None else ConfigError(f"{otherwise}: {text}")
