"""Terms of peers in the directory: kept whole, changed in one step, and of older formats."""

from __future__ import annotations

import sqlite3
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.errors import ConfigError, RuntimeFailure
from fastun.peers.peer import Peer
from fastun.peers.rows import terms_of, terms_text
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.peers.terms import Quota, RateLimit, Terms, Usage, month_of

if TYPE_CHECKING:
    from pathlib import Path

AN_HOUR = 3600


def peer(name: str, *prefixes: str, **terms: object) -> Peer:
    return Peer(
        name=name,
        public_key=name.encode().ljust(32, b"."),
        allowed_ips=tuple(map(ip_network, prefixes)),
        terms=Terms(**terms),  # type: ignore[arg-type]
    )


RATES = st.none() | st.integers(1, 10**12)
TERMS = st.builds(
    Terms,
    enabled=st.booleans(),
    expires=st.none() | st.integers(0, 2**40),
    limit=st.builds(RateLimit, outbound=RATES, inbound=RATES, burst_bytes=st.integers(0, 10**12)),
    quota=st.none()
    | st.builds(Quota, month_bytes=st.integers(1, 10**18), then_rate=st.integers(0, 10**12)),
    to=st.lists(st.sampled_from([ip_network("10.0.0.0/8"), ip_network("fd00::/8")])).map(tuple),
    note=st.text(max_size=200),
)


@given(TERMS)
def test_terms_come_back_as_they_were(terms: Terms) -> None:
    assert terms_of(terms_text(terms)) == terms


def test_usual_terms_take_no_room() -> None:
    assert terms_text(Terms()) == "{}"


@pytest.mark.parametrize("text", ["", "[]", '{"unknown": 1}', '{"to": ["10.0.0.1/8"]}', "{"])
def test_terms_that_cannot_be_read_are_a_damaged_directory(tmp_path: Path, text: str) -> None:
    with PeerStore(tmp_path) as store:
        store.add(peer("ant"))
    with sqlite3.connect(tmp_path / FILE_NAME) as database:
        database.execute("UPDATE peer SET terms = ?", (text,))
    with PeerStore(tmp_path) as store, pytest.raises(RuntimeFailure, match="damaged; restore"):
        store.peers()


def test_who_is_barred_depends_on_the_moment() -> None:
    assert Terms().barred(1e12) == ""
    assert Terms(expires=AN_HOUR).barred(AN_HOUR - 1) == ""
    assert Terms(expires=AN_HOUR).barred(AN_HOUR) == "expired"
    assert Terms(enabled=False, expires=AN_HOUR).barred(AN_HOUR) == "disabled"
    assert (month_of(0), month_of(1796083199)) == ("1970-01", "2026-11")


# -- changes ----------------------------------------------------------------------------------


def test_a_peer_is_replaced_with_its_usage_and_its_place(tmp_path: Path) -> None:
    with PeerStore(tmp_path) as store:
        store.add(peer("ant", "10.9.0.2/32", "10.9.0.3/32"))
        store.add(peer("bee", "10.9.0.4/32"))
        store.remember_usage({"old": Usage("2026-10", 1), "cat": Usage("2026-11", 1)})
        store.remember_usage({"ant": Usage("2026-11", 7)})
        assert store.usage().keys() == {"ant", "cat"}, "those of this month"
        version = store.version()
        renamed = replace(peer("ant", "10.9.0.3/32", note="mine"), name="cat")
        store.replace("ant", renamed)
        assert store.peers() == (peer("bee", "10.9.0.4/32"), renamed)
        assert store.usage() == {"cat": Usage("2026-11", 7)}
        assert store.version() == version + 1
        store.remove("cat")
        assert store.usage() == {}
        store.remember_usage({"ant": Usage("2026-11", 9)})  # of a peer in the gateway's file
        store.add(peer("ant"))
        assert store.usage() == {}


@pytest.mark.parametrize(
    "wanted",
    [
        replace(peer("bee", "10.9.0.2/32"), public_key=b"1" * 32),  # a name
        peer("ant", "10.9.0.4/32"),  # a prefix
        replace(peer("ant"), public_key=peer("bee").public_key),
    ],
)
def test_what_another_peer_has_cannot_be_taken_from_it(tmp_path: Path, wanted: Peer) -> None:
    with PeerStore(tmp_path) as store:
        store.add(peer("ant", "10.9.0.2/32"))
        store.add(peer("bee", "10.9.0.4/32"))
        before = store.peers(), store.version()
        with pytest.raises(ConfigError):
            store.replace("ant", wanted)
        assert (store.peers(), store.version()) == before
        with pytest.raises(ConfigError, match="no peer is named"):
            store.replace("cat", peer("cat"))


# -- older formats ----------------------------------------------------------------------------

FORMAT_1 = """
CREATE TABLE peer (name TEXT PRIMARY KEY,
    public_key BLOB NOT NULL UNIQUE CHECK (length(public_key) = 32),
    preshared_key BLOB CHECK (length(preshared_key) = 32),
    endpoints TEXT NOT NULL, keepalive_s INTEGER NOT NULL) STRICT;
CREATE TABLE allowed_ip (prefix TEXT PRIMARY KEY,
    peer TEXT NOT NULL REFERENCES peer (name) ON DELETE CASCADE,
    position INTEGER NOT NULL) STRICT;
CREATE TABLE fact (name TEXT PRIMARY KEY, value ANY NOT NULL) STRICT;
INSERT INTO fact VALUES ('version', 41);
INSERT INTO peer VALUES ('ant', CAST('ant.............................' AS BLOB), NULL, '', 0);
INSERT INTO allowed_ip VALUES ('10.9.0.2/32', 'ant', 0);
PRAGMA user_version = 1;
"""


def test_a_directory_of_the_first_format_is_upgraded_with_its_peers(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    path.touch(0o600)
    with sqlite3.connect(path) as database:
        database.executescript(FORMAT_1)
    for _ in range(2):  # the second finds it upgraded
        with PeerStore(tmp_path) as store:
            assert store.peers() == (peer("ant", "10.9.0.2/32"),)
            assert store.version() == 41
    with PeerStore(tmp_path) as store:
        store.replace("ant", peer("ant", "10.9.0.2/32", note="kept"))
        store.remember_usage({"ant": Usage("2026-11", 1)})
    with sqlite3.connect(path) as upgraded, sqlite3.connect(":memory:") as fresh:
        PeerStore(tmp_path / "fresh").close()
        fresh.execute("ATTACH ? AS file", (str(tmp_path / "fresh" / FILE_NAME),))
        columns = "SELECT name, type FROM pragma_table_info('peer')"
        assert (
            upgraded.execute(columns).fetchall()
            == fresh.execute("SELECT name, type FROM pragma_table_info('peer', 'file')").fetchall()
        )


def test_an_upgrade_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / FILE_NAME
    path.touch(0o600)
    with sqlite3.connect(path) as database:
        database.executescript(FORMAT_1)
    steps = ((), ("ALTER TABLE peer ADD COLUMN terms TEXT", "no such statement"))
    monkeypatch.setattr("fastun.peers.store_file._STEPS", steps)
    with pytest.raises(RuntimeFailure, match=r"peers\.sqlite: "):
        PeerStore(tmp_path)
    monkeypatch.undo()
    with PeerStore(tmp_path) as store:
        assert len(store.peers()) == 1
