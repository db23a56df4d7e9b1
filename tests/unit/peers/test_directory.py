"""Peers together, free addresses against a naive model, and the directory in SQLite."""

import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, FastunError, RuntimeFailure
from fastun.peers.directory import next_free_address
from fastun.peers.peer import Network, Peer, Server, check_together, is_host
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.peers.store_file import SCHEMA_VERSION

SERVER = Server(
    interface="fastun0",
    run_dir="/run/fastun",
    mode="tun",
    addresses=(ip_interface("10.9.0.1/24"), ip_interface("fd00:9::1/64")),
    public_key=b"s" * 32,
    listen=(Endpoint("tcp", "::", 443),),
    peers=(Peer(name="filed", public_key=b"f" * 32, allowed_ips=(ip_network("10.9.0.2/32"),)),),
)


def peer(name: str, *prefixes: str, key: bytes | None = None) -> Peer:
    return Peer(
        name=name,
        public_key=key or name.encode().ljust(32, b"."),
        preshared_key=b"p" * 32,
        allowed_ips=tuple(map(ip_network, prefixes)),
    )


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PeerStore]:
    with PeerStore(tmp_path / "state") as opened:
        yield opened


# -- together ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peers", "named"),
    [
        ((peer("a"), peer("a", key=b"x" * 32)), "two peers are named 'a'"),
        ((peer("a"), peer("b", key=peer("a").public_key)), "'a' and 'b' have the same public key"),
        ((peer("a", "::/0"), peer("b", "10.0.0.0/8", "::/0")), "'a' and 'b' both have ::/0"),
        ((peer("a", "10.9.0.1"),), "'a' has 10.9.0.1/32, our own address"),
    ],
)
def test_what_two_peers_cannot_share_is_refused_naming_both(
    peers: tuple[Peer, ...], named: str
) -> None:
    with pytest.raises(ConfigError, match=named):
        check_together(peers, (ip_interface("10.9.0.1/24"),))


def test_a_part_of_another_peers_prefix_may_be_cut_out() -> None:
    check_together((peer("a", "10.9.0.0/24", "0.0.0.0/0"), peer("b", "10.9.0.128/25", "10.9.0.2")))


def test_a_preshared_key_is_in_no_repr() -> None:
    assert "p" * 32 not in repr(peer("a"))


# -- free addresses ---------------------------------------------------------------------------

NETWORKS = st.builds(
    lambda base, host, length: ip_interface(f"{base}{host}/{length}").network,
    st.just("10.9.0."),
    st.integers(0, 255),
    st.integers(22, 32),
)


@given(st.integers(24, 32), st.integers(0, 255), st.lists(NETWORKS, max_size=12))
def test_the_free_address_is_the_first_that_a_naive_search_finds(
    length: int, host: int, taken: list[Network]
) -> None:
    network = ip_interface(f"10.9.0.{host}/{length}").network
    hosts = list(network.hosts()) or [network.network_address]
    wide = [other for other in taken if other.num_addresses > 1 and network.subnet_of(other)]
    expected = next(
        (host for host in hosts if not any(host in other for other in taken if other not in wide)),
        None,
    )
    found = next_free_address(network, taken)
    assert (found.ip if found else None) == expected
    assert found is None or (found.network == network and is_host(found))


def test_ipv6_keeps_the_routers_anycast_address_free_and_counts_past_ipv4() -> None:
    found = next_free_address(ip_network("::/64"), [ip_network("10.0.0.0/8"), ip_network("::1")])
    assert found == ip_interface("::2/64")
    assert not is_host(ip_interface("fd00::/64"))
    assert is_host(ip_interface("fd00::ffff:ffff:ffff:ffff/64"))


# -- the directory ----------------------------------------------------------------------------


def test_what_is_added_is_there_for_the_next_that_opens_it(
    tmp_path: Path, store: PeerStore
) -> None:
    added = Peer(
        name="office",
        public_key=b"k" * 32,
        preshared_key=b"p" * 32,
        allowed_ips=(ip_network("fd00::/64"), ip_network("10.9.0.7/32"), ip_network("10.0.0.0/8")),
        endpoints=(Endpoint("tcp", "::1", 1), Endpoint("tcp", "a", 2)),
        keepalive_s=25,
    )
    store.add(added)
    store.add(Peer(name="bare", public_key=b"b" * 32))
    with PeerStore(tmp_path / "state") as other:
        assert other.peers() == (Peer(name="bare", public_key=b"b" * 32), added)
        assert other.get("office") == added
        assert other.remove("office") == added
    assert [left.name for left in store.peers()] == ["bare"]
    store.add(added)


