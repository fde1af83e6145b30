"""Without keys, only who calls this machine by its own name is answered: a page that had its name lead here is not."""

from __future__ import annotations

import httpx
import pytest
from litestar.testing import TestClient

from config.api import ApiSettings, load_api_settings
from config.settings import SettingError
from tests.api.service import NO_TLS, api_process
from tests.conftest import Stores
from tollway.api.server.app import create_app
from tollway.api.server.listen import Place, hosts_of
from tollway.api.server.stores import ServerStores

OWN = ("localhost", "localhost:1", "LOCALHOST", "127.0.0.1", "127.0.0.1:8888", "[::1]", "[::1]:8888")
OTHERS = ("evil.example", "evil.example:8888", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "10.0.0.1")


def test_a_page_that_had_its_name_lead_here_is_not_answered(stores: Stores) -> None:
    """421 for every path, probes and reads too, as an API without keys is started; nothing was changed."""
    with api_process(stores) as service:
        for host in OWN:
            answer = httpx.get(f"{service.url}/api/v1/customers", headers={"host": host}, verify=NO_TLS)
            assert answer.status_code == 200, host
        for host in OTHERS:
            for method, path in (("GET", "/api/v1/customers"), ("POST", "/api/v1/events"), ("GET", "/healthz")):
                answer = httpx.request(method, f"{service.url}{path}", headers={"host": host}, verify=NO_TLS)
                assert answer.status_code in (400, 421), host
                if host not in ("", "["):
                    assert answer.status_code == 421
                    assert "TOLLWAY_API_ALLOWED_HOSTS" in answer.json()["detail"]
        assert 'tollway_api_refused_total{reason="host"}' in service.call("GET", "/metrics").text


def test_which_names_there_are() -> None:
    """Any where a key is asked for; those of the setting; else this machine's and the address that was bound."""
    place = Place("10.0.0.7", 8888)
    by_name = ApiSettings(host="Box.local")
    assert hosts_of(by_name, place, with_keys=True) is None
    own = frozenset({"localhost", "127.0.0.1", "::1", "box.local", "10.0.0.7"})
    assert hosts_of(by_name, place, with_keys=False) == own
    named = ApiSettings(allowed_hosts="Tollway.example.com,10.0.0.9")
    for with_keys in (True, False):
        assert hosts_of(named, place, with_keys=with_keys) == frozenset({"tollway.example.com", "10.0.0.9"})
        assert hosts_of(ApiSettings(allowed_hosts="*"), place, with_keys=with_keys) is None


@pytest.mark.parametrize("text", ["", "a b", "a,,b", "http://a", "a/b", "é"])
def test_what_is_no_list_of_names_is_refused(text: str) -> None:
    """As any setting is, by its name."""
    with pytest.raises(SettingError, match="TOLLWAY_API_ALLOWED_HOSTS"):
        load_api_settings({"TOLLWAY_API_ALLOWED_HOSTS": text})


def test_a_name_that_is_allowed_is_asked_for_its_key_all_the_same(stores: Stores) -> None:
    """The name is looked at first, and stands for no key."""
    opened = ServerStores(
        stores.redis_url, stores.postgres_dsn, 2, with_keys=True, hosts=frozenset({"tollway.example.com"})
    )
    with TestClient(create_app(opened)) as client:
        for host, status in (("tollway.example.com", 401), ("evil.example", 421)):
            assert client.get("/api/v1/customers", headers={"host": host}).status_code == status
