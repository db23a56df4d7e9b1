"""The process of a fleet keeps this host's copy in step: with a real PostgreSQL, in a thread."""

from __future__ import annotations

from typing import TYPE_CHECKING

import psycopg
import pytest

from fastun.errors import ConfigError
from fastun.fleet import follower, schema
from fastun.fleet.postgres import PostgresDirectory
from fastun.lab.host import wait_until
from fastun.peers.peer import Peer
from tests.support.fleet_server import SERVER
from tests.support.followed import Followed, running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres import Cluster

INSERT = "INSERT INTO fastun.peer (name, public_key) VALUES (%s, %s)"


def peer(name: str) -> Peer:
    return Peer(name=name, public_key=name.encode().ljust(32, b"."))


@pytest.fixture
def followed(postgres: Cluster, tmp_path: Path) -> Iterator[Followed]:
    url = postgres.peer_directory()
    with running(url, tmp_path) as found:
        yield found


def test_every_change_is_copied_and_the_gateway_hears_of_it(followed: Followed) -> None:
    with followed.directory() as directory:
        directory.add(peer("a"))
        followed.wait("a")
        directory.add(peer("b"))
        directory.replace("a", peer("c"))
        followed.wait("b", "c")
        directory.remove("b")
        followed.wait("c")
        wait_until(lambda: followed.n_changed >= 3, "the gateway hears of it")
        assert followed.now.error == ""
        server = directory.server()
        assert server == SERVER  # it has said what this gateway is
        assert directory.server_key() == SERVER.public_key


def test_what_another_program_writes_is_copied_too(followed: Followed) -> None:
    with psycopg.connect(followed.url, autocommit=True) as database:
        database.execute(
            "INSERT INTO fastun.peer (name, public_key) VALUES ('x', %s)", (b"x" * 32,)
        )
        followed.wait("x")
        database.execute(
            "INSERT INTO fastun.peer (name, public_key) VALUES ('0', %s)", (bytes(32),)
        )
        wait_until(lambda: followed.now.left_out == 1, "the bad one is left out", timeout_s=15)
        assert followed.now.why_left_out == ("0: its public key is zero",)
        database.execute(
            "INSERT INTO fastun.peer (name, public_key) VALUES ('y', %s)", (b"y" * 32,)
        )
        followed.wait("x", "y")
        database.execute("DELETE FROM fastun.peer WHERE name = '0'")
        wait_until(lambda: followed.now.left_out == 0, "it is gone", timeout_s=15)


def test_without_the_database_the_copy_stays_and_then_catches_up(
    followed: Followed, postgres: Cluster
) -> None:
    with followed.directory() as directory:
        directory.add(peer("a"))
    followed.wait("a")
    postgres.stop()
    try:
        followed.wait_fault("cannot be reached")
        assert followed.names() == ["a"]
    finally:
        postgres.start()
    with followed.directory() as directory:
        directory.add(peer("b"))
    followed.wait("a", "b")
    followed.wait_fault("")


def test_tables_of_another_version_stop_it_until_they_are_right(followed: Followed) -> None:
    with (
        followed.directory() as directory,
        psycopg.connect(followed.url, autocommit=True) as database,
    ):
        directory.add(peer("a"))
        followed.wait("a")
        database.execute("UPDATE fastun.schema_version SET version = 99")
        database.execute("UPDATE fastun.state SET version = version + 1; NOTIFY fastun_peers")
        followed.wait_fault("of version 99")
        database.execute("UPDATE fastun.schema_version SET version = %s", (schema.version_here(),))
        followed.wait_fault("")
    with followed.directory() as directory:
        directory.add(peer("b"))
    followed.wait("a", "b")


def test_a_gateway_with_another_key_follows_nothing(postgres: Cluster, tmp_path: Path) -> None:
    url = postgres.peer_directory()
    with PostgresDirectory(url) as directory:
        directory.claim_key(b"o" * 32)
        directory.add(peer("a"))
    with running(url, tmp_path) as followed:
        followed.wait_fault("not that of the fleet")
        assert followed.names() == []
    with PostgresDirectory(url) as directory, pytest.raises(ConfigError):
        directory.claim_key(SERVER.public_key)


def test_a_storm_of_notifications_costs_a_look_now_and_then(
    followed: Followed, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower, "APART_S", 0.2)
    with followed.directory() as directory:
        directory.add(peer("a"))
        followed.wait("a")
        wait_until(lambda: followed.now.n_changes == 1, "it is said", timeout_s=15)
        before = followed.now.n_looks
        for n in range(1000):
            directory.connection.execute("SELECT pg_notify('fastun_peers', %s)", (str(n),))
        directory.add(peer("b"))
        followed.wait("a", "b")
        wait_until(lambda: followed.now.n_changes == 2, "it is said", timeout_s=15)
    assert followed.now.n_looks - before < 200