def test_the_version_grows_with_peers_alone(tmp_path: Path, store: PeerStore) -> None:
    versions = [store.version()]
    with PeerStore(tmp_path / "state") as other:
        for change in (
            lambda: other.add(peer("a")),
            lambda: other.add(peer("b")),
            lambda: other.remove("a"),
        ):
            change()
            versions.append(store.version())
        assert versions == sorted(set(versions))
        other.remember_server(SERVER)
        other.remember_public_endpoints(SERVER.listen)
        with pytest.raises(ConfigError):
            other.add(peer("b"))
        assert store.version() == versions[-1]


def test_the_server_is_remembered_without_secrets(store: PeerStore) -> None:
    assert store.server() is None
    assert store.public_endpoints() == ()
    store.remember_server(SERVER)
    store.remember_public_endpoints((Endpoint("tcp", "::1", 443),))
    assert store.server() == SERVER
    assert store.public_endpoints() == (Endpoint("tcp", "::1", 443),)


@pytest.mark.parametrize(
    ("refused", "named"),
    [
        (peer("a"), "two peers are named 'a'"),
        (peer("filed"), "two peers are named 'filed'"),
        (peer("b", key=b"f" * 32), "'filed' and 'b' have the same public key"),
        (peer("b", "10.9.0.2/32"), "'filed' and 'b' both have 10.9.0.2/32"),
        (peer("b", "10.9.0.8/32"), "'a' and 'b' both have 10.9.0.8/32"),
        (peer("b", "fd00:9::1/128"), "our own address"),
    ],
)
def test_what_cannot_be_together_is_not_added(store: PeerStore, refused: Peer, named: str) -> None:
    store.remember_server(SERVER)
    store.add(peer("a", "10.9.0.8/32"))
    with pytest.raises(ConfigError, match=named):
        store.add(refused)
    assert store.peers() == (peer("a", "10.9.0.8/32"),)


def test_the_tables_themselves_keep_a_prefix_to_one_peer(store: PeerStore) -> None:
    store.add(peer("a", "10.9.0.8/32"))
    with sqlite3.connect(store.path) as database, pytest.raises(sqlite3.IntegrityError):
        database.execute("INSERT INTO allowed_ip VALUES ('10.9.0.8/32', 'b', 0)")


def test_an_unknown_name_is_answered_with_the_nearest(store: PeerStore) -> None:
    store.add(peer("laptop"))
    with pytest.raises(ConfigError, match="no peer is named 'labtop'; did you mean 'laptop'"):
        store.remove("labtop")
    store.remember_server(SERVER)
    with pytest.raises(ConfigError, match="'filed' is in the configuration file of fastun0"):
        store.remove("filed")


def test_the_next_address_is_nobodys(store: PeerStore) -> None:
    store.remember_server(SERVER)
    store.add(peer("a", "10.9.0.3", "fd00:9::2"))
    store.add(peer("site", "10.9.0.4/30", "0.0.0.0/0"))
    found = [store.next_free_address(network) for network in SERVER.networks]
    assert found == [ip_interface("10.9.0.8/24"), ip_interface("fd00:9::3/64")]
    with pytest.raises(ConfigError, match=r"10\.9\.0\.2/31 has no free address"):
        store.next_free_address(ip_network("10.9.0.2/31"))


def test_a_step_that_fails_changes_nothing(store: PeerStore) -> None:
    def fail() -> None:
        with store.changes():
            store.add(peer("a", "10.9.0.8/32"))
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert store.peers() == ()
    assert store.version() == 0
    store.add(peer("a", "10.9.0.8/32"))


ADD_TWENTY = """
import sys
from ipaddress import ip_network
from pathlib import Path
from fastun.peers.store import PeerStore
from fastun.peers.peer import Peer, one_host
state, process = sys.argv[1:]
for number in range(20):
    name = f"{process}-{number}"
    with PeerStore(Path(state)) as store, store.changes():
        address = store.next_free_address(ip_network("10.9.0.0/24"))
        store.add(Peer(name=name, public_key=name.encode().ljust(32, b"."),
                       allowed_ips=(one_host(address),)))
"""


def test_adding_at_once_gives_no_peer_the_address_of_another(tmp_path: Path) -> None:
    state = tmp_path / "state"  # Not made yet: the first start is a race as well.
    processes = [
        subprocess.Popen([sys.executable, "-c", ADD_TWENTY, str(state), str(number)])
        for number in range(4)
    ]
    assert [process.wait(60) for process in processes] == [0] * 4
    with PeerStore(state) as store:
        peers = store.peers()
        assert store.version() == 80
    addresses = sorted(prefix for added in peers for prefix in added.allowed_ips)  # type: ignore[type-var]
    assert addresses == [ip_network(f"10.9.0.{host}") for host in range(1, 81)]


