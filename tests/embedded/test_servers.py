"""Embedded servers keep their data, are shared by the processes of a home, and outlive any kill."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from config.settings import Settings
from tests.embedded.member import Member, member
from tollway.embedded import Endpoints, ServerError, servers, status, stop_servers
from tollway.embedded import postgres as postgres_module
from tollway.embedded import server as server_module
from tollway.embedded.unroot import NOBODY_ID


@pytest.fixture
def new_home(tmp_path: Path) -> Iterator[Path]:
    """A home that doesn't exist yet. Nothing of it runs on after the test."""
    home = tmp_path / "home"
    yield home
    stop_servers(home, force=True)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture(scope="module")
def made_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home whose servers ran once, to copy: to make PostgreSQL's data folder takes longer than a test."""
    home = tmp_path_factory.mktemp("made") / "home"
    with servers(Settings(home=home)):
        pass
    return home


@pytest.fixture
def home(made_home: Path, new_home: Path) -> Path:
    """A home whose servers ran before. Nothing of it runs on after the test."""
    shutil.copytree(made_home, new_home)
    return new_home


def put(endpoints: Endpoints, text: str) -> None:
    """Write a text to both stores, and wait for the answers."""
    with redis.Redis.from_url(endpoints.redis_url) as client:
        client.rpush("texts", text)
    with psycopg.connect(endpoints.postgres_dsn) as connection:
        connection.execute("create table if not exists texts (id serial, text text)")
        connection.execute("insert into texts (text) values (%s)", [text])


def texts(endpoints: Endpoints) -> list[str]:
    """The texts of both stores, which are the same."""
    with redis.Redis.from_url(endpoints.redis_url, decode_responses=True) as client:
        in_valkey = client.lrange("texts", 0, -1)
    with psycopg.connect(endpoints.postgres_dsn) as connection:
        in_postgres = [text for (text,) in connection.execute("select text from texts order by id")]
    assert in_valkey == in_postgres
    return in_postgres


def pids(home: Path) -> tuple[int | None, ...]:
    """The servers' process ids."""
    return tuple(server.pid for server in status(home).servers)


def states(home: Path) -> tuple[str, ...]:
    """How the servers are."""
    return tuple(server.state for server in status(home).servers)


def kill_servers(home: Path) -> None:
    """End the servers by SIGKILL."""
    for pid in pids(home):
        assert pid is not None
        os.kill(pid, signal.SIGKILL)


def test_a_restart_keeps_data_and_addresses(new_home: Path) -> None:
    """What was written is there after a stop and a start, under the same address."""
    reported: list[str] = []
    with servers(Settings(home=new_home), report=reported.append) as first:
        put(first, "a")
        assert status(new_home).in_use
        assert states(new_home) == ("running", "running")
    assert states(new_home) == ("stopped", "stopped")
    assert not status(new_home).in_use
    with servers(Settings(home=new_home)) as second:
        assert second == first
        assert texts(second) == ["a"]
    assert [line.split(" in ")[0].rsplit(":")[0] for line in reported] == [
        "Valkey started on 127.0.0.1",
        "PostgreSQL started on 127.0.0.1",
        "Valkey stopped",
        "PostgreSQL stopped",
    ]


def test_writes_are_durable_and_sessions_are_in_utc(home: Path) -> None:
    """An answered write is on the disk, in both stores."""
    with servers(Settings(home=home)) as endpoints:
        with redis.Redis.from_url(endpoints.redis_url, decode_responses=True) as client:
            assert client.config_get("append*")["appendonly"] == "yes"
            assert client.config_get("append*")["appendfsync"] == "always"
        with psycopg.connect(endpoints.postgres_dsn) as connection:
            for name, value in {
                "fsync": "on",
                "synchronous_commit": "on",
                "timezone": "UTC",
                "jit": "off",
            }.items():
                assert connection.execute(f"show {name}".encode()).fetchone() == (value,)
            assert connection.info.dbname == "tollway"


def test_nobody_else_gets_in(new_home: Path) -> None:
    """Folders and passwords are the user's own, and both servers ask for the password."""
    with servers(Settings(home=new_home)) as endpoints:
        for folder in (new_home, new_home / "valkey", new_home / "postgres", new_home / "postgres" / "data"):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        for path in (
            new_home / "valkey" / "password",
            new_home / "postgres" / "password",
            new_home / "valkey" / "valkey.conf",
        ):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
        valkey, postgres = (server.port for server in status(new_home).servers)
        with (
            redis.Redis(port=valkey or 0, retry=Retry(NoBackoff(), 0)) as client,
            pytest.raises(redis.AuthenticationError),
        ):
            client.ping()
        with pytest.raises(psycopg.OperationalError, match="password"):
            psycopg.connect(f"postgresql://tollway:wrong@127.0.0.1:{postgres}/tollway")
        assert (new_home / "valkey" / "password").read_text() not in repr(endpoints)
        for pid in pids(new_home):
            arguments = subprocess.check_output(["ps", "-o", "args=", "-p", str(pid)], text=True)
            assert (new_home / "valkey" / "password").read_text() not in arguments


