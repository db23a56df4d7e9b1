"""A server whose file changes while it runs, and clients: one on UDP and one on TCP, or others.

udp host 10.1.0.2 ==veth== 10.1.0.1 server 10.2.0.1 ==veth== 10.2.0.2 tcp host
ft0 10.99.0.2 ..........tunnel.... 10.99.0.1 ....tunnel......... ft0 10.99.0.3
"""

from __future__ import annotations

import contextlib
import re
import signal
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, INTERFACE, GatewayProcess, start_gateway
from fastun.session import keys
from fastun.status import control

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from fastun.endpoint import Scheme
    from fastun.lab.network import Lab

SERVER_INNER = "10.99.0.1"


class Client(NamedTuple):
    """One that is started: by which transport, with which arguments."""

    transport: Scheme
    arguments: tuple[str, ...] = ()


CLIENTS: Mapping[str, Client] = {"udp": Client("udp"), "tcp": Client("tcp")}


@dataclass
class Reloading:
    """The hosts, the gateways, and the server's file as it is at the moment."""

    directory: Path
    server: GatewayProcess
    clients: Mapping[str, GatewayProcess]
    sections: dict[str, str]
    peers: dict[str, tuple[str, tuple[str, ...]]]  # by name: public key, allowed IPs

    def __post_init__(self) -> None:
        """Remember how it begins."""
        self.sections_before = dict(self.sections)
        self.peers_before = dict(self.peers)

    @property
    def file(self) -> Path:
        """The server's."""
        return self.directory / "gateway.toml"

    def write(self, more: str = "") -> None:
        """Write the file of sections and peers, and of what is ``more``."""
        write(self.file, self.sections, self.peers, more)

    def command(self) -> subprocess.CompletedProcess[str]:
        """Run ``fastun reload`` on the server."""
        run_dir = str(self.server.log_file.parent)
        return self.server.host.run(*FASTUN, "reload", "--run-dir", run_dir, check=False)

    def reload(self, gateway: GatewayProcess | None = None) -> control.Reloaded:
        """Reload what changed in the file of a gateway. Raises as control.reload."""
        run_dir = (gateway or self.server).log_file.parent
        return control.reload(control.socket_path(run_dir, INTERFACE))

    def base(self) -> None:
        """Have the server as it began."""
        self.sections = dict(self.sections_before)
        self.peers = dict(self.peers_before)
        self.write()
        self.reload()

    def rewrite_client(self, name: str, old: str, new: str) -> GatewayProcess:
        """Change a client's file; return the client."""
        file = self.directory / f"{name}.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        return self.clients[name]

    @contextlib.contextmanager
    def losing_nothing(self, interval_s: float = 0.005) -> Iterator[None]:
        """Have all clients ping the server meanwhile; each ping is answered, in one session."""
        established = self.established()
        pings = []
        for client in self.clients.values():
            with client.log_file.with_suffix(".ping").open("wb") as log:
                command = ("ping", "-q", "-i", str(interval_s), "-W", "2", SERVER_INNER)
                pings.append(client.host.spawn(*command, stdout=log))
        try:
            yield
            time.sleep(0.2)
        finally:
            for ping in pings:
                ping.send_signal(signal.SIGINT)
                ping.wait(5)
        lost = {}
        for name, client in self.clients.items():
            text = client.log_file.with_suffix(".ping").read_text()
            counts = re.search(r"(\d+) packets transmitted, (\d+) received", text)
            assert counts, text
            assert int(counts[1]) > 0
            lost[name] = int(counts[1]) - int(counts[2])
        assert max(lost.values()) <= 1, lost  # the last one may be under way
        assert self.established() == established

    def established(self) -> int:
        """Return how many links the server has had: one for each session's life."""
        path = control.socket_path(self.server.log_file.parent, INTERFACE)
        return control.request(path, "status").links.established


def write(
    file: Path,
    sections: Mapping[str, str],
    peers: Mapping[str, tuple[str, tuple[str, ...]]],
    more: str = "",
) -> None:
    """Write a server's file."""
    text = "".join(f"[{name}]\n{lines}\n" for name, lines in sections.items())
    for name, (key, allowed_ips) in peers.items():
        listed = ", ".join(f'"{each}"' for each in allowed_ips)
        text += f'[[peer]]\nname = "{name}"\npublic_key = "{key}"\nallowed_ips = [{listed}]\n'
    file.write_text(text + more)


def inner_of(number: int) -> str:
    """Return the inner address of a client, from 0."""
    return f"10.99.0.{2 + number}"


def start(
    lab: Lab,
    directory: Path,
    clients: Mapping[str, Client] = CLIENTS,
    server_arguments: tuple[str, ...] = (),
    program: Sequence[str] = (),
) -> Reloading:
    """Start all, and wait until the clients reach the server; of fastun as ``program`` is it."""
    server_host = lab.host("server")
    hosts = {name: lab.host(f"{name}client") for name in clients}
    for number, host in enumerate(hosts.values(), 1):
        lab.wire(server_host, host, [f"10.{number}.0.1/24"], [f"10.{number}.0.2/24"])
    own = keys.pair_of(keys.generate_private())
    pairs = {name: keys.pair_of(keys.generate_private()) for name in clients}
    peers = {
        name: (keys.format_key(pair.public), (f"{inner_of(n)}/32",))
        for n, (name, pair) in enumerate(pairs.items())
    }
    private = directory / "server.key"
    private.touch(0o600)
    private.write_text(keys.format_key(own.private))
    sections = {
        "interface": f'private_key_file = "{private}"\naddress = ["{SERVER_INNER}/24"]\n'
        'table = "auto"',
        "push": 'routes = ["172.16.9.0/24"]',
    }
    (directory / "gateway.toml").touch(0o600)  # it may hold a pre-shared key
    write(directory / "gateway.toml", sections, peers)
    server = start_gateway(
        server_host,
        directory,
        "serve",
        *("-c", str(directory / "gateway.toml"), *server_arguments),
        wire="wireguard",
        program=program,
    )
    wait_until(lambda: server_host.listens(55555), "the server listens", timeout_s=15)
    started = {}
    for n, (name, client) in enumerate(clients.items()):
        port = {"udp": 51820, "tcp": 55555}[client.transport]
        file = directory / f"{name}.toml"
        file.touch(0o600)
        file.write_text(
            f'[interface]\nprivate_key = "{keys.format_key(pairs[name].private)}"\n'
            f'address = ["{inner_of(n)}/24"]\n'
            f'[[peer]]\nname = "server"\npublic_key = "{keys.format_key(own.public)}"\n'
            f'endpoint = "{client.transport}://10.{n + 1}.0.1:{port}"\n'
            'allowed_ips = ["10.99.0.0/24", "172.16.0.0/12"]\n'
        )
        started[name] = start_gateway(
            hosts[name],
            directory,
            *("connect", str(file), *client.arguments),
            wire="wireguard",
            program=program,
        )
    for name, host in hosts.items():
        wait_until(lambda host=host: answers_ping(host, SERVER_INNER), name, timeout_s=20)  # type: ignore[misc]
    return Reloading(directory, server, started, sections, peers)
