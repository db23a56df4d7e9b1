"""The previous release on one end, this one on the other; and this one in its place.

server                                      client
to-client 10.0.0.1          ===veth===      to-server 10.0.0.2
ft0       10.99.0.1, fd99::1 ...tunnel...   ft0       10.99.0.2, fd99::2
"""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import (
    CLIENT_ADDRESSES,
    FASTUN,
    SERVER_ADDRESSES,
    GatewayProcess,
    endpoints,
    start_gateway,
)
from tests.support import previous_release
from tests.support.accounting import assert_adds_up
from tests.support.compressed_time import gateway_with
from tests.support.host_state import differences, host_state
from tests.support.previous_release import is_of, program
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import Transport

SERVER_OUTER = "10.0.0.1"
SERVER_INNER, CLIENT_INNER = "10.99.0.1", "10.99.0.2"
N_REKEYS = 5
# Keys change in a sixth of a second in place of two minutes.
COMPRESSED = gateway_with(
    rekey_after_time_s=0.15, reject_after_time_s=30.0, rekey_timeout_s=0.1, jitter_s=0.01
)


@pytest.fixture(scope="module")
def python() -> Path:
    previous_release.skip_where_missing()
    return previous_release.built()


class Ends:
    """A server and a client, each of which may be of either release."""

    def __init__(self, lab: Lab, directory: Path, python: Path) -> None:
        self.server, self.client = lab.host("server"), lab.host("client")
        lab.wire(self.server, self.client, [f"{SERVER_OUTER}/24"], ["10.0.0.2/24"])
        self.gateways: list[GatewayProcess] = []
        self._directory = directory
        self._python = python

    def serve(self, *arguments: str, is_old: bool, transport: Transport) -> GatewayProcess:
        listen = [word for url in endpoints(SERVER_OUTER, transport) for word in ("--listen", url)]
        return self._start(
            self.server, "serve", *listen, *arguments, addresses=SERVER_ADDRESSES, is_old=is_old
        )

    def connect(self, file: Path, *, is_old: bool) -> GatewayProcess:
        return self._start(
            self.client, "connect", str(file), addresses=CLIENT_ADDRESSES, is_old=is_old
        )

    def peer(self, *arguments: str, is_old: bool) -> str:
        """Run `fastun peer` on the server; return what it prints."""
        home = self._directory / self.server.name
        wait_until((home / "peers.sqlite").exists, "the peer directory", timeout_s=20)
        peer = self._program(FASTUN, is_old=is_old)
        return self.server.run(*peer, "peer", *arguments, "--state", str(home)).stdout

    def add(self, name: str, transport: Transport, *, is_old: bool) -> Path:
        urls = endpoints(SERVER_OUTER, transport)
        named = [word for url in urls for word in ("--endpoint", url)]
        file = self._directory / f"{name}.toml"
        file.touch(mode=0o600)
        file.write_text(self.peer("add", name, *named, is_old=is_old))
        return file

    def key(self, *, is_old: bool) -> str:
        """Return the server's public key, as the command says it."""
        home = self._directory / self.server.name
        command = (*self._program(FASTUN, is_old=is_old), "key", "--state", str(home))
        return self.server.run(*command).stdout

    def wait_up(self) -> None:
        def answers() -> bool:
            for gateway in self.gateways:
                if not gateway.asked_to_stop:
                    gateway.check_alive()
            return answers_ping(self.client, SERVER_INNER)

        wait_until(answers, "the tunnel", timeout_s=40)

    def _start(
        self, host: Host, role: str, *arguments: str, addresses: Sequence[str], is_old: bool
    ) -> GatewayProcess:
        # fmt: off
        gateway = start_gateway(
            host, self._directory, role, *arguments, wire="wireguard", addresses=addresses,
            program=self._program(COMPRESSED, is_old=is_old),
        )
        # fmt: on
        self.gateways.append(gateway)
        return gateway

    def _program(self, command: Sequence[str], *, is_old: bool) -> Sequence[str]:
        return program(self._python, command) if is_old else tuple(command)


@pytest.fixture
def ends(lab: Lab, tmp_path: Path, python: Path) -> Iterator[Ends]:
    pair = Ends(lab, tmp_path, python)
    yield pair
    for gateway in pair.gateways:
        print(f"--- {gateway.role} log", *gateway.log_tail(20), sep="\n")  # noqa: T201 (pytest shows it on failure)


def rekeys(gateway: GatewayProcess) -> float:
    return gateway.scrape().total("fastun_rekeys_total")


@pytest.mark.parametrize(
    ("older", "transport"),
    [
        ("serve", "udp"),
        ("connect", "tcp"),
        pytest.param("serve", "tcp", marks=pytest.mark.soak),
        pytest.param("connect", "udp", marks=pytest.mark.soak),
    ],
)
def test_the_previous_release_and_this_one_carry_every_byte_over_new_keys(
    ends: Ends, older: str, transport: Transport
) -> None:
    server = ends.serve(is_old=older == "serve", transport=transport)
    file = ends.add("client", transport, is_old=older == "serve")
    client = ends.connect(file, is_old=older == "connect")
    ends.wait_up()
    old, new = (server, client) if older == "serve" else (client, server)
    assert (is_of(old.host), is_of(new.host)) == (True, False)

    def goes_on() -> bool:
        return rekeys(client) < N_REKEYS

    def carries(source: Host, to: Host, address: str) -> None:
        transfer = start_transfer(source, to, address, n_bytes=2 * 10**7, goes_on=goes_on)
        assert transfer.result(timeout=60).is_exact

    carries(ends.client, ends.server, SERVER_INNER)
    carries(ends.server, ends.client, CLIENT_INNER)
    assert rekeys(client) >= N_REKEYS
    assert server.scrape().total("fastun_peer_info", peer="client", transport=transport) == 1
    assert client.scrape().total("fastun_reconnects_total") == 0
    assert_adds_up([client, server])
    for gateway in (client, server):
        assert gateway.stop(timeout_s=10) == 0


def test_this_release_goes_on_where_the_previous_one_was_killed(ends: Ends) -> None:
    """Its key, its peers with their terms, its clients, and what it has left on the host."""
    ends.server.ip("route", "add", "default", "via", "10.0.0.2")  # a way to forward to
    before = host_state(ends.server)
    server = ends.serve("--forward", "--masquerade", is_old=True, transport="udp")
    file = ends.add("client", "udp", is_old=True)
    ends.add("guest", "udp", is_old=True)
    for change in (("limit", "guest", "10Mbit"), ("note", "guest", "third floor")):
        ends.peer(*change, is_old=True)
    client = ends.connect(file, is_old=True)
    ends.wait_up()
    key = ends.key(is_old=True)
    # All at once: a host process that is left would undo what the others have done.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for pid in ends.server.pids():
            os.kill(pid, number)
    server.asked_to_stop = True
    wait_until(lambda: not ends.server.pids(), "all of it is gone")
    assert differences(before, host_state(ends.server)) != []
    as_old, as_new = (json.loads(ends.peer("list", "--json", is_old=old)) for old in (True, False))
    assert [peer["name"] for peer in as_old] == ["client", "guest"]
    assert [now | then for then, now in zip(as_old, as_new, strict=True)] == as_new

    server = ends.serve("--forward", "--masquerade", is_old=False, transport="udp")
    ends.wait_up()
    assert ends.key(is_old=False) == key
    for gateway in (client, server):
        assert gateway.stop(timeout_s=10) == 0
    assert differences(before, host_state(ends.server)) == []
