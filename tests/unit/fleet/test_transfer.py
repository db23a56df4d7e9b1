"""Peers as lines of JSON, from one directory to another."""

from __future__ import annotations

import base64
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.endpoint import Endpoint
from fastun.errors import ConfigError
from fastun.fleet import transfer
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.peers.terms import Quota, RateLimit, Terms

if TYPE_CHECKING:
    from pathlib import Path

KEY = base64.b64encode(b"k" * 32).decode()
HEAD = '{"fastun_peers":1}'
PEERS = [
    Peer(name="bare", public_key=b"b" * 32),
    Peer(
        name="full",
        public_key=b"f" * 32,
        preshared_key=b"p" * 32,
        allowed_ips=(ip_network("10.9.0.7"), ip_network("fd00:9::/64")),
        endpoints=(Endpoint("udp", "s.example.net", 51820),),
        keepalive_s=25,
        terms=Terms(limit=RateLimit(inbound=9), quota=Quota(month_bytes=1), note="Ada's"),
    ),
]


def test_what_is_written_is_read_as_it_was() -> None:
    text = "".join(transfer.written(PEERS))
    assert transfer.read(text.encode(), "stdin") == PEERS
    assert text.count("\n") == 3


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "not a list of peers"),
        ("{}", "not a list of peers"),
        ('{"fastun_peers":2}', "not a list of peers"),
        (f"{HEAD}\n{{}}", "line 2: not a peer"),
        (f'{HEAD}\n\n{{"name":"a","public_key":"x"}}', "line 3: not a peer"),
        (f'{HEAD}\n{{"name":"a","public_key":"{KEY}","more":1}}', "line 2: not a peer"),
        (f'{HEAD}\n{{"name":"-a","public_key":"{KEY}"}}', "line 2: name"),
        (
            f'{HEAD}\n{{"name":"a","public_key":"{KEY}","allowed_ips":["10.9.0.1/24"]}}',
            "peer 'a': its row cannot be read",
        ),
        (
            f'{HEAD}\n{{"name":"a","public_key":"{KEY}","endpoints":["tcp://h:1"]}}',
            "serve only accepts TCP",
        ),
        (f'{HEAD}\n{{"name":"a","public_key":"{KEY}","keepalive":70000}}', "keepalive"),
        (f'{HEAD}\n{{"name":"a","public_key":"{KEY}","terms":{{"outbound":-1}}}}', "limit"),
    ],
)
def test_a_line_without_a_valid_peer_is_named_without_its_key(text: str, complaint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        transfer.read(text.encode(), "stdin")
    assert complaint in str(caught.value)
    assert KEY not in str(caught.value)


def test_all_are_added_or_none(tmp_path: Path) -> None:
    with PeerStore(tmp_path) as store:
        store.add(PEERS[0])
        assert transfer.add_all(store, PEERS) == (1, 1)
        assert store.peers() == tuple(PEERS)
        more = [Peer(name="c", public_key=b"c" * 32), Peer(name="bare", public_key=b"x" * 32)]
        with pytest.raises(ConfigError, match="'bare' is there already, and differs"):
            transfer.add_all(store, more)
        sharing = [Peer(name="c", public_key=b"c" * 32), Peer(name="d", public_key=b"f" * 32)]
        with pytest.raises(ConfigError, match="the same public key"):
            transfer.add_all(store, sharing)
        assert store.peers() == tuple(PEERS)
