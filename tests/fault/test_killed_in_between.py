"""A worker is killed or stopped in the middle of a change of its tunnel, under traffic.

The moment is held for as long as the kill takes: an answer is kept back, or a process that the
change needs is stopped. One tunnel, on UDP with TCP behind it, whose keys change every second.

server host 10.0.0.1 ===veth=== 10.0.0.2 client host
ft0 10.99.0.1 ..........tunnel.......... ft0 10.99.0.2
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.tunnel import (
    CLIENT_ADDRESSES,
    FASTUN,
    SERVER_ADDRESSES,
    UDP_PORT,
    Tunnel,
    add_peer,
    endpoints,
    start_gateway,
)
from fastun.native import ROLES
from tests.fault.test_udp_worker_killed import (
    captured_payloads,
    data_messages,
    end_capture,
    start_capture,
)
from tests.support.accounting import assert_adds_up
from tests.support.blocked_udp import block_udp, unblock_udp
from tests.support.faulted_tunnel import HASTY
from tests.support.host_state import differences, host_state
from tests.support.lanes_seen import n_connections
from tests.support.processes import is_gone, worker_pid
from tests.support.promised import promised_s
from tests.support.transfer import probing, start_transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastun.lab.tunnel import GatewayProcess
    from tests.support.figures import Figures

CHANGE_S = 20.0  # a change of transport
BACK_S = 5.0  # with a stopped worker's 3 s, and a stream's second attempt


class Scene:
    """Both ends, and the client's file."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        """Start both."""
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        self.hosts = server, client
        for host in self.hosts:  # the wire has a carrier
            wait_until(lambda h=host: "linkdown" not in h.ip("route", "show"), "the wire")
        self.before = [host_state(host) for host in self.hosts]
        listen = [word for url in endpoints("10.0.0.1", "both") for word in ("--listen", url)]
        # fmt: off
        self.server = start_gateway(server, directory, "serve", *listen, wire="wireguard",
                                    addresses=SERVER_ADDRESSES, program=HASTY)
        self.file = add_peer(self.server, "client", "10.0.0.1", "both")
        self.client = start_gateway(client, directory, "connect", str(self.file), wire="wireguard",
                                    addresses=CLIENT_ADDRESSES, program=HASTY)
        # fmt: on
        Tunnel(self.server, self.client).wait_up()
        self.ends = self.client, self.server

    def assert_nothing_is_left(self) -> None:
        """Stop both, and look what they leave."""
        assert [end.stop(signal.SIGTERM) for end in self.ends] == [0, 0]
        for host, before in zip(self.hosts, self.before, strict=True):
            assert differences(before, host_state(host)) == []
            assert host.pids() == []


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        running = Scene(lab, tmp_path_factory.mktemp("scene"))
        yield running
        running.assert_nothing_is_left()


# -- the moments ----------------------------------------------------------------------------------


@contextlib.contextmanager
def a_rekey(scene: Scene) -> Iterator[None]:
    """The server's response does not arrive; the client's handshake waits for it."""
    server, begins = scene.server.host, "@th,64,32 0x02000000"  # behind the UDP header
    server.run("nft", "add", "table", "inet", "firewall")
    chain = "{ type filter hook output priority 0; }"
    server.run("nft", "add", "chain", "inet", "firewall", "output", chain)
    rule = ("udp", "sport", str(UDP_PORT), *begins.split(), "counter", "drop")
    server.run("nft", "add", "rule", "inet", "firewall", "output", *rule)
    try:
        shown = ("nft", "list", "chain", "inet", "firewall", "output")
        wait_until(lambda: "packets 0" not in server.run(*shown).stdout, "a response")
        yield
    finally:
        server.run("nft", "delete", "table", "inet", "firewall")


@contextlib.contextmanager
def a_change_to_tcp(scene: Scene) -> Iterator[None]:
    """UDP is blocked, and the stream has just been made."""
    block_udp(scene.server.host)
    try:
        wait_until(lambda: n_connections(scene.client) > 0, "a stream", timeout_s=CHANGE_S)
        yield
    finally:
        unblock_udp(scene.server.host)
        on_udp(scene)


@contextlib.contextmanager
def a_change_to_udp(scene: Scene) -> Iterator[None]:
    """UDP is there again, and a handshake has just succeeded by it."""
    block_udp(scene.server.host)
    try:
        wait_until(lambda: n_connections(scene.client) > 0, "a stream", timeout_s=CHANGE_S)
        with probing(*reversed(scene.hosts), scene.server.inner_address, 5303) as probe:
            probe.seconds_until_answer(CHANGE_S)
    finally:
        unblock_udp(scene.server.host)
    n_before = handshakes(scene.client)
    wait_until(lambda: handshakes(scene.client) > n_before, "a handshake", timeout_s=CHANGE_S)
    yield
    on_udp(scene)


