"""The copy that a gateway serves from: what is taken of rows that anything may have written."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fastun.fleet.copied import Apart, Copied
from fastun.fleet.sound import sound
from fastun.peers.peer import Peer
from fastun.peers.rows import by_name
from fastun.peers.store import PeerStore
from tests.support import fleet_server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SERVER = replace(
    fleet_server.SERVER,
    peers=(Peer(name="filed", public_key=b"f" * 32, allowed_ips=(ip_network("10.9.0.2"),)),),
)

TO_65 = json.dumps({"to": [f"10.{n}.0.0/16" for n in range(65)]})


def row(name: str, prefix: str | None = None, **changed: Any) -> Any:
    fields = {
        "public_key": name.encode().ljust(32, b"."),
        "preshared_key": None,
        "endpoints": "",
        "keepalive_s": 0,
        "terms": "{}",
    }
    return (name, *(fields | changed).values(), prefix)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[PeerStore]:
    with PeerStore(tmp_path) as opened:
        opened.remember_server(SERVER)
        yield opened


@pytest.mark.parametrize(
    ("bad", "why"),
    [
        (row("a", public_key=b"short"), "32 bytes"),
        (row("a", public_key=bytes(32)), "public key is zero"),
        (row("a", preshared_key=b"short"), "32 bytes"),
        (row("a", "10.9.0.5/24"), "cannot be read"),
        (row("a", "x"), "cannot be read"),
        (row("a", "10.9.0.1/32"), "our own address"),
        (row("a", "10.9.0.2/32"), "'filed' and 'a' both have 10.9.0.2/32"),
        (row("a", public_key=b"f" * 32), "the same public key"),
        (row("filed"), "two peers are named 'filed'"),
        (row("a", endpoints="tcp://h:1"), "serve only accepts TCP"),
        (row("a", endpoints="x"), "cannot be read"),
        (row("a", keepalive_s=-1), "keepalive"),
        (row("a", keepalive_s=None), "cannot be read"),
        (row("a", terms="["), "cannot be read"),
        (row("a", terms='{"inbound": 0}'), "limit"),
        (row("a", terms='{"quota": -1}'), "quota"),
        (row("a", terms=TO_65), "65"),
        (row("a b"), "cannot be read"),
    ],
)
def test_a_row_that_breaks_a_rule_costs_no_other_peer_anything(bad: Any, why: str) -> None:
    found = sound(by_name([row("0", "10.9.0.8/32"), bad, row("z", "10.9.0.9/32")]), SERVER)
    assert [*found.peers] == ["0", "z"]
    ((_, said),) = found.left_out.items()
    assert why in said


def test_of_two_that_share_a_prefix_the_first_is_in() -> None:
    found = sound(by_name([row("a", "10.9.0.8/32"), row("b", "10.9.0.8/32"), row("c")]), SERVER)
    assert [*found.peers] == ["a", "c"]
    assert "'a' and 'b' both have 10.9.0.8/32" in found.left_out["b"]


def test_the_copy_has_what_the_rows_say_and_changes_only_then(store: PeerStore) -> None:
    copy = Copied(store)
    rows = by_name([row("a", "10.9.0.8/32"), row("b", "10.9.0.9/32")])
    assert copy.take_everything(rows, SERVER)
    version = store.version()
    assert not copy.take_everything(rows, SERVER)
    assert not copy.take(rows)
    assert not copy.take_part(rows, "", None)
    assert store.version() == version
    # The two change places: neither is in the other's way while it is written.
    assert copy.take(by_name([row("a", "10.9.0.9/32"), row("b", "10.9.0.8/32")]))
    assert [str(*peer.allowed_ips) for peer in store.peers()] == ["10.9.0.9/32", "10.9.0.8/32"]
    assert copy.take({"a": [], "b": [], "c": [row("c", "10.9.0.9/32")]})
    assert [peer.name for peer in store.peers()] == ["c"]
    assert not Copied(store).take_everything(by_name([row("c", "10.9.0.9/32")]), SERVER)


def test_what_is_written_in_another_way_but_says_the_same_changes_nothing(store: PeerStore) -> None:
    copy = Copied(store)
    assert copy.take(by_name([row("a", terms='{"note": "x"}')]))
    assert not copy.take(by_name([row("a", terms='{ "note":"x", "to":[] }')]))


def test_what_the_gateway_has_become_is_kept_free_of_its_peers(store: PeerStore) -> None:
    copy = Copied(store)
    rows = by_name([row("a", "10.9.0.8/32"), row("b", "10.9.0.9/32")])
    copy.take_everything(rows, SERVER)
    moved = replace(SERVER, addresses=(ip_interface("10.9.0.8/24"),))
    assert copy.take_everything(rows, moved)
    assert [peer.name for peer in store.peers()] == ["b"]
    assert [*copy.left_out] == ["a"]
    assert copy.take_everything(rows, SERVER)
    assert [peer.name for peer in store.peers()] == ["a", "b"]
    assert copy.left_out == {}


# -- against the naive way, which reads all -----------------------------------------------------

NAMES = ["a", "b", "c", "filed", "b d"]
PREFIXES = ["10.9.0.1/32", "10.9.0.2/32", "10.9.0.3/32", "10.9.0.4/32", "10.9.0.5/24"]
ROWS = st.builds(
    lambda key, prefixes, terms: (key, prefixes, terms),
    st.sampled_from([b"k" * 32, b"l" * 32, b"f" * 32, b"short"]),
    st.lists(st.sampled_from(PREFIXES), unique=True, max_size=2),
    st.sampled_from(["{}", "{}", "{}", "["]),
)
CHANGES = st.dictionaries(st.sampled_from(NAMES), st.one_of(st.none(), ROWS), max_size=3)
STEPS = st.tuples(CHANGES, st.sampled_from(["rows", "part", "everything"]))


def rows_for(name: str, what: Any) -> list[Any]:
    if what is None:
        return []
    key, prefixes, terms = what
    return [row(name, prefix, public_key=key, terms=terms) for prefix in prefixes] or [
        row(name, public_key=key, terms=terms)
    ]


@settings(
    max_examples=2 * settings().max_examples,
    suppress_health_check=[*settings().suppress_health_check, HealthCheck.function_scoped_fixture],
)
@given(steps=st.lists(STEPS, min_size=1, max_size=8))
def test_rows_and_parts_lead_to_what_a_look_at_all_leads_to(
    store: PeerStore, steps: list[tuple[dict[str, Any], str]]
) -> None:
    store.copy([], [peer.name for peer in store.peers()])
    copy, directory = Copied(store), dict[str, list[Any]]()
    copy.take_everything({}, SERVER)
    for changes, way in steps:
        rows = {name: rows_for(name, what) for name, what in changes.items()}
        directory = {n: r for n, r in sorted((directory | rows).items()) if r}
        version, before = store.version(), store.peers()
        try:
            if way == "rows":
                is_changed = copy.take(rows)
            elif way == "part":
                first = {name: of_name for name, of_name in directory.items() if name <= "b"}
                rest = {name: of_name for name, of_name in directory.items() if name > "b"}
                is_changed = copy.take_part(first, "", "b")
                is_changed |= copy.take_part(rest, "b", None)
            else:
                is_changed = copy.take_everything(directory, SERVER)
        except Apart:
            is_changed = copy.take_everything(directory, SERVER) or store.version() > version
        naive = sound(directory, SERVER)
        assert {peer.name: peer for peer in store.peers()} == naive.peers
        assert copy.left_out.keys() == naive.left_out.keys()
        assert copy.n_peers == len(naive.peers)
        assert is_changed is (store.version() > version)
        assert is_changed or before == store.peers()
