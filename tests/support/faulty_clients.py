"""One server, and clients that cannot connect to it, each for a reason of its own.

                        10.0.0.1, 10.0.1.1, ...
client N 10.0.N.2 ==veth== server (fastun serve, udp 51820 and tcp 55555)

All are started together, so that what they wait for passes at the same time. One client has several
peers, each with a fault in its way: their names are those of the faults.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from fastun.lab.host import wait_until
from fastun.lab.tunnel import (
    PORT,
    SERVER_ADDRESSES,
    UDP_PORT,
    GatewayProcess,
    Transport,
    add_peer,
    endpoints,
    start_gateway,
)
from fastun.session import keys, noise, tai64n
from tests.support.hasty_client import framed

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

HOUR_S = 3600

DROPPED, REJECTED, PROHIBITED, BLOCKED, CLOSED = 1001, 1002, 1003, 1004, 1005  # UDP ports


@dataclass
class Faulty:
    """The server, and each client by its name."""

    lab: Lab
    directory: Path
    server: GatewayProcess
    clients: dict[str, GatewayProcess] = field(default_factory=dict)

    @classmethod
    def begin(cls, lab: Lab, directory: Path) -> Faulty:
        """Start the server."""
        host = lab.host("server")
        listen = ("--listen", f"udp://0.0.0.0:{UDP_PORT}", "--listen", f"tcp://0.0.0.0:{PORT}")
        host.run("nft", "add", "table", "inet", "firewall")
        hook = "{ type filter hook input priority 0; }"
        host.run("nft", "add", "chain", "inet", "firewall", "input", hook)
        rule = ("nft", "add", "rule", "inet", "firewall", "input", "udp", "dport")
        host.run(*rule, str(DROPPED), "drop")
        host.run(*rule, str(REJECTED), "reject")
        host.run(*rule, str(PROHIBITED), "reject", "with", "icmp", "type", "admin-prohibited")
        server = start_gateway(
            host, directory, "serve", *listen, wire="wireguard", addresses=SERVER_ADDRESSES
        )
        return cls(lab, directory, server)

    def host(self, name: str) -> tuple[Host, str]:
        """Return a new host, wired to the server, and the server's address there."""
        n = len(self.lab.hosts) - 1
        host = self.lab.host(name)
        self.lab.wire(self.server.host, host, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
        return host, f"10.0.{n}.1"

    def file_of(self, name: str, address: str, transport: Transport = "udp") -> str:
        """Add a client to the server; return the text of its file."""
        return add_peer(self.server, name, address, transport).read_text(encoding="utf-8")

    def start(self, host: Host, text: str) -> GatewayProcess:
        """Start a client with a file."""
        file = self.directory / f"{host.name}.toml"
        file.touch(0o600)
        file.write_text(text, encoding="utf-8")
        client = start_gateway(host, self.directory, "connect", str(file), wire="wireguard")
        self.clients[host.name] = client
        return client

    def replay_of_tomorrow(
        self, host: Host, address: str, text: str, transport: Transport = "udp"
    ) -> None:
        """Send a client's initiation of in an hour, as its clock was before it was set back."""
        own = keys.pair_of(keys.parse_key(_value(text, "private_key"), "private_key"))
        server = keys.parse_public(_value(text, "public_key"), "public_key")
        then = tai64n.from_unix_ns(time.time_ns() + HOUR_S * 10**9)
        initiation, _ = noise.initiate(own, server, timestamp=then)
        is_udp = transport == "udp"
        kind, port = (socket.SOCK_DGRAM, UDP_PORT) if is_udp else (socket.SOCK_STREAM, PORT)
        with host.socket(kind=kind) as sender:
            sender.settimeout(5)
            sender.connect((address, port))
            sender.sendall(initiation if is_udp else framed(initiation))
            sender.recv(200)


def _value(text: str, field_name: str) -> str:
    found = re.search(rf'^{field_name} = "(.*)"$', text, re.MULTILINE)
    assert found is not None, field_name
    return found[1]


def with_other_key(text: str, field_name: str) -> str:
    """Return a file with another key in a field."""
    return text.replace(_value(text, field_name), keys.format_key(keys.generate_private()))


def with_endpoint(text: str, *urls: str) -> str:
    """Return a file that dials something else."""
    said = ", ".join(f'"{url}"' for url in urls)
    return re.sub(r"^endpoints = .*$", f"endpoints = [{said}]", text, flags=re.MULTILINE)


def more_peers(urls: dict[str, str]) -> str:
    """Return more [[peer]] tables, by name and what is dialled; no one has their keys."""
    return "".join(
        f'\n[[peer]]\nname = "{name}"\npublic_key = "{_a_public_key()}"\n'
        f'allowed_ips = ["10.200.{n}.0/24"]\nendpoint = "{url}"\n'
        for n, (name, url) in enumerate(urls.items())
    )


def _a_public_key() -> str:
    return keys.format_key(keys.public_of(keys.generate_private()))


# -- what a gateway says ------------------------------------------------------------------------


def lines(gateway: GatewayProcess, *words: str) -> list[str]:
    """Return the lines of its log that have all words."""
    said = gateway.log_file.read_text(encoding="utf-8").splitlines()
    return [line for line in said if all(word in line for word in words)]


def wait_for_line(gateway: GatewayProcess, *words: str, timeout_s: float = 20.0) -> str:
    """Return the first line of its log that has all words, once there is one."""
    wait_until(
        lambda: bool(lines(gateway, *words)),
        f"a line with {words} in the log of {gateway.host.name}",
        timeout_s=timeout_s,
        interval_s=0.1,
    )
    return lines(gateway, *words)[0]


def status(gateway: GatewayProcess, *arguments: str) -> str:
    """Return what `fastun status` prints."""
    home = str(gateway.log_file.parent)
    command = (sys.executable, "-m", "fastun", "status", "--run-dir", home, *arguments)
    return gateway.host.run(*command).stdout


def last_error(gateway: GatewayProcess, peer: str) -> Any:
    """Return the last error of a peer as `fastun status --json` has it."""
    (found,) = (
        each for each in json.loads(status(gateway, "--json"))["peers"] if each["name"] == peer
    )
    return found["last_error"]


__all__ = ["Faulty", "endpoints"]