def test_killed_servers_recover_at_the_next_start(home: Path) -> None:
    """After SIGKILL of both servers all answered writes are there."""
    with servers(Settings(home=home)) as first:
        for number in range(50):
            put(first, str(number))
        kill_servers(home)
    with servers(Settings(home=home)) as second:
        assert texts(second) == [str(number) for number in range(50)]


def test_a_joining_process_restarts_what_died(home: Path) -> None:
    """A server that died under its members is back, where they knew it, when the next process comes."""
    with servers(Settings(home=home)) as first:
        put(first, "a")
        kill_servers(home)
        with servers(Settings(home=home)) as second:
            assert second == first
            assert texts(first) == ["a"]


def test_dead_servers_are_restarted_though_nobody_waited_for_them(home: Path) -> None:
    """The process that started a server that died may be busy; its dead child does not hinder others."""
    with member(home):
        kill_servers(home)
        with servers(Settings(home=home)) as endpoints:
            put(endpoints, "a")


def test_a_pid_file_whose_process_id_is_somebody_elses_does_not_hinder(home: Path) -> None:
    """The id of a killed PostgreSQL may have gone to any other process, even to another PostgreSQL."""
    with servers(Settings(home=home)) as first:
        put(first, "a")
        pid_file = home / "postgres" / "data" / "postmaster.pid"
        lines = pid_file.read_text().split("\n")
        kill_servers(home)
    pid_file.write_text("\n".join([str(os.getpid()), *lines[1:]]))
    with servers(Settings(home=home)) as second:
        assert texts(second) == ["a"]


def test_servers_of_a_killed_process_are_picked_up(home: Path) -> None:
    """When the only process was killed its servers run on; the next one takes them over and stops them."""
    other = Member(home)
    redis_url, postgres_dsn = other.joined()
    before = pids(home)
    other.kill()
    assert states(home) == ("running", "running")
    assert not status(home).in_use
    with servers(Settings(home=home)) as endpoints:
        assert (endpoints.redis_url, endpoints.postgres_dsn) == (redis_url, postgres_dsn)
        assert pids(home) == before
    assert states(home) == ("stopped", "stopped")


def test_the_last_process_stops_the_servers(home: Path) -> None:
    """Two processes share the servers; the one that leaves first leaves them to the other."""
    first, second = Member(home), Member(home)
    assert first.joined() == second.joined()
    assert first.leave() == 0
    assert states(home) == ("running", "running")
    assert second.leave() == 0
    assert states(home) == ("stopped", "stopped")


def test_a_killed_process_is_no_member_any_more(home: Path) -> None:
    """A member that was killed does not keep the servers from being stopped by the one who is left."""
    with servers(Settings(home=home)), member(home) as other:
        other.kill()
    assert states(home) == ("stopped", "stopped")


def test_processes_may_start_at_once(new_home: Path) -> None:
    """Of many processes that start at once one starts the servers, and all get the same."""
    members = [Member(new_home) for _ in range(5)]
    assert len({other.joined() for other in members}) == 1
    assert [other.leave() for other in members] == [0] * 5
    assert states(new_home) == ("stopped", "stopped")


def test_homes_side_by_side_do_not_meet(home: Path, tmp_path: Path) -> None:
    """Each home has servers and data of its own, whatever its path."""
    long = tmp_path / ("long name with 'quotes' and \"more\" " * 4) / ("x" * 100)
    with servers(Settings(home=home)) as one, servers(Settings(home=long)) as two:
        put(one, "one")
        put(two, "two")
        assert (texts(one), texts(two)) == (["one"], ["two"])
    assert states(long) == ("stopped", "stopped")


def test_another_port_is_taken_where_the_old_one_is_in_use(home: Path) -> None:
    """A program on the port of the last time does not keep a server from starting."""
    with servers(Settings(home=home)):
        ports = [server.port for server in status(home).servers]
    with (
        socket.create_server(("127.0.0.1", ports[0] or 0)),
        socket.create_server(("127.0.0.1", ports[1] or 0)),
        servers(Settings(home=home)),
    ):
        assert not {server.port for server in status(home).servers} & set(ports)


