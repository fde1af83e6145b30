"""
Who may make a request: by the name that it calls, by its key, and by the page that it comes from.

Each check looks at the head of a request only, and raises `Problem` where it may not be made.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, cast
from urllib.parse import urlsplit

from litestar.types import Scope

from tollway.api.server.keys import KeyRing
from tollway.api.server.listen import LOOPBACK
from tollway.api.server.roles import may, needs_no_key
from tollway.openmeter.problems import Problem

CHALLENGE: Final = 'Bearer realm="tollway"'


def check_host(scope: Scope, hosts: frozenset[str] | None) -> None:
    """The API is called by one of its names; None: by any."""
    if hosts is None:
        return
    called = [_host_of(b"//" + value) for value in _values(scope, b"host")]
    if len(called) != 1 or called[0] not in hosts:
        raise Problem(
            421, "this API is not called by that name; `TOLLWAY_API_ALLOWED_HOSTS` has the names that it answers to"
        )


def check_origin(scope: Scope) -> None:
    """Without keys, pages of other sites that a browser on this machine shows must not change anything."""
    for value in _values(scope, b"origin"):
        if _host_of(value) not in LOOPBACK:
            raise Problem(403, "pages of other sites may not use an API that asks for no key")


def check_key(scope: Scope, keys: KeyRing) -> None:
    """The request has a key, and the key's role may make it."""
    path, method = str(scope["path"]), str(cast(Any, scope)["method"])
    if needs_no_key(path):
        return
    if not keys.is_loaded:
        raise Problem(503, "the API keys are not known yet: their stores do not answer", retry=True)
    given = list(_values(scope, b"authorization"))
    if not given:
        raise Problem(401, "an API key is needed: send `Authorization: Bearer <key>`", challenge=CHALLENGE)
    scheme, _, key = given[0].decode("latin-1").partition(" ")
    role = keys.role_of(key.strip()) if len(given) == 1 and scheme.lower() == "bearer" else None
    if role is None:
        challenge = f'{CHALLENGE}, error="invalid_token"'
        raise Problem(401, "this API key is not valid, or was revoked", challenge=challenge)
    if not may(role, method, path):
        challenge = f'{CHALLENGE}, error="insufficient_scope"'
        raise Problem(403, f"a key with the role `{role}` may not do this", challenge=challenge)


def _values(scope: Scope, name: bytes) -> Iterator[bytes]:
    """All values of a header."""
    return (value for given, value in scope["headers"] if given.lower() == name)


def _host_of(origin: bytes) -> str | None:
    try:
        return urlsplit(origin.decode("latin-1")).hostname
    except ValueError:
        return None
