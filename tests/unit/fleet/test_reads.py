"""What a look reads is what a look at all would have found, whatever writes at the same time."""

from __future__ import annotations

import random
import threading
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from fastun.errors import RuntimeFailure
from fastun.fleet import reads
from fastun.fleet.looks import Looks
from fastun.fleet.postgres import PostgresDirectory
from fastun.lab.host import wait_until
from fastun.peers.store import PeerStore

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.support.postgres import Cluster

Database = Any  # psycopg's connection; statements are made up as text

N_WRITERS, N_TRANSACTIONS = 4, 60
NAMES = [f"p{n}" for n in range(12)]


@pytest.fixture
def url(postgres: Cluster) -> str:
    """A directory without peers."""
    return postgres.peer_directory()


@pytest.fixture
def directory(url: str) -> Iterator[PostgresDirectory]:
    with PostgresDirectory(url) as opened:
        yield opened


def database(url: str) -> Database:
    connection = psycopg.connect(url, autocommit=True)
    connection.execute("SET search_path = fastun")
    return connection


def key(name: str) -> bytes:
    return name.encode().ljust(32, b".")


def insert(to: Database, *names: str) -> None:
    to.cursor().executemany(
        "INSERT INTO peer (name, public_key) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        [(name, key(name)) for name in names],
    )


# -- transactions that commit in any order ------------------------------------------------------


def change(at_random: random.Random, to: Database) -> None:
    """Do one of what other programs and the commands do."""
    name = at_random.choice(NAMES)
    prefix = f"10.9.0.{at_random.randrange(20)}/32"
    match at_random.randrange(6):
        case 0:
            insert(to, name)
        case 1:
            to.execute("DELETE FROM peer WHERE name = %s", (name,))
        case 2:
            to.execute(
                "UPDATE peer SET keepalive_s = %s WHERE name = %s", (at_random.randrange(99), name)
            )
        case 3:
            to.execute(
                "INSERT INTO allowed_ip SELECT %s::cidr, name, 0 FROM peer WHERE name = %s"
                " ON CONFLICT (prefix) DO UPDATE SET peer = EXCLUDED.peer",
                (prefix, name),
            )
        case 4:
            to.execute("DELETE FROM allowed_ip WHERE prefix = %s", (prefix,))
        case 5:
            other = at_random.choice(NAMES)
            to.execute(
                "UPDATE peer SET name = %s, public_key = %s WHERE name = %s AND NOT EXISTS"
                " (SELECT FROM peer WHERE name = %s)",
                (other, key(other), name, other),
            )


def transact(at_random: random.Random, to: Database) -> None:
    """Change something in one transaction, some of it undone again, or all of it."""
    with to.transaction():
        for _ in range(at_random.randint(1, 3)):
            with to.transaction():  # a savepoint
                change(at_random, to)
                undo_now_and_then(at_random)
            to.execute("SELECT pg_sleep(%s)", (at_random.random() * 0.004,))
        undo_now_and_then(at_random)


def undo_now_and_then(at_random: random.Random) -> None:
    if at_random.random() < 0.15:
        raise psycopg.Rollback


def write(url: str, seed: int, n_conflicts: list[int]) -> None:
    at_random = random.Random(seed)
    with database(url) as to:
        for _ in range(N_TRANSACTIONS):
            try:
                transact(at_random, to)
            except (psycopg.errors.DeadlockDetected, psycopg.errors.IntegrityError):
                n_conflicts.append(1)


@pytest.mark.parametrize("seed", range(3))
def test_what_has_changed_is_what_a_look_at_all_of_the_same_moment_finds(
    url: str, directory: PostgresDirectory, seed: int
) -> None:
    n_conflicts: list[int] = []
    writers = [
        threading.Thread(target=write, args=(url, seed * 100 + n, n_conflicts))
        for n in range(N_WRITERS)
    ]
    known: dict[str, Any] = {}
    seen, n_with_news, is_last = 0, 0, False
    connection = directory.connection
    seen = reads.everything(connection, url).version
    for writer in writers:
        writer.start()
    while not is_last:
        is_last = not any(writer.is_alive() for writer in writers)
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            read = reads.since(connection, url, seen)
            everything = reads.everything(connection, url)
        assert read is not None
        assert read.version == everything.version >= seen
        assert bool(read.rows) <= (read.version > seen)
        known = {name: rows for name, rows in (known | read.rows).items() if rows}
        assert known == everything.rows
        n_with_news += read.version > seen
        seen = read.version
    for writer in writers:
        writer.join()
    assert n_with_news > 20
    assert len(n_conflicts) < N_WRITERS * N_TRANSACTIONS // 2


def test_a_transaction_that_began_first_and_commits_last_is_not_missed(
    url: str, directory: PostgresDirectory
) -> None:
    seen = directory.version()
    with database(url) as slow, database(url) as quick:
        slow.execute("BEGIN")
        insert(slow, "slow")
        after = threading.Thread(target=insert, args=(quick, "quick"))
        after.start()
        # The quick one waits: else a look would find its version without what the slow one does.
        wait_until(
            lambda: directory.connection.execute(
                "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
            ).fetchone() == (1,),
            "the second waits for the first",
        )  # fmt: skip
        assert directory.changes_since(seen) == (seen, (), ())
        slow.execute("COMMIT")
        after.join()
    changes = directory.changes_since(seen)
    assert changes is not None
    assert [peer.name for peer in changes.peers] == ["quick", "slow"]


