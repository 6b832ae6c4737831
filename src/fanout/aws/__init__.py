"""The caller's AWS settings: profile, Region, endpoint and credentials, found as every AWS tool finds them.

The one place that imports aiobotocore.
"""

from __future__ import annotations

from fanout.aws.clients import Clients, ServiceClients
from fanout.aws.faults import credentials_fault
from fanout.aws.session import LOCAL_KEYS, AwsSession

__all__ = ["LOCAL_KEYS", "AwsSession", "Clients", "ServiceClients", "credentials_fault"]
