"""The copy that a gateway serves from: what is taken of rows that anything may have written."""

from __future__ import annotations

import json
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

import pytest

from fastun.errors import RuntimeFailure
from fastun.fleet import copied
from fastun.fleet.copied import Copied, sound
from fastun.peers.peer import Peer
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
    found = sound([row("0", "10.9.0.8/32"), bad, row("z", "10.9.0.9/32")], SERVER)
    assert [*found.peers] == ["0", "z"]
    ((_, said),) = found.left_out.items()
    assert why in said


def test_of_two_that_share_a_prefix_the_first_is_in() -> None:
    found = sound([row("a", "10.9.0.8/32"), row("b", "10.9.0.8/32"), row("c")], SERVER)
    assert [*found.peers] == ["a", "c"]
    assert "'a' and 'b' both have 10.9.0.8/32" in found.left_out["b"]


def test_the_copy_has_what_the_rows_say_and_changes_only_then(store: PeerStore) -> None:
    copy = Copied(store)
    rows = [row("a", "10.9.0.8/32"), row("b", "10.9.0.9/32")]
    assert copy.take(rows) == (True, {})
    version = store.version()
    assert copy.take(rows) == (False, {})
    assert store.version() == version
    # The two change places: neither is in the other's way while it is written.
    assert copy.take([row("a", "10.9.0.9/32"), row("b", "10.9.0.8/32")]) == (True, {})
    assert [str(*peer.allowed_ips) for peer in store.peers()] == ["10.9.0.9/32", "10.9.0.8/32"]
    assert copy.take([row("c", "10.9.0.9/32")]) == (True, {})
    assert [peer.name for peer in store.peers()] == ["c"]
    assert Copied(store).take([row("c", "10.9.0.9/32")]) == (False, {})


def test_too_many_rows_change_nothing(store: PeerStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(copied, "ROWS_MAX", 2)
    copy = Copied(store)
    copy.take([row("a")])
    with pytest.raises(RuntimeFailure, match="3 rows of peers are too many"):
        copy.take([row("a"), row("b"), row("c")])
    assert [peer.name for peer in store.peers()] == ["a"]
