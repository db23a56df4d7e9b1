"""A database that is not as it should be: one line that says what to do; nothing half applied."""

from __future__ import annotations

import threading
from ipaddress import ip_interface
from typing import TYPE_CHECKING

import psycopg
import pytest

from fastun.config.fleet import Fleet
from fastun.errors import ConfigError, RuntimeFailure
from fastun.fleet import connection, opened, schema
from fastun.fleet.postgres import PostgresDirectory
from fastun.peers.peer import Peer, Server
from fastun.peers.store import PeerStore

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.postgres import Cluster

A = Peer(name="a", public_key=b"a" * 32, preshared_key=b"p" * 32)


@pytest.fixture
def url(postgres: Cluster) -> str:
    """A directory without peers."""
    return postgres.peer_directory()


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        for statement in statements:
            database.execute(statement)  # type: ignore[call-overload]


def refused(call: Callable[[], object]) -> str:
    with pytest.raises(RuntimeFailure) as caught:
        call()
    assert str(caught.value).isprintable()
    return str(caught.value)


def test_a_database_without_tables_names_the_command_that_makes_them(postgres: Cluster) -> None:
    said = refused(lambda: PostgresDirectory(postgres.new_database()))
    assert said.endswith("has no tables of fastun's; 'fastun fleet prepare URL' makes them")


def test_tables_are_made_once_also_by_two_at_once(postgres: Cluster) -> None:
    url = postgres.new_database()
    made: list[tuple[int, int]] = []
    threads = [threading.Thread(target=lambda: made.append(schema.prepare(url))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    here = schema.version_here()
    assert sorted(made) == [(0, here), (here, here), (here, here)]
    PostgresDirectory(url).close()


@pytest.mark.parametrize(("version", "fix"), [(99, "update fastun on this host"), (0, "prepare")])
def test_tables_of_another_version_are_left_alone(url: str, version: int, fix: str) -> None:
    run(url, f"ALTER TABLE fastun.schema_version ALTER version TYPE integer USING {version}")
    said = refused(lambda: PostgresDirectory(url))
    assert f"of version {version}, and this fastun reads {schema.version_here()}" in said
    assert fix in said
    if version == 99:
        assert "update fastun" in refused(lambda: schema.prepare(url))


@pytest.mark.parametrize("place", ["127.0.0.1:1/fastun", "/fastun?nosuch=1", "/?service=nosuch"])
def test_a_database_that_is_not_reached_is_one_line(place: str) -> None:
    assert "cannot be reached: " in refused(lambda: PostgresDirectory(f"postgresql://{place}"))


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("53100", "has no room left (disk, memory or connections); nothing was changed"),
        ("53300", "has no room left"),
        ("42501", "this user may not do that"),
        ("25006", "is read-only, a standby"),
        ("40001", "changed by others at the same moment; try again"),
        ("57P01", "is shutting down or starting; try again"),
        ("23505", "refused by a rule of its tables; nothing was changed"),
        ("P0001", "secret-free; nothing was changed"),
    ],
)
def test_what_the_database_refuses_changes_nothing(url: str, code: str, said: str) -> None:
    run(
        url,
        "CREATE FUNCTION fastun.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION"
        f" 'secret-free' USING ERRCODE = '{code}'; END $$",
        "CREATE TRIGGER fail BEFORE INSERT ON fastun.peer"
        " FOR EACH ROW EXECUTE FUNCTION fastun.fail()",
    )
    with PostgresDirectory(url) as directory:
        before = directory.version()
        assert said in refused(lambda: directory.add(A))
        assert directory.peers() == ()
        assert directory.version() == before


def test_a_read_only_database_says_so(url: str) -> None:
    with PostgresDirectory(f"{url}&options=-cdefault_transaction_read_only%3Don") as directory:
        assert "target_session_attrs=read-write" in refused(lambda: directory.add(A))


