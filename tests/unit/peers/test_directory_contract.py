"""What every kind of peer directory does, against a naive model: in SQLite and in PostgreSQL."""

from __future__ import annotations

import contextlib
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.fleet.postgres import PostgresDirectory
from fastun.peers.peer import Peer, check_together, one_host
from fastun.peers.store import PeerStore
from fastun.peers.terms import Quota, RateLimit, Terms

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.peers.directory import PeerDirectory

NETWORK = ip_network("10.9.0.0/24")
Open = Any  # a function without parameters that opens the directory


@pytest.fixture(scope="module", params=["sqlite", "postgres"])
def open_(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Open:
    """What opens one directory, again and again."""
    if request.param == "sqlite":
        state = tmp_path_factory.mktemp("state")
        return lambda: PeerStore(state)
    url = request.getfixturevalue("postgres").peer_directory()
    return lambda: PostgresDirectory(url)


@pytest.fixture
def directory(open_: Open) -> Iterator[PeerDirectory]:
    """An empty one."""
    with open_() as opened:
        empty(opened)
        yield opened


def empty(directory: PeerDirectory) -> None:
    for peer in directory.peers():
        directory.remove(peer.name)


def peer(name: str, *prefixes: str, key: bytes = b"") -> Peer:
    return Peer(
        name=name,
        public_key=(key or name.encode()).ljust(32, b"."),
        allowed_ips=tuple(map(ip_network, prefixes)),
    )


FULL = Peer(
    name="full",
    public_key=b"f" * 32,
    preshared_key=b"p" * 32,
    allowed_ips=(ip_network("10.9.0.7"), ip_network("fd00:9::/64"), ip_network("0.0.0.0/0")),
    endpoints=(Endpoint("udp", "s.example.net", 51820),),
    keepalive_s=25,
    terms=Terms(
        enabled=False,
        expires=2_000_000_000,
        limit=RateLimit(outbound=10**6, burst_bytes=10**4),
        quota=Quota(month_bytes=10**9),
        to=(ip_network("172.16.0.0/16"),),
        note="Ada's",
    ),
)


def test_a_peer_is_read_as_it_was_written(directory: PeerDirectory) -> None:
    directory.add(FULL)
    assert directory.peers() == (FULL,)
    assert directory.named("full") == FULL
    assert directory.named("Full") is None


# -- a model ------------------------------------------------------------------------------------

NAMES = ["a", "b", "B", "c"]
PREFIXES = ["10.9.0.2/32", "10.9.0.3/32", "10.9.0.0/28", "fd00::2/128"]
PEERS = st.builds(
    lambda name, key, prefixes: peer(name, *prefixes, key=key),
    st.sampled_from(NAMES),
    st.sampled_from([b"k1", b"k2", b"k3", b"k4"]),
    st.lists(st.sampled_from(PREFIXES), unique=True, max_size=3),
)
STEPS = st.one_of(
    st.tuples(st.just("add"), PEERS),
    st.tuples(st.just("replace"), st.sampled_from(NAMES), PEERS),
    st.tuples(st.just("remove"), st.sampled_from(NAMES)),
    st.tuples(st.just("fail"), PEERS),
)


def model(known: dict[str, Peer], step: tuple[Any, ...]) -> dict[str, Peer]:
    """Return what is there after a step; ConfigError where it is to be refused."""
    kind, *rest = step
    after = dict(known)
    if kind == "fail":
        return after
    if kind != "add":
        if rest[0] not in after:
            raise ConfigError("unknown")
        del after[rest[0]]
    if kind != "remove":
        check_together([*after.values(), rest[-1]])
        after[rest[-1].name] = rest[-1]
    return after


def take(directory: PeerDirectory, step: tuple[Any, ...]) -> None:
    kind, *rest = step
    if kind == "fail":  # whatever was done inside is undone
        with contextlib.suppress(ConfigError, ZeroDivisionError), directory.changes():
            directory.add(rest[0])
            raise ZeroDivisionError
    else:
        getattr(directory, kind)(*rest)


@settings(
    max_examples=settings().max_examples // 4,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(st.tuples(STEPS, st.booleans()), max_size=8))
def test_steps_have_the_effect_that_a_table_in_memory_would_have(
    open_: Open, directory: PeerDirectory, steps: list[tuple[tuple[Any, ...], bool]]
) -> None:
    empty(directory)
    known: dict[str, Peer] = {}
    seen, followed = directory.version(), dict[str, Peer]()
    with open_() as other:
        for step, is_looked_at in steps:
            version, after = directory.version(), None
            with contextlib.suppress(ConfigError):
                after = model(known, step)
            if after is None:
                with pytest.raises(ConfigError):
                    take(directory, step)
            else:
                take(directory, step)
            is_changed = after is not None and step[0] != "fail"
            known = known if after is None else after
            assert other.peers() == tuple(known[name] for name in sorted(known))
            assert (other.version() > version) is is_changed
            assert other.n_peers() == len(known)
            assert {*other.prefixes()} == {ip for one in known.values() for ip in one.allowed_ips}
            if is_looked_at:  # else several steps are one look
                seen = follow(other, seen, followed)
                assert followed == known


def follow(directory: PeerDirectory, since: int, known: dict[str, Peer]) -> int:
    """Apply to ``known`` what has changed; return the version that it is of now."""
    changes = directory.changes_since(since)
    assert changes is not None
    assert not {peer.name for peer in changes.peers} & {*changes.gone}
    for name in changes.gone:
        known.pop(name, None)
    known |= {peer.name: peer for peer in changes.peers}
    return changes.version


def test_what_has_changed_is_known_so_far_back_and_no_further(directory: PeerDirectory) -> None:
    directory.add(peer("a", "10.9.0.2/32"))
    version = directory.version()
    assert directory.changes_since(version) == (version, (), ())
    directory.add(peer("b"))
    directory.replace("a", peer("c", "10.9.0.3/32"))
    directory.remove("b")
    now = directory.version()
    assert directory.changes_since(version) == (now, (peer("c", "10.9.0.3/32"),), ("a", "b"))
    for unknown in (-1, version - 20_000, now + 1):
        assert directory.changes_since(unknown) is None


def test_of_many_changes_of_one_peer_the_last_is_read(directory: PeerDirectory) -> None:
    directory.add(peer("a", "10.9.0.2/32"))
    version = directory.version()
    with directory.changes():
        for n in range(20):
            directory.replace("a", peer("a", f"10.9.0.{n}/32"))
    changes = directory.changes_since(version)
    assert changes is not None
    assert changes[1:] == ((peer("a", "10.9.0.19/32"),), ())


# -- at once ------------------------------------------------------------------------------------


def test_who_adds_at_once_gets_addresses_of_their_own(
    open_: Open, directory: PeerDirectory
) -> None:
    n_threads, n_each = 4, 6

    def add(number: int) -> None:
        for n in range(n_each):
            with open_() as opened, opened.changes():
                prefix = one_host(opened.next_free_address(NETWORK))
                opened.add(peer(f"{number}-{n}", str(prefix)))

    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(add, range(n_threads)))
    prefixes = [prefix for each in directory.peers() for prefix in each.allowed_ips]
    assert len({*prefixes}) == len(prefixes) == n_threads * n_each


def test_what_is_not_finished_is_seen_by_no_other(open_: Open, directory: PeerDirectory) -> None:
    directory.add(peer("a"))
    with open_() as writer, writer.changes():
        writer.add(peer("b"))
        assert [each.name for each in directory.peers()] == ["a"]
    assert [each.name for each in directory.peers()] == ["a", "b"]


def test_facts_are_what_was_last_said(directory: PeerDirectory) -> None:
    endpoints = (Endpoint("udp", "a.example.net", 51820), Endpoint("tcp", "b.example.net", 443))
    directory.remember_public_endpoints(endpoints)
    directory.remember_server_key(b"k" * 32)
    directory.remember_server_key(b"l" * 32)
    assert directory.public_endpoints() == endpoints
    assert directory.server_key() == b"l" * 32


def test_an_error_inside_a_step_is_the_callers(directory: PeerDirectory) -> None:
    def fail() -> None:
        with directory.changes():
            directory.add(peer("a"))
            raise ValueError("the caller's")

    with pytest.raises(ValueError, match="the caller's"):
        fail()
    assert directory.peers() == ()


def test_the_lowest_free_address_is_found(directory: PeerDirectory) -> None:
    directory.add(peer("a", "10.9.0.1/32", "10.9.0.2/31"))
    assert directory.next_free_address(NETWORK) == ip_interface("10.9.0.4/24")
