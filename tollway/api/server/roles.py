"""
Which requests a role may make, by method and path. What is not listed is for `admin`.

    none     /healthz, /readyz, and the description of the API
    ingest   sends events, and asks the gate whether a customer may go on
    read     all that changes nothing
    admin    everything
"""

from __future__ import annotations

import re
from typing import Final

from tollway.api.server.keys import Role
from tollway.openmeter.problems import INGEST

OPEN: Final = frozenset({"/healthz", "/readyz", "/docs", "/openapi.json"})
"""Paths that need no key: probes have none, and the description says nothing of anybody's data."""

GATE_QUERY: Final = "/api/v3/openmeter/entitlement-access/query"
GATE: Final = re.compile(r"/api/v1/customers/[^/]+/(?:access|entitlements/[^/]+/value)")


def needs_no_key(path: str) -> bool:
    """Whether anybody may ask for a path."""
    return path in OPEN


def may(role: Role, method: str, path: str) -> bool:
    """Whether a role may make a request."""
    if role is Role.ADMIN:
        return True
    asks_gate = (method == "POST" and path == GATE_QUERY) or (method == "GET" and GATE.fullmatch(path) is not None)
    if role is Role.READ:
        return asks_gate or method in ("GET", "HEAD", "OPTIONS")
    return asks_gate or (method == "POST" and path in INGEST)
