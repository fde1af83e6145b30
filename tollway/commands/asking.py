"""Whether the HTTP API asks for keys."""

from __future__ import annotations

from config.api import ApiSettings
from config.settings import SettingError
from sinks.postgres.connecting import connect
from sinks.postgres.statements import statement
from tollway.api.server.listen import Place


def asks_for_keys(listening: ApiSettings, place: Place, postgres_dsn: str) -> bool:
    """
    Whether requests need an API key.

    Raises:
        SettingError: They do, and there is none.
    """
    if listening.keys == "auto" and place.is_loopback:
        return False
    with connect(postgres_dsn) as connection:
        found = connection.execute(statement("valid_keys")).fetchone()
    if found is None:
        why = "`TOLLWAY_API_KEYS` is `required`" if place.is_loopback else f"others reach {place.host}"
        raise SettingError(
            f"The API needs an API key, since {why}, and there is none\n"
            "hint: make one with `tollway key create --role admin`, then start again"
        )
    return True