# -- what no row tells --------------------------------------------------------------------------


def test_a_statement_that_changes_nothing_makes_no_version(
    url: str, directory: PostgresDirectory
) -> None:
    before = directory.version()
    with database(url) as other:
        other.execute("DELETE FROM peer WHERE name = 'nosuch'")
        other.execute("UPDATE allowed_ip SET position = 1")
    assert directory.version() == before


def test_a_transaction_has_one_version_however_much_it_changes(
    url: str, directory: PostgresDirectory
) -> None:
    with directory.changes():
        insert(directory.connection, *NAMES)
    before = directory.version()
    with database(url) as other:
        other.execute("INSERT INTO allowed_ip SELECT '10.9.0.1/32', 'p1', 0")
        other.execute("DELETE FROM peer")  # and what is in the other table
    assert directory.version() == before + 2
    changes = directory.changes_since(before)
    assert changes is not None
    assert set(changes.gone) == set(NAMES)


def test_a_table_that_was_emptied_at_once_is_read_anew(
    url: str, directory: PostgresDirectory
) -> None:
    insert(directory.connection, "a", "b")
    before = directory.version()
    with database(url) as other:
        other.execute("TRUNCATE peer CASCADE")
    assert directory.changes_since(before) is None
    assert directory.version() > before


def test_changes_of_long_ago_are_forgotten(directory: PostgresDirectory) -> None:
    insert(directory.connection, "a")
    directory.connection.execute("UPDATE state SET version = version + %s", (reads.KEPT,))
    insert(directory.connection, "b")
    assert directory.connection.execute("SELECT peer FROM change").fetchall() == [("b",)]


def test_more_rows_than_a_fleet_has_are_refused(
    url: str, directory: PostgresDirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert(directory.connection, *NAMES)
    monkeypatch.setattr(reads, "ROWS_MAX", len(NAMES) - 1)
    with pytest.raises(RuntimeFailure, match="rows of peers are too many"):
        reads.everything(directory.connection, url)


# -- looks --------------------------------------------------------------------------------------


def names(store: PeerStore) -> list[str]:
    return [peer.name for peer in store.peers()]


def test_what_no_trigger_has_noted_a_part_finds(
    url: str, directory: PostgresDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastun.fleet.looks.PART_PEERS", 5)
    insert(directory.connection, *NAMES)
    with PeerStore(tmp_path) as store, database(url) as other:
        looks = Looks(store)
        assert looks.look(directory)
        assert names(store) == sorted(NAMES)
        other.execute("SET session_replication_role = replica")  # without triggers
        insert(other, "unheard", "a")
        other.execute("DELETE FROM peer WHERE name IN ('p11', 'p9')")
        assert not looks.look(directory)
        found = [looks.look_at_part(directory) for _ in range(4)]
        assert found == [True, False, True, False]
        assert names(store) == sorted({"a", "unheard", *NAMES} - {"p11", "p9"})
        insert(directory.connection, "b")
        assert looks.look_at_part(directory), "the copy is older than the part: a look is first"
        assert "b" in names(store)


def test_a_text_without_end_costs_its_peer_alone(
    directory: PostgresDirectory, tmp_path: Path
) -> None:
    insert(directory.connection, "a", "b")
    directory.connection.execute(
        "UPDATE peer SET terms = repeat(' ', %s) || '{}' WHERE name = 'a'", (reads.TEXT_BYTES_MAX,)
    )
    with PeerStore(tmp_path) as store:
        looks = Looks(store)
        looks.look(directory)
        assert names(store) == ["b"]
        assert looks.copied.left_out == {"a": "its endpoints or its terms are too long"}


def test_a_directory_that_was_put_back_is_read_anew(
    url: str, directory: PostgresDirectory, tmp_path: Path
) -> None:
    insert(directory.connection, "a")
    with PeerStore(tmp_path) as store:
        looks = Looks(store)
        looks.look(directory)
        with database(url) as other, other.transaction():
            other.execute("SET LOCAL session_replication_role = replica")
            other.execute("DELETE FROM peer")
            other.execute("UPDATE state SET version = 0")
        assert looks.look(directory)
        assert names(store) == []


def test_a_peer_is_left_out_for_as_long_as_another_has_its_prefix(
    directory: PostgresDirectory, tmp_path: Path
) -> None:
    """The tables refuse that: a man in the database's place does not."""
    run = directory.connection.execute
    run("ALTER TABLE allowed_ip DROP CONSTRAINT allowed_ip_pkey")
    with PeerStore(tmp_path) as store:
        looks = Looks(store)
        insert(directory.connection, "b", "c")
        run("INSERT INTO allowed_ip VALUES ('10.9.0.1', 'b', 0)")
        looks.look(directory)
        assert names(store) == ["b", "c"]
        insert(directory.connection, "a")
        run("INSERT INTO allowed_ip VALUES ('10.9.0.1', 'a', 0)")
        looks.look(directory)
        assert names(store) == ["a", "c"]
        assert "both have 10.9.0.1/32" in looks.copied.left_out["b"]
        run("DELETE FROM allowed_ip WHERE peer = 'a'")
        looks.look(directory)
        assert names(store) == ["a", "b", "c"]
        assert looks.copied.left_out == {}
