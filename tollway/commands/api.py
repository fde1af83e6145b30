"""Serving the HTTP API."""

from __future__ import annotations

import logging
import os
import sys
from typing import Annotated

import typer

from config.api import load_api_settings
from config.logs import keep_few_alike
from sinks.postgres.migrate import migrate
from tollway.api.server.listen import held, hosts_of, listens
from tollway.api.server.serve import Work, serve
from tollway.child import OPTION, end_with_parent
from tollway.commands.asking import asks_for_keys
from tollway.commands.durability import check_durability
from tollway.commands.stores import max_ahead
from tollway.console import say, settings
from tollway.embedded import servers

NO_KEYS = (
    "WARNING: the API asks for no key, since only this machine reaches it; `TOLLWAY_API_KEYS=required` makes it ask."
)


def api(
    ends_with_input: Annotated[bool, typer.Option(OPTION, hidden=True)] = False,
) -> None:
    """
    Serve the HTTP API, until Ctrl-C or SIGTERM; requests under way are then finished.

    It listens on TOLLWAY_API_HOST and TOLLWAY_API_PORT, 127.0.0.1 and 8888 by default. On any other address than a
    loopback one it asks for API keys: `tollway key create` makes them. Events that it takes wait in the log until
    `tollway run` rates them. Its description is at /docs.

    Example: tollway api
    """
    chosen = settings()
    listening = load_api_settings(os.environ)
    if ends_with_input:
        end_with_parent()
    with held(listening) as place, servers(chosen, report=say) as endpoints:
        if not ends_with_input:  # else whoever started it has looked
            check_durability(chosen, endpoints.redis_url)
        applied = migrate(endpoints.postgres_dsn)
        if applied:
            say(f"Schema: applied {', '.join(applied)}")
        with_keys = asks_for_keys(listening, place, endpoints.postgres_dsn)
        if not with_keys:
            say(NO_KEYS)
        logging.basicConfig(level=chosen.log_level.upper(), stream=sys.stderr)
        keep_few_alike()
        work = Work(
            endpoints.redis_url,
            endpoints.postgres_dsn,
            chosen.partitions,
            chosen.log_level,
            with_keys,
            listening,
            hosts_of(listening, place, with_keys=with_keys),
            max_ahead(),
        )
        serve(place, work, ready=lambda: None if ends_with_input else say(listens(place)))
        say("The API stopped: every request that came was answered.")
