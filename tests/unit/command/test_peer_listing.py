"""The table of peers in terminals of all widths."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from fastun.command.peer_listing import Listed, print_table
from fastun.peers.peer import Peer

LAPTOP = Peer(
    name="laptop",
    public_key=b"l" * 32,
    allowed_ips=(ip_network("10.9.0.2/32"), ip_network("2001:db8:1234:5678::/64")),
)


@pytest.mark.parametrize("columns", [1, 20, 40, 71])
def test_a_narrow_terminal_loses_nothing(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tables = []
    for each in (72, columns):
        monkeypatch.setenv("COLUMNS", str(each))
        print_table([Listed(peer=LAPTOP, source="directory")])
        tables.append(capsys.readouterr().out)

    assert tables[0] == tables[1]
    for expected in (LAPTOP.name, *map(str, LAPTOP.allowed_ips)):
        assert expected in tables[1]
