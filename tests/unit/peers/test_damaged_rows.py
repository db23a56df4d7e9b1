"""A key in the wrong column of the peer directory is shown nowhere."""

from __future__ import annotations

import sqlite3
import traceback
from typing import TYPE_CHECKING

import pytest

from fastun.errors import RuntimeFailure
from fastun.peers.peer import Peer
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session import keys

if TYPE_CHECKING:
    from pathlib import Path

KEY = keys.format_key(bytes([0xFB, *range(31)]))


@pytest.mark.parametrize(
    ("change", "value"),
    [
        ("UPDATE peer SET name = ?", KEY),
        ("UPDATE peer SET endpoints = ?", KEY),
        ("UPDATE peer SET endpoints = ?", f"udp://{KEY}:1"),
        ("UPDATE allowed_ip SET prefix = ?", KEY),
        ("UPDATE allowed_ip SET prefix = ?", f"{KEY}/24"),
        ("INSERT INTO fact VALUES ('server', ?)", KEY),
    ],
)
def test_a_key_in_the_wrong_column_is_not_shown(tmp_path: Path, change: str, value: str) -> None:
    ant = Peer(name="ant", public_key=bytes(range(32)))
    with PeerStore(tmp_path) as directory:
        directory.add(ant)
    database = sqlite3.connect(tmp_path / FILE_NAME)
    database.execute("INSERT INTO allowed_ip VALUES ('10.9.0.2/32', 'ant', 0)")
    database.execute(change, (value,))
    database.commit()
    database.close()
    with PeerStore(tmp_path) as store, pytest.raises(RuntimeFailure, match="damaged") as caught:
        (store.peers(), store.server())
    shown = "".join(traceback.format_exception(caught.value))
    assert not any(KEY[n : n + 6] in shown for n in range(len(KEY) - 6))
