"""A database that refuses, hangs, moves or lies: one line for a command; the follower goes on.

Each is tried by what `fastun peer` does, and by the process of a fleet.
"""

from __future__ import annotations

import os
import signal
import socket
import time
from typing import TYPE_CHECKING

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict

from fastun.errors import FastunError
from fastun.fleet import connection, schema
from fastun.fleet.postgres import PostgresDirectory
from fastun.lab.host import wait_until
from fastun.peers.peer import Peer
from tests.support.followed import running
from tests.support.postgres import cluster

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres import Cluster


@pytest.fixture
def own() -> Iterator[Cluster]:
    """A cluster of a test's own, which it may stop and give other rules."""
    with cluster() as started:
        yield started


def peer(name: str) -> Peer:
    return Peer(name=name, public_key=name.encode().ljust(32, b"."))


def add(url: str, name: str) -> None:
    with PostgresDirectory(url) as directory:
        directory.add(peer(name))


def inserting(name: str) -> str:
    return f"INSERT INTO fastun.peer (name, public_key) VALUES ('{name}', '{name * 32}')"  # noqa: S608


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def refused(url: str) -> str:
    """Return what a command says, in one line."""
    with pytest.raises(FastunError) as caught:
        add(url, "refused")
    said = str(caught.value)
    assert said.isprintable()
    assert "hunter2" not in said
    return said


def run(url: str, *statements: str) -> None:
    with psycopg.connect(url, autocommit=True) as database:
        for statement in statements:
            database.execute(statement)  # type: ignore[call-overload]


# -- the way in -------------------------------------------------------------------------------


def test_a_wrong_password_and_none_at_all(own: Cluster, tmp_path: Path) -> None:
    url = own.peer_directory()
    add(url, "a")
    run(url, "CREATE ROLE gate LOGIN PASSWORD 'right' IN ROLE fastun")
    passfile = tmp_path / "pgpass"
    passfile.touch(mode=0o600)
    passfile.write_text("*:*:*:gate:hunter2\n")
    as_gate = url.replace("fastun@", "gate@") + f"&passfile={passfile}"
    own.authenticate("local all gate scram-sha-256")
    assert "password authentication failed" in refused(as_gate)
    assert "no password supplied" in refused(as_gate.replace("pgpass", "none"))
    with running(as_gate, tmp_path / "state") as followed:
        followed.wait_fault("password authentication failed")
        assert followed.names() == []
        passfile.write_text("*:*:*:gate:right\n")  # read at the next connection
        followed.wait("a")
        followed.wait_fault("")
    passfile.chmod(0o644)
    assert "no password supplied" in refused(as_gate)


def test_tls_that_the_server_does_not_have_or_that_is_not_trusted(
    own: Cluster, tmp_path: Path
) -> None:
    url = own.peer_directory()
    own.stop()
    port = free_port()
    own.start(port)
    database = conninfo_to_dict(url)["dbname"]
    by_tcp = f"postgresql://fastun@127.0.0.1:{port}/{database}?sslmode=require"
    assert "server does not support SSL" in refused(by_tcp)
    assert "server does not support SSL" in refused(by_tcp.replace("require", "verify-full"))
    with running(by_tcp, tmp_path) as followed:
        followed.wait_fault("server does not support SSL")
        assert followed.names() == []
    own.authenticate("host all all 127.0.0.1/32 reject")
    assert "rejects" in refused(by_tcp.replace("require", "disable"))


def test_rights_that_are_missing(own: Cluster, tmp_path: Path) -> None:
    url = own.peer_directory()
    add(url, "a")
    run(url, "CREATE ROLE guest LOGIN")
    as_guest = url.replace("fastun@", "guest@")
    assert "this user may not do that; GRANT it" in refused(as_guest)
    run(
        url,
        "GRANT USAGE ON SCHEMA fastun TO guest",
        "GRANT SELECT ON ALL TABLES IN SCHEMA fastun TO guest",
    )
    assert "this user may not do that; GRANT it" in refused(as_guest)
    with running(as_guest, tmp_path) as followed:
        followed.wait_fault("this user may not do that; GRANT it")
        run(
            url,
            "GRANT ALL ON ALL TABLES IN SCHEMA fastun TO guest",
            "GRANT ALL ON ALL SEQUENCES IN SCHEMA fastun TO guest",
        )
        followed.wait_fault("")
        followed.wait("a")
    add(as_guest, "b")


