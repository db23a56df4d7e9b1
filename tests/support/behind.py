"""A server behind the gateways of a fleet, and connections to it that have to outlive these.

client ft0 ===== gw1, gw2 or gw3 ----- behind 172.16.99.1

Its routes to clients follow the kernel routes of the gateways (protocol 157), as a routing daemon
would have them followed.
"""

from __future__ import annotations

import contextlib
import dataclasses
import socket
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from tests.support.fleet import FleetScene

SERVER = "172.16.99.1"
_PORT = 7000
_MESSAGE = 1024
_EVERY_S = 0.02
_PATIENCE_S = 30.0


class Behind:
    """The host, wired to every gateway."""

    def __init__(self, fleet: FleetScene) -> None:
        """Wire it; the gateways push a route to it."""
        self.host = fleet.lab.host("behind")
        self._gateways = fleet.hosts
        self.host.ip("address", "add", f"{SERVER}/32", "dev", "lo")
        self.host.sysctl("net.ipv4.conf.all.rp_filter", 0)
        for number, gateway in enumerate(fleet.hosts, 1):
            fleet.lab.wire(gateway, self.host, [f"172.16.{number}.1/24"], [f"172.16.{number}.2/24"])
            gateway.sysctl("net.ipv4.ip_forward", 1)
            gateway.ip("route", "add", f"{SERVER}/32", "via", f"172.16.{number}.2")
            with (fleet.directory / f"{gateway.name}.toml").open("a") as config:
                config.write(f'[push]\nroutes = ["{SERVER}/32"]\n')

    @contextlib.contextmanager
    def following(self) -> Iterator[None]:
        """Have the routes to clients follow those of the gateways."""
        ends = threading.Event()
        follower = threading.Thread(target=self._follow, args=(ends,))
        follower.start()
        try:
            yield
        finally:
            ends.set()
            follower.join()

    def _follow(self, ends: threading.Event) -> None:
        before: dict[int, set[str]] = {}
        while not ends.wait(0.05):
            for number, gateway in enumerate(self._gateways, 1):
                shown = gateway.run("ip", "-4", "route", "show", "proto", "157", check=False).stdout
                now = {line.split()[0] for line in shown.splitlines() if "metric 10 " in line + " "}
                for network in now - before.get(number, set()):
                    self.host.ip("route", "replace", network, "via", f"172.16.{number}.1")
                before[number] = now


@dataclasses.dataclass
class Conversation:
    """Messages there and back on one connection."""

    n_answered: int = 0
    longest_s: float = 0.0  # without an answer
    failure: BaseException | None = None


def _serve(listener: socket.socket) -> None:
    def echo(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while received := connection.recv(1 << 16):
                connection.sendall(received)

    with contextlib.suppress(OSError):
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=echo, args=(connection,), daemon=True).start()


def _talk(connection: socket.socket, said: Conversation, ends: threading.Event) -> None:
    last_s = time.monotonic()
    try:
        number = 0
        while not ends.is_set():
            message = number.to_bytes(8, "big") * (_MESSAGE // 8)
            connection.sendall(message)
            answer = b""
            while len(answer) < _MESSAGE:
                part = connection.recv(_MESSAGE - len(answer))
                assert part, "the connection was closed"
                answer += part
            assert answer == message
            now_s = time.monotonic()
            said.longest_s = max(said.longest_s, now_s - last_s)
            last_s = now_s
            said.n_answered += 1
            number += 1
            time.sleep(_EVERY_S)
    except (OSError, AssertionError) as error:
        said.failure = error
    finally:
        connection.close()


@contextlib.contextmanager
def conversations(client: Host, behind: Behind, n: int) -> Iterator[list[Conversation]]:
    """Hold ``n`` connections from a client to the server, for as long as the context lasts."""
    ends = threading.Event()
    said = [Conversation() for _ in range(n)]
    with behind.host.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((SERVER, _PORT))
        listener.listen(n)
        threading.Thread(target=_serve, args=(listener,), daemon=True).start()
        talkers = []
        for each in said:
            connection = client.socket()
            connection.settimeout(_PATIENCE_S)
            connection.connect((SERVER, _PORT))
            talker = threading.Thread(target=_talk, args=(connection, each, ends))
            talker.start()
            talkers.append(talker)
        try:
            yield said
        finally:
            ends.set()
            for talker in talkers:
                talker.join()
            listener.shutdown(socket.SHUT_RDWR)