@contextlib.contextmanager
def a_drain(scene: Scene) -> Iterator[None]:
    """The server is drained, and its client has no other."""
    home = str(scene.server.log_file.parent)
    draining = scene.server.host.spawn(*FASTUN, "drain", "--timeout", "60", "--run-dir", home)
    wait_until(lambda: scene.server.scrape().total("fastun_draining") == 1, "it drains")
    try:
        yield
    finally:
        draining.send_signal(signal.SIGINT)  # which cancels it
        draining.wait(10)
    wait_until(lambda: scene.server.scrape().total("fastun_draining") == 0, "it drains no more")


@contextlib.contextmanager
def a_reload(scene: Scene) -> Iterator[None]:
    """The client's host process is stopped, and a reload of its changed file waits for it."""
    before, client = scene.file.read_text(encoding="utf-8"), scene.client.host
    home = str(scene.client.log_file.parent)
    reload = (*FASTUN, "reload", "--run-dir", home)
    more = re.sub(
        r"^allowed_ips = \[", 'allowed_ips = ["172.16.9.0/24", ', before, flags=re.MULTILINE
    )
    assert more != before
    scene.file.write_text(more, encoding="utf-8")
    host_process = worker_pid(scene.client, "host")
    os.kill(host_process, signal.SIGSTOP)
    try:
        reloading = client.spawn(*reload)
        time.sleep(0.7)  # until it has been asked
        assert reloading.poll() is None
        yield
    finally:
        os.kill(host_process, signal.SIGCONT)
    reloading.wait(10)  # it may have given up, and then says so
    client.run(*reload)
    scene.file.write_text(before, encoding="utf-8")
    assert "allowed IPs" in client.run(*reload).stdout  # takes away what the other has added


def handshakes(end: GatewayProcess) -> float:
    return end.scrape().total("fastun_handshakes_total", result="ok")


def on_udp(scene: Scene) -> None:
    wait_until(lambda: n_connections(scene.client) == 0, "UDP again", timeout_s=CHANGE_S)


MOMENTS = (a_rekey, a_change_to_tcp, a_change_to_udp, a_drain, a_reload)
IN_CI = {
    (a_rekey, "tun-reader", signal.SIGKILL),
    (a_change_to_udp, "link-reader", signal.SIGKILL),
    (a_drain, "tun-writer", signal.SIGKILL),
    (a_reload, "link-reader", signal.SIGKILL),
}


@pytest.mark.promise(
    "A worker killed or stopped in the middle of a rekey, a change of transport, a drain or a "
    "reload is replaced, every packet is accounted for, and no counter seals two messages"
)
@pytest.mark.parametrize(
    ("moment", "role", "number"),
    [
        pytest.param(
            *(moment, role, number),
            id=f"{moment.__name__}-{role}-{number.name}",
            marks=() if (moment, role, number) in IN_CI else pytest.mark.soak,
        )
        for moment in MOMENTS
        for role in ROLES
        for number in (signal.SIGKILL, signal.SIGSTOP)
    ],
)
def test_a_worker_dies_in_the_middle_of_a_change(  # noqa: PLR0917 (fixtures)
    scene: Scene,
    tmp_path: Path,
    moment: Callable[[Scene], contextlib.AbstractContextManager[None]],
    role: str,
    number: signal.Signals,
    figures: Figures,
) -> None:
    address, file = scene.server.inner_address, tmp_path / "outer.pcap"
    n_files = [psutil.Process(end.process.pid).num_fds() for end in scene.ends]
    goes_on = True
    capture = start_capture(scene.server.host, file)
    transfer = start_transfer(
        *(scene.client.host, scene.server.host, address), n_bytes=10**6, goes_on=lambda: goes_on
    )
    try:
        with probing(scene.client.host, scene.server.host, address) as probe:
            with moment(scene):
                pids = [worker_pid(end, role) for end in scene.ends]
                for pid in pids:
                    os.kill(pid, number)
                begun_s = time.monotonic()
                wait_until(lambda: all(map(is_gone, pids)), "replaced", timeout_s=promised_s(3))
                if moment is not a_reload:  # none is started while the host process is stopped
                    probe.seconds_until_answer(CHANGE_S)
                    outage_s = time.monotonic() - begun_s
                    assert outage_s < promised_s(BACK_S)
                    figures.worst("back after", outage_s, "s")
                    print(f"back after {outage_s:.2f} s")  # noqa: T201
            assert probe.seconds_until_answer(CHANGE_S) < promised_s(1)
    finally:
        goes_on = False
        end_capture(capture, file)
    assert transfer.result(timeout=60).is_exact
    assert_adds_up(scene.ends)
    messages = [each for payload in captured_payloads(file) for each in data_messages(payload)]
    assert messages
    assert len({each[4:16] for each in messages}) == len(set(messages)), "a counter came twice"
    for end, n in zip(scene.ends, n_files, strict=True):
        wait_until(
            lambda e=end, n=n: psutil.Process(e.process.pid).num_fds() <= n + 1, "no file is left"
        )
    figures.total("cases", 1)