def test_a_reader_is_not_held_up_by_a_writer(tmp_path: Path, store: PeerStore) -> None:
    store.add(peer("a"))
    with PeerStore(tmp_path / "state") as writer, writer.changes():
        writer.add(peer("b"))
        assert [seen.name for seen in store.peers()] == ["a"]
    assert [seen.name for seen in store.peers()] == ["a", "b"]


# -- the file ---------------------------------------------------------------------------------


def complaint(state: Path) -> FastunError:
    def use() -> None:
        with PeerStore(state) as store:
            store.peers()
            store.server()
            store.public_endpoints()
            store.add(peer("new"))

    with pytest.raises(FastunError) as caught:
        use()
    assert str(caught.value).isprintable()
    assert str(state / FILE_NAME) in str(caught.value)
    return caught.value


@pytest.fixture
def state(tmp_path: Path) -> Path:
    with PeerStore(tmp_path) as store:
        store.add(peer("a", "10.9.0.8/32"))
    return tmp_path


def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    state = tmp_path / "deep" / "state"
    before = os.umask(0)
    try:
        with PeerStore(state) as store, store.changes():
            store.add(peer("a"))
            assert {path.stat().st_mode & 0o777 for path in state.iterdir()} == {0o600}
    finally:
        os.umask(before)
    assert state.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o620])
def test_a_directory_that_is_open_to_others_is_refused(state: Path, mode: int) -> None:
    (state / FILE_NAME).chmod(mode)
    error = complaint(state)
    assert isinstance(error, ConfigError)
    assert str(error).endswith(f"run: chmod 600 {state / FILE_NAME}")


def test_a_directory_of_a_newer_version_is_left_alone(state: Path) -> None:
    with sqlite3.connect(state / FILE_NAME) as database:
        database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    before = (state / FILE_NAME).read_bytes()
    error = complaint(state)
    assert isinstance(error, RuntimeFailure)
    assert f"(format {SCHEMA_VERSION + 1}, this one reads {SCHEMA_VERSION})" in str(error)
    assert "written by a newer fastun" in str(error)
    assert "update fastun" in str(error)
    assert (state / FILE_NAME).read_bytes() == before


@pytest.mark.parametrize(
    "statement",
    [
        "DROP TABLE peer",
        "DELETE FROM fact WHERE name = 'version'; DROP TABLE fact",
        "UPDATE allowed_ip SET prefix = 'x'",
        "UPDATE peer SET endpoints = 'x'",
        "INSERT INTO fact VALUES ('server', '{}')",
        "INSERT INTO fact VALUES ('server', 'x')",
        "INSERT INTO fact VALUES ('public_endpoints', 'x')",
    ],
)
def test_a_directory_that_was_edited_is_one_line(state: Path, statement: str) -> None:
    with sqlite3.connect(state / FILE_NAME) as database:
        database.executescript(statement)
    error = complaint(state)
    assert isinstance(error, RuntimeFailure)
    assert "damaged; restore it from a backup" in str(error)


@pytest.mark.parametrize("start", [0, 100, 4096])
def test_a_damaged_file_is_one_line(state: Path, start: int) -> None:
    path = state / FILE_NAME
    content = path.read_bytes()
    path.write_bytes(content[:start] + b"\xa5" * (len(content) - start))
    error = complaint(state)
    assert isinstance(error, RuntimeFailure)
    assert "damaged; restore it from a backup" in str(error)


def test_a_state_directory_that_cannot_be_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    assert "choose another --state" in str(complaint(tmp_path / "file"))


def test_a_directory_that_cannot_be_written_is_one_line(state: Path) -> None:
    # Root writes wherever it likes, but no user's SQLite opens a directory as its journal.
    journal = state / f"{FILE_NAME}-journal"
    journal.unlink(missing_ok=True)
    journal.mkdir()
    error = complaint(state)
    assert isinstance(error, RuntimeFailure)
    assert "disk I/O error; nothing was changed" in str(error)


def test_a_change_that_hangs_does_not_hang_the_others(
    state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastun.peers.store_database.LOCK_TIMEOUT_S", 0.05)
    with PeerStore(state) as hanging, hanging.changes():
        error = complaint(state)
    assert "locked by another process for too long; try again" in str(error)


def test_a_removed_peers_key_is_not_left_in_the_file(state: Path) -> None:
    secret = os.urandom(32)
    with PeerStore(state) as store:
        store.add(Peer(name="b", public_key=b"b" * 32, preshared_key=secret))
        assert secret in (state / FILE_NAME).read_bytes()
        store.remove("b")
    assert secret not in (state / FILE_NAME).read_bytes()
