"""Serving the HTTP API."""

from __future__ import annotations

import logging
import os
import socket
import sys

from config.settings import SettingError
from sinks.postgres.migrate import migrate
from tollway.api.serve import serve
from tollway.api.settings import ApiSettings, load_api_settings
from tollway.api.stores import ApiStores
from tollway.console import say, settings
from tollway.embedded import servers


def api() -> None:
    """
    Serve the HTTP API, until Ctrl-C or SIGTERM; requests under way are then finished.

    It listens on TOLLWAY_API_HOST and TOLLWAY_API_PORT, 127.0.0.1 and 8888 by default, and has no log-in of its own:
    put a gateway before it. Events that it takes wait in the log until `tollway run` rates them. Its description
    is at /docs.

    Example: tollway api
    """
    chosen = settings()
    listening = load_api_settings(os.environ)
    _check_free(listening)
    with servers(chosen, report=say) as endpoints:
        applied = migrate(endpoints.postgres_dsn)
        if applied:
            say(f"Schema: applied {', '.join(applied)}")
        logging.basicConfig(level=chosen.log_level.upper(), stream=sys.stderr)
        stores = ApiStores(endpoints.redis_url, endpoints.postgres_dsn, chosen.partitions)
        address = f"http://{listening.host}:{listening.port}"
        serve(listening, stores, lambda: say(f"The API listens on {address}; {address}/docs describes it."))
    say("Stopped: every request that came was answered.")


def _check_free(listening: ApiSettings) -> None:
    try:
        family = socket.getaddrinfo(listening.host, listening.port, type=socket.SOCK_STREAM)[0][0]
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((listening.host, listening.port))
    except OSError as error:
        raise SettingError(
            f"Bad setting `TOLLWAY_API_PORT`: {listening.host}:{listening.port} can't be opened: {error.strerror}\n"
            "hint: name a free port, and an address of this machine"
        ) from error