def test_a_program_of_ones_own_needs_no_more_rights_than_are_documented(
    own: Cluster, tmp_path: Path
) -> None:
    url = own.peer_directory()
    run(
        url,
        "CREATE ROLE program LOGIN",
        "GRANT USAGE ON SCHEMA fastun TO program",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON fastun.peer, fastun.allowed_ip TO program",
        "GRANT SELECT, INSERT, UPDATE, DELETE ON fastun.change, fastun.state, fastun.presence"
        " TO program",
    )
    with running(url, tmp_path) as followed:
        run(
            url.replace("fastun@", "program@"),
            inserting("x"),
            inserting("y"),
            "DELETE FROM fastun.peer WHERE name = 'x'",
        )
        followed.wait("y")


# -- a server that is there, and does not answer ----------------------------------------------


def test_a_server_that_accepts_and_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "CONNECT_LIMIT_S", 2)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"postgresql://127.0.0.1:{silent.getsockname()[1]}/fastun"
        assert "cannot be reached" in refused(url)
        with running(url, tmp_path) as followed:
            followed.wait_fault("cannot be reached")


def test_a_server_that_hangs_in_the_middle(
    own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its process is stopped: the kernel acknowledges what it never reads."""
    url = own.peer_directory()
    monkeypatch.setattr(connection, "ANSWER_LIMIT_S", 2)
    with PostgresDirectory(url) as directory:
        stopped = directory.connection.info.backend_pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            with pytest.raises(FastunError, match="has not answered in time; try again"):
                directory.add(peer("a"))
        finally:
            os.kill(stopped, signal.SIGCONT)
    with running(url, tmp_path) as followed:
        wait_until(lambda: followed.now.looked > 0, "it follows")
        with psycopg.connect(url, autocommit=True) as other:
            query = "SELECT pid FROM pg_stat_activity WHERE application_name = 'fastun'"
            rows = other.execute(query).fetchall()
            for (pid,) in rows:
                os.kill(pid, signal.SIGSTOP)
            add(url, "b")
            followed.wait("b")  # by another connection
            assert followed.now.n_failures == 1
            for (pid,) in rows:
                os.kill(pid, signal.SIGCONT)


def test_tables_that_another_has_locked(
    own: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "LOCK_LIMIT_S", 0.3)
    url = own.peer_directory()
    add(url, "a")
    with running(url, tmp_path) as followed, psycopg.connect(url) as other:
        followed.wait("a")
        other.execute("LOCK TABLE fastun.peer")
        assert "locked by another process for too long" in refused(url)
        other.execute("NOTIFY fastun_peers")
        other.execute("INSERT INTO fastun.peer (name, public_key) VALUES ('b', %s)", (b"b" * 32,))
        with psycopg.connect(url, autocommit=True) as third:
            third.execute("NOTIFY fastun_peers")
        followed.wait_fault("locked by another process for too long")
        assert followed.names() == ["a"]
        other.commit()
        followed.wait("a", "b")
        followed.wait_fault("")


# -- a server that is another than before -----------------------------------------------------


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_server_that_is_restarted(own: Cluster, tmp_path: Path, mode: str) -> None:
    url = own.peer_directory()
    add(url, "a")
    with running(url, tmp_path) as followed:
        followed.wait("a")
        own.stop(mode)
        assert "cannot be reached" in refused(url)
        followed.wait_fault("cannot be reached")
        assert followed.names() == ["a"]
        own.start()
        began_s = time.monotonic()
        add(url, "b")
        followed.wait("a", "b")
        assert time.monotonic() - began_s < 10


def test_a_standby_takes_over_and_is_found_by_itself(own: Cluster, tmp_path: Path) -> None:
    own.peer_directory()
    with cluster(of=own) as standby:
        url = own.url("t1").replace(f"host={own.directory}", f"host={own.directory},"
                                    f"{standby.directory}")  # fmt: skip
        both = f"{url}&target_session_attrs=read-write"
        alone = standby.url("t1")
        add(both, "a")
        wait_until(lambda: _n_peers(alone) == 1, "the standby has it")
        assert "is read-only, a standby" in refused(alone)
        with running(alone, tmp_path / "alone") as followed:
            followed.wait_fault("is read-only, a standby")
        with running(both, tmp_path / "both") as followed:
            followed.wait("a")
            own.stop()
            followed.wait_fault("cannot be reached")
            standby.promote()
            followed.wait_fault("")
            add(both, "b")
            followed.wait("a", "b")


def _n_peers(url: str) -> int:
    with psycopg.connect(url) as database:
        row = database.execute("SELECT count(*) FROM fastun.peer").fetchone()
        return row[0] if row else 0


def test_a_thousand_notifications_a_second_delay_no_change(own: Cluster, tmp_path: Path) -> None:
    url = own.peer_directory()
    with (
        running(url, tmp_path) as followed,
        psycopg.connect(url, autocommit=True) as noisy,
        psycopg.connect(url, autocommit=True) as program,
    ):
        wait_until(lambda: followed.now.looked > 0, "it follows")
        before = followed.now.n_looks
        began_s = time.monotonic()
        for n in range(20):
            for _ in range(100):
                noisy.execute("SELECT pg_notify('fastun_peers', 'x')")
            program.execute(
                "INSERT INTO fastun.peer (name, public_key) VALUES (%s, %s)",
                (f"p{n:02}", n.to_bytes(32, "big") if n else b"0" * 32),
            )
        followed.wait(*(f"p{n:02}" for n in range(20)))
        lasted_s = time.monotonic() - began_s
        assert followed.now.n_looks - before <= lasted_s / 0.05 + 2
        assert followed.now.error == ""


# -- tables -----------------------------------------------------------------------------------


def test_tables_of_the_version_before_stop_a_newer_gateway_until_they_are_prepared(
    own: Cluster, tmp_path: Path
) -> None:
    url = own.new_database()
    steps = schema.steps()
    with pytest.MonkeyPatch.context() as older:
        older.setattr(schema, "steps", lambda: steps[:-1])
        assert schema.prepare(url) == (0, len(steps) - 1)
    run(url, inserting("a"))
    said = f"of version {len(steps) - 1}, and this fastun reads {len(steps)}; run 'fastun fleet"
    assert said in refused(url)
    with running(url, tmp_path) as followed:
        followed.wait_fault(said)
        assert followed.names() == []
        assert schema.prepare(url) == (len(steps) - 1, len(steps))
        followed.wait("a")
        followed.wait_fault("")
        with pytest.MonkeyPatch.context() as older:
            older.setattr(schema, "version_here", lambda: len(steps) - 1)
            add_fails = f"of version {len(steps)}, and this fastun reads {len(steps) - 1}; update"
            assert add_fails in refused(url)
    with pytest.MonkeyPatch.context() as older:
        older.setattr(schema, "steps", lambda: steps[:-1])
        with pytest.raises(FastunError, match="update fastun on this host"):
            schema.prepare(url)


def test_a_schema_of_that_name_that_is_another_programs_is_left_alone(own: Cluster) -> None:
    url = own.new_database()
    run(url, "CREATE SCHEMA fastun", "CREATE TABLE fastun.peer (theirs text)")
    with pytest.raises(FastunError, match="has tables that are not fastun's"):
        schema.prepare(url)
    run(url, "SELECT theirs FROM fastun.peer")


def test_two_fleets_are_two_databases(own: Cluster, tmp_path: Path) -> None:
    """The second one gets an error, and takes nothing of the first's."""
    first = own.peer_directory()
    with PostgresDirectory(first) as directory:
        directory.claim_key(b"1" * 32)
        directory.add(peer("a"))
    with running(first, tmp_path) as followed:
        followed.wait_fault("not that of the fleet")
        assert "a database of its own" in followed.now.error
