"""
Where the API listens: an address that is looked up once, and a port that is held from the first moment.

The workers share the port by `SO_REUSEPORT`, by which a second API on the same port would start without a word and
take half of the requests. So the port is first bound alone, which fails while anybody has it, and is then held, without
listening, for as long as the workers serve.
"""

from __future__ import annotations

import errno
import ipaddress
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from msgspec import Struct

from config.api import ANY, AUTO, ApiSettings
from config.settings import SettingError

RELEASE_SECONDS: Final = 3.0
"""So long one is waited for who was killed and is about to let go of the port."""

POLL_SECONDS: Final = 0.05

LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
"""What this machine calls itself."""


class Place(Struct, frozen=True):
    """A numeric address and a port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach it."""
        return ipaddress.ip_address(self.host).is_loopback

    @property
    def url(self) -> str:
        """How people reach it from this machine."""
        address = ipaddress.ip_address(self.host)
        if address.is_unspecified:
            address = ipaddress.ip_address("127.0.0.1" if address.version == 4 else "::1")
        return f"http://[{address}]:{self.port}" if address.version == 6 else f"http://{address}:{self.port}"


@contextmanager
def held(settings: ApiSettings) -> Iterator[Place]:
    """
    Hold the port of the settings; 0 stands for one that is free.

    Raises:
        SettingError: The address is not one of this machine, or somebody has the port.
    """
    host = _numeric(settings.host)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    deadline = time.monotonic() + RELEASE_SECONDS
    while True:
        try:
            port = _free(family, host, settings.port)
            break
        except OSError as error:
            if error.errno == errno.EADDRINUSE and time.monotonic() < deadline:
                time.sleep(POLL_SECONDS)
                continue
            raise _refusal(settings, error) from error
    with socket.socket(family, socket.SOCK_STREAM) as holder:
        if sys.platform == "linux":
            holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            try:
                holder.bind((host, port))
            except OSError as error:
                raise _refusal(settings, error) from error
        yield Place(host, port)


def hosts_of(settings: ApiSettings, place: Place, *, with_keys: bool) -> frozenset[str] | None:
    """
    The names, in lower case, by which requests may call the API; None: by any.

    Where no key is asked for, a page in a browser on this machine is kept out by nothing but the name it calls: one
    that had its own name lead to this machine's address would be answered as if it came from here.
    """
    if settings.allowed_hosts == AUTO:
        return None if with_keys else LOOPBACK | {settings.host.lower(), place.host.lower()}
    if settings.allowed_hosts == ANY:
        return None
    return frozenset(name.lower() for name in settings.allowed_hosts.split(","))


def answers(place: Place) -> bool:
    """Whether somebody listens there."""
    host = place.url.removeprefix("http://").rpartition(":")[0].strip("[]")
    try:
        with socket.create_connection((host, place.port), timeout=1.0):
            return True
    except OSError:
        return False


def listens(place: Place) -> str:
    """What people are told when it does."""
    where = place.url
    if ipaddress.ip_address(place.host).is_unspecified:
        where = f"all addresses, port {place.port} (on this machine {place.url})"
    return f"The API listens on {where}; {place.url}/docs describes it."


def _numeric(host: str) -> str:
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except OSError as error:
        raise SettingError(
            f"Bad setting `TOLLWAY_API_HOST`: the address of `{host}` is not known: {error.strerror}\n"
            "hint: name an address of this machine, for example 127.0.0.1"
        ) from error
    return str(found[0][4][0])


def _free(family: int, host: str, port: int) -> int:
    """A port that nobody has: the one that is asked for, or any. Raises `OSError`."""
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind((host, port))
        # A socket that is bound without listening would not be in the way of the probe's binding alone.
        probe.listen(1)
        return int(probe.getsockname()[1])


def _refusal(settings: ApiSettings, error: OSError) -> SettingError:
    if error.errno == errno.EADDRNOTAVAIL:
        return SettingError(
            f"Bad setting `TOLLWAY_API_HOST`: `{settings.host}` can't be opened: {error.strerror}\n"
            "hint: name an address of this machine, for example 127.0.0.1"
        )
    return SettingError(
        f"Bad setting `TOLLWAY_API_PORT`: {settings.host}:{settings.port} can't be opened: {error.strerror}\n"
        "hint: name a free port, or 0 for any; `tollway up --no-api` leaves the API out"
    )
