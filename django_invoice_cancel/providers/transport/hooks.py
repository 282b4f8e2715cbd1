"""Whether the places are there in which the connections report to us. They are not all public."""

import http.client

from requests.adapters import HTTPAdapter
from urllib3 import HTTPConnectionPool, PoolManager
from urllib3.connection import HTTPConnection

_HOOKS = (
    (HTTPAdapter, ("get_connection_with_tls_context", "build_connection_pool_key_attributes", "request_url")),
    (HTTPConnectionPool, ("ConnectionCls", "_put_conn")),
    (HTTPConnection, ("_new_conn", "connect", "request", "send", "getresponse", "is_connected", "response_class")),
    (http.client.HTTPResponse, ("begin", "read1", "_close_conn")),
)


def hooks_missing() -> list[str]:
    """Return the names of the hooks that this requests, urllib3 or Python does not have; empty if all is well."""
    missing = [f"{owner.__name__}.{name}" for owner, names in _HOOKS for name in names if not hasattr(owner, name)]
    if not hasattr(PoolManager(), "pool_classes_by_scheme"):
        missing.append("PoolManager.pool_classes_by_scheme")
    return missing