def test_a_slow_database_is_waited_for_so_long(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "STATEMENT_LIMIT_S", 0.3)
    run(
        url,
        "CREATE FUNCTION fastun.wait() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " PERFORM pg_sleep(10); RETURN NEW; END $$",
        "CREATE TRIGGER wait BEFORE INSERT ON fastun.peer"
        " FOR EACH ROW EXECUTE FUNCTION fastun.wait()",
    )
    with PostgresDirectory(url) as directory:
        assert refused(lambda: directory.add(A)).endswith("has not answered in time; try again")
        assert directory.peers() == ()


def test_a_change_that_is_never_finished_holds_others_up_so_long(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOCK_LIMIT_S", 0.2)
    with (
        PostgresDirectory(url) as hanging,
        hanging.changes(),
        PostgresDirectory(url) as directory,
    ):
        assert "locked by another process for too long" in refused(lambda: directory.add(A))
        assert directory.peers() == ()


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE peer SET endpoints = 'x'",
        "UPDATE peer SET terms = '['",
        "INSERT INTO fact VALUES ('server_key', 'x')",
        "INSERT INTO fact VALUES ('public_endpoints', 'x')",
        "INSERT INTO gateway VALUES ('g', '{')",
    ],
)
def test_a_directory_that_was_edited_is_one_line(url: str, statement: str) -> None:
    with PostgresDirectory(url) as directory:
        directory.add(A)
        run(url, "SET search_path = fastun; " + statement)

        def read() -> None:
            directory.peers()
            directory.server_key()
            directory.public_endpoints()
            directory.server()

        assert "damaged; restore it from a backup" in refused(read)


def test_another_key_than_the_fleets_is_refused(url: str) -> None:
    with PostgresDirectory(url) as directory:
        directory.claim_key(b"k" * 32)
        directory.claim_key(b"k" * 32)
        with pytest.raises(ConfigError, match="not that of the fleet"):
            directory.claim_key(b"l" * 32)


def test_an_address_of_any_gateway_is_given_to_no_peer(url: str) -> None:
    with PostgresDirectory(url) as directory:
        for n in (1, 2):
            server = Server(
                interface="ft0",
                run_dir="/run",
                mode="tun",
                addresses=(ip_interface(f"10.9.0.{n}/24"),),
                public_key=b"s" * 32,
                listen=(),
            )
            directory.announce(f"gw{n}", server)
        assert directory.server() == server
        assert directory.next_free_address(server.networks[0]) == ip_interface("10.9.0.3/24")


# -- joining ------------------------------------------------------------------------------------


def test_a_server_moves_its_peers_to_the_fleet_and_has_them_back(
    url: str, tmp_path: Path, fleet_of: Callable[[str], Fleet]
) -> None:
    with PeerStore(tmp_path) as store:
        store.add(A)
        with pytest.raises(ConfigError, match="has 1 peers of its own"):
            opened.settle(store, fleet_of(url))
        assert opened.join(store, url) == (1, 0)
        assert opened.join(store, url) == (0, 0)
        opened.settle(store, fleet_of(url))
        with pytest.raises(ConfigError, match=r"the configuration has no fleet\.directory"):
            opened.settle(store, None)
        store.remember_original(None)
        opened.settle(store, None)
        assert store.peers() == (A,)
    with PostgresDirectory(url) as directory:
        assert directory.peers() == (A,)


def test_a_conflict_moves_nothing(url: str, tmp_path: Path) -> None:
    with PostgresDirectory(url) as directory, PeerStore(tmp_path) as store:
        directory.add(Peer(name="b", public_key=A.public_key))
        store.add(Peer(name="0", public_key=b"0" * 32))
        store.add(A)
        with pytest.raises(ConfigError, match="the same public key"):
            opened.join(store, url)
        assert store.original() is None
        assert [peer.name for peer in directory.peers()] == ["b"]


@pytest.fixture
def fleet_of() -> Callable[[str], Fleet]:
    return lambda url: Fleet(directory=url, name="gw1")
