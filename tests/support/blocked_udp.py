"""A firewall at the server that lets none of the tunnel's datagrams through, and its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastun.lab.tunnel import UDP_PORT

if TYPE_CHECKING:
    from fastun.lab.host import Host


def block_udp(server: Host) -> None:
    server.run("nft", "add", "table", "inet", "firewall")
    for hook, where in (("input", "dport"), ("output", "sport")):
        chain = f"{{ type filter hook {hook} priority 0; }}"
        server.run("nft", "add", "chain", "inet", "firewall", hook, chain)
        server.run(
            *("nft", "add", "rule", "inet", "firewall", hook),
            *("udp", where, str(UDP_PORT), "drop"),
        )


def unblock_udp(server: Host) -> None:
    """Let them through again."""
    server.run("nft", "delete", "table", "inet", "firewall")
