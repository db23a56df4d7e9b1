"""A database whose answer is lost, that others have set otherwise, or that takes no more changes.

A change whose answer is lost may have been made: a command says so. What a gateway cannot write
does not keep it from reading who may connect.
"""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from ipaddress import ip_network
from typing import TYPE_CHECKING, Final

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fastun.errors import RuntimeFailure
from fastun.fleet import connection
from fastun.fleet.postgres import PostgresDirectory
from fastun.peers.peer import Peer, one_host
from tests.support.followed import running

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres import Cluster

N_THREADS: Final = 6
NETWORK: Final = ip_network("10.9.0.0/24")
ANSWER: Final = b"C\0\0\0\x0bCOMMIT\0"  # CommandComplete


def peer(name: str) -> Peer:
    return Peer(name=name, public_key=name.encode().ljust(32, b"."))


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        for statement in statements:
            database.execute(statement)


class Between:
    """Passes all on but the answer to COMMIT, in whose place it closes, or says nothing more."""

    def __init__(self, directory: Path, database: str, *, hangs: bool) -> None:
        self._database = database
        self._hangs = hangs
        self._ended = threading.Event()
        self._listener = socket.create_server(
            str(directory / ".s.PGSQL.5432"), family=socket.AF_UNIX
        )
        self._start(self._serve)

    def close(self) -> None:
        self._ended.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @staticmethod
    def _start(call: object, *arguments: object) -> None:
        threading.Thread(target=call, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                database = socket.socket(socket.AF_UNIX)
                database.connect(self._database)
                self._start(self._pass, client, database)
                self._start(self._pass, database, client)

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError), other:
            while (said := one.recv(65536)) and ANSWER not in said:
                other.sendall(said)
            if said and self._hangs:
                self._ended.wait()
            other.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def url(postgres: Cluster) -> str:
    """A directory without peers."""
    return postgres.peer_directory()


@pytest.fixture(params=["closed", "silent"])
def between(
    url: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str]:
    """The URL of a database of which no change is ever answered."""
    monkeypatch.setattr(connection, "ANSWER_LIMIT_S", 2.0)
    host = str(conninfo_to_dict(url)["host"])
    passing = Between(tmp_path, f"{host}/.s.PGSQL.5432", hangs=request.param == "silent")
    yield url.replace(f"host={host}", f"host={tmp_path}")
    passing.close()


def test_a_change_whose_answer_is_lost_is_said_to_be_uncertain(url: str, between: str) -> None:
    with PostgresDirectory(between) as directory:
        with pytest.raises(RuntimeFailure) as caught:
            directory.add(peer("a"))
        assert "the change may have been made; see 'fastun peer list'" in str(caught.value)
        assert "nothing was changed" not in str(caught.value)
        assert str(caught.value).isprintable()
    with PostgresDirectory(url) as directory:
        assert directory.peers() == (peer("a"),)


def test_what_fails_before_a_change_is_complete_is_not_uncertain(url: str, between: str) -> None:
    with PostgresDirectory(url) as directory:
        directory.add(peer("a"))
    with (
        PostgresDirectory(between) as directory,
        pytest.raises(Exception, match="two peers are named") as caught,
    ):
        directory.add(peer("a"))
    assert "may have been made" not in str(caught.value)


class Cut:
    """Passes all on, and closes at the n-th message of a client, or (`hears`) at its answer."""

    def __init__(self, directory: Path, database: str) -> None:
        self.at, self.hears, self.is_cut = 0, False, False
        self._database = database
        self._listener = socket.create_server(
            str(directory / ".s.PGSQL.5432"), family=socket.AF_UNIX
        )
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                self._pass(self._listener.accept()[0])

    def _pass(self, client: socket.socket) -> None:
        n = 0
        with client, socket.socket(socket.AF_UNIX) as database, contextlib.suppress(OSError):
            database.connect(self._database)
            while True:
                for one in select.select([client, database], [], [])[0]:
                    said = one.recv(65536)
                    n += one is client
                    is_last = n == self.at and self.hears is (one is database)
                    self.is_cut |= is_last
                    if is_last or not said:
                        return
                    (database if one is client else client).sendall(said)


def test_wherever_a_connection_ends_a_command_says_nothing_that_is_not_true(
    url: str, tmp_path: Path
) -> None:
    host = str(conninfo_to_dict(url)["host"])
    cut = Cut(tmp_path, f"{host}/.s.PGSQL.5432")
    n_uncertain = 0
    for cut.hears in (False, True):
        cut.at, cut.is_cut = 0, True
        while cut.is_cut:
            cut.at, cut.is_cut, said = cut.at + 1, False, ""
            try:
                with PostgresDirectory(url.replace(f"host={host}", f"host={tmp_path}")) as through:
                    through.add(peer("a"))
            except RuntimeFailure as error:
                said = str(error)
            is_uncertain = "may have been made" in said
            n_uncertain += is_uncertain
            assert is_uncertain or "cannot be reached" in said or not cut.is_cut
            with PostgresDirectory(url) as directory:
                is_there = directory.named("a") is not None
                assert is_uncertain or is_there is (said == "")
                if is_there:
                    directory.remove("a")
        assert cut.at > 10
    cut.close()
    assert n_uncertain <= 4, "only while it commits"


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_changes_at_once_wait_for_each_other_however_the_database_is_set(
    url: str, level: str
) -> None:
    """Each looks for a free address when it has the lock, not as things were before."""
    name = conninfo_to_dict(url)["dbname"]
    run(url, f"ALTER DATABASE {name} SET default_transaction_isolation = '{level}'")
    failed: list[str] = []
    begin = threading.Barrier(N_THREADS)

    def add(n: int) -> None:
        with PostgresDirectory(url) as directory:
            begin.wait()
            try:
                for each in range(5):
                    with directory.changes():
                        address = directory.next_free_address(NETWORK)
                        found = peer(f"p{n}-{each}")
                        directory.add(
                            Peer(
                                name=found.name,
                                public_key=found.public_key,
                                allowed_ips=(one_host(address),),
                            )
                        )
            except RuntimeFailure as error:
                failed.append(str(error))

    threads = [threading.Thread(target=add, args=(n,)) for n in range(N_THREADS)]
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        run(url, f"ALTER DATABASE {name} RESET default_transaction_isolation")
    assert failed == []
    with PostgresDirectory(url) as directory:
        assert len({prefix for each in directory.peers() for prefix in each.allowed_ips}) == 30


@pytest.mark.parametrize("table", ["gateway", "presence"])
def test_a_gateway_that_may_write_nothing_reads_who_may_connect(
    url: str, tmp_path: Path, table: str
) -> None:
    """As where the disk is full, or a right was taken away: a removed peer is still cut off."""
    with PostgresDirectory(url) as directory:
        directory.add(peer("a"))
        directory.add(peer("b"))
    run(
        url,
        "CREATE FUNCTION fastun.fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " RAISE EXCEPTION 'full' USING ERRCODE = '53100'; END $$",
        f"CREATE TRIGGER fail BEFORE INSERT OR UPDATE ON fastun.{table}"
        " FOR EACH STATEMENT EXECUTE FUNCTION fastun.fail()",
    )
    with running(url, tmp_path) as followed:
        followed.wait("a", "b")
        run(url, "DELETE FROM fastun.peer WHERE name = 'a'")
        followed.wait("b")
        followed.wait_fault("has no room left")
        run(url, f"DROP TRIGGER fail ON fastun.{table}")
        followed.wait_fault("")
        with followed.directory() as directory:
            directory.add(peer("c"))
        followed.wait("b", "c")