def test_a_port_that_is_lost_in_the_last_moment_is_given_up(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between finding a free port and listening on it, another program may come."""
    free_port = server_module._free_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        answers = iter([taken.getsockname()[1], free_port(0), taken.getsockname()[1], free_port(0)])
        monkeypatch.setattr(server_module, "_free_port", lambda preferred: next(answers))
        with servers(Settings(home=home)) as endpoints:
            put(endpoints, "a")


def test_ctrl_c_reaches_the_process_and_not_its_servers(home: Path) -> None:
    """The servers are in sessions of their own, where the terminal's signals don't go."""
    with servers(Settings(home=home)):
        for pid in pids(home):
            assert pid is not None
            assert os.getsid(pid) == pid != os.getsid(0)


def test_down_stops_orphans_and_spares_what_is_in_use(new_home: Path) -> None:
    """`stop_servers` stops what nobody uses; what is in use only when told so."""
    assert not stop_servers(new_home)
    assert not new_home.exists()
    with member(new_home) as other:
        with pytest.raises(ServerError, match="in use"):
            stop_servers(new_home)
        assert states(new_home) == ("running", "running")
        other.kill()
        assert stop_servers(new_home)
        assert not stop_servers(new_home)
    with member(new_home):
        assert stop_servers(new_home, force=True)
        assert states(new_home) == ("stopped", "stopped")


def test_a_server_that_hangs_is_killed_at_the_stop(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that doesn't end by its own signal is ended by SIGKILL."""
    monkeypatch.setattr(server_module, "STOP_SECONDS", 0.5)
    with servers(Settings(home=home)):
        pid = pids(home)[0]
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        assert states(home)[0] == "not answering"
    assert states(home) == ("stopped", "stopped")


def test_a_failed_start_shows_the_end_of_the_log(home: Path) -> None:
    """The message has the server's own words and a hint, and nothing is left running."""
    with servers(Settings(home=home)):
        pass
    (home / "postgres" / "data" / "PG_VERSION").write_text("9\n")
    with pytest.raises(ServerError) as caught, servers(Settings(home=home)):
        pytest.fail("the servers can't start")
    assert "PostgreSQL" in str(caught.value)
    assert "incompatible" in str(caught.value)
    assert "\nhint: " in str(caught.value)
    assert states(home) == ("stopped", "stopped")


def test_a_folder_that_was_half_made_is_made_again(new_home: Path) -> None:
    """What a killed `initdb` left is thrown away."""
    (new_home / "postgres" / "data.new-x").mkdir(parents=True)
    with servers(Settings(home=new_home)) as endpoints:
        put(endpoints, "a")
    assert not (new_home / "postgres" / "data.new-x").exists()


def test_a_home_that_can_not_be_made_is_told(tmp_path: Path) -> None:
    """A file in the place of the home gives a message with a hint."""
    (tmp_path / "file").touch()
    with pytest.raises(ServerError, match="TOLLWAY_HOME"), servers(Settings(home=tmp_path / "file" / "home")):
        pytest.fail("there is no home")


def test_the_environment_of_postgresql_does_not_matter(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variables that a user has for other databases change nothing."""
    for name, value in {"PGDATA": "/nowhere", "PGPORT": "1", "PGSSLMODE": "require", "PGUSER": "x"}.items():
        monkeypatch.setenv(name, value)
    with servers(Settings(home=home)) as endpoints:
        put(endpoints, "a")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
@pytest.mark.skipif(sys.platform != "linux", reason="namespaces and capabilities are Linux's")
def test_root_works_where_user_namespaces_are_forbidden(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a container by default: PostgreSQL runs as `nobody`, in closed folders, and back again."""
    in_namespace: Callable[[Path], list[str]] = postgres_module._as_ordinary_user

    def as_nobody(folder: Path) -> list[str]:
        *runner, data = in_namespace(folder)
        return [*runner, "--nobody", data]

    for form, owner_id in ((as_nobody, NOBODY_ID), (in_namespace, 0), (as_nobody, NOBODY_ID)):
        monkeypatch.setattr(postgres_module, "_as_ordinary_user", form)
        with servers(Settings(home=home)) as endpoints:
            put(endpoints, str(owner_id))
            assert (home / "postgres" / "data").stat().st_uid == owner_id
    assert states(home) == ("stopped", "stopped")


@pytest.mark.timed
def test_starting_again_takes_less_than_a_moment(home: Path) -> None:
    """A start of servers that have data takes no more than two seconds."""
    started = time.monotonic()
    with servers(Settings(home=home)):
        assert time.monotonic() - started < 2
