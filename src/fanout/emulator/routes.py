"""Routes of the control plane: method and path to operation."""

from __future__ import annotations

import re

from fanout.emulator.replies import Refusal

_F = "/functions/([^/]+)"
_ROUTES = [
    (operation, verb, re.compile(pattern))
    for operation, verb, pattern in [
        ("GetFunction", "GET", f"/2015-03-31{_F}"),
        ("GetFunctionConfiguration", "GET", f"/2015-03-31{_F}/configuration"),
        ("UpdateFunctionConfiguration", "PUT", f"/2015-03-31{_F}/configuration"),
        ("ListFunctions", "GET", "/2015-03-31/functions"),
        ("GetAccountSettings", "GET", "/2016-08-19/account-settings"),
        ("GetFunctionConcurrency", "GET", f"/2019-09-30{_F}/concurrency"),
        ("PutFunctionConcurrency", "PUT", f"/2017-10-31{_F}/concurrency"),
        ("DeleteFunctionConcurrency", "DELETE", f"/2017-10-31{_F}/concurrency"),
        ("GetProvisionedConcurrencyConfig", "GET", f"/2019-09-30{_F}/provisioned-concurrency"),
        ("PutProvisionedConcurrencyConfig", "PUT", f"/2019-09-30{_F}/provisioned-concurrency"),
        ("DeleteProvisionedConcurrencyConfig", "DELETE", f"/2019-09-30{_F}/provisioned-concurrency"),
        ("GetFunctionEventInvokeConfig", "GET", f"/2019-09-25{_F}/event-invoke-config"),
        ("PutFunctionEventInvokeConfig", "PUT", f"/2019-09-25{_F}/event-invoke-config"),
        ("UpdateFunctionEventInvokeConfig", "POST", f"/2019-09-25{_F}/event-invoke-config"),
        ("DeleteFunctionEventInvokeConfig", "DELETE", f"/2019-09-25{_F}/event-invoke-config"),
        ("ListFunctionEventInvokeConfigs", "GET", f"/2019-09-25{_F}/event-invoke-config/list"),
        ("ListDurableExecutionsByFunction", "GET", f"/2025-12-01{_F}/durable-executions"),
        ("GetDurableExecution", "GET", "/2025-12-01/durable-executions/([^/]+)"),
        ("PublishVersion", "POST", f"/2015-03-31{_F}/versions"),
        ("ListVersionsByFunction", "GET", f"/2015-03-31{_F}/versions"),
        ("CreateAlias", "POST", f"/2015-03-31{_F}/aliases"),
        ("ListAliases", "GET", f"/2015-03-31{_F}/aliases"),
        ("GetAlias", "GET", f"/2015-03-31{_F}/aliases/([^/]+)"),
        ("UpdateAlias", "PUT", f"/2015-03-31{_F}/aliases/([^/]+)"),
        ("DeleteAlias", "DELETE", f"/2015-03-31{_F}/aliases/([^/]+)"),
    ]
]


def route(method: str, path: str) -> tuple[str, tuple[str, ...]]:
    """Find the operation of a request and the parts of its path."""
    for operation, verb, pattern in _ROUTES:
        match = pattern.fullmatch(path)
        if match and verb == method:
            return operation, match.groups()
    raise Refusal(404, "UnknownOperationException", f"the emulator has no operation {method} {path}")
