"""Eight real wireguard-go at once, on a fastun of four lanes.

ours                                        peer0 .. peer7
fastun serve --lanes 4, ft0 10.99.0.1/24    wireguard-go, wgN 10.99.0.(10 + N)
   10.0.N.1 =========== veth ============== 10.0.N.2

The even ones begin, with the odd ones fastun does. Two are in each lane.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import socket
import struct
import threading
from typing import TYPE_CHECKING, Final, NamedTuple, Self

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.traffic import answers_ping, ping
from fastun.lab.tunnel import start_gateway
from tests.support.compressed_time import gateway_with
from tests.support.lanes_load import status_of
from tests.support.transfer import start_transfer
from tests.support.wireguard_go import Identity, WireGuardGo, skip_where_missing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess

N_LANES, N_PEERS, PORT = 4, 8, 51820
OUR_INNER = "10.99.0.1"
ETH_P_ALL, DATA = 3, 4
UDP, UDP_HEADER = 17, 8
DATA_HEADER: Final = struct.Struct("<IIQ")  # type, index of the receiver, counter
N_REKEYS = 3
# wireguard-go takes no two initiations of a peer within 50 ms.
OFTEN = gateway_with(
    rekey_after_time_s=1.0, reject_after_time_s=60.0, rekey_timeout_s=0.5, jitter_s=0.05
)


class Peer(NamedTuple):
    number: int
    host: Host
    program: WireGuardGo
    identity: Identity

    @property
    def inner(self) -> str:
        return f"10.99.0.{10 + self.number}"

    @property
    def begins(self) -> bool:
        return self.number % 2 == 0

    def file(self, ours: Identity) -> str:
        lines = ["[Interface]", f"PrivateKey = {self.identity.private_key}", f"ListenPort = {PORT}"]
        lines += ["[Peer]", f"PublicKey = {ours.public_key}", f"AllowedIPs = {OUR_INNER}/32"]
        lines += [f"Endpoint = 10.0.{self.number}.1:{PORT}"] if self.begins else []
        return "\n".join(lines) + "\n"

    def section(self) -> str:
        lines = ["[[peer]]", f'name = "peer{self.number}"']
        lines += [f'public_key = "{self.identity.public_key}"']
        lines += [f'allowed_ips = ["{self.inner}/32"]']
        if not self.begins:
            lines += [f'endpoint = "udp://10.0.{self.number}.2:{PORT}"']
        return "\n".join(lines) + "\n"


class Sessions:
    """The counters that a host has sent, as they went by: of each index, in order.

    What is sent as a train is seen as one datagram. A context manager.
    """

    def __init__(self, host: Host) -> None:
        self.counters: dict[tuple[str, int], list[int]] = collections.defaultdict(list)
        self._listener = host.inside(
            lambda: socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_ALL))
        )
        self._listener.settimeout(0.2)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._listen)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        self._listener.close()

    def _listen(self) -> None:
        while not self._stopped.is_set():
            with contextlib.suppress(TimeoutError):
                packet, (_, _, kind, *_) = self._listener.recvfrom(65535)
                if kind == socket.PACKET_OUTGOING and packet[0] >> 4 == 4 and packet[9] == UDP:
                    self._note(packet)

    def _note(self, packet: bytes) -> None:
        message = packet[4 * (packet[0] & 0xF) + UDP_HEADER :]
        if len(message) >= DATA_HEADER.size and message[0] == DATA:
            _, index, counter = DATA_HEADER.unpack_from(message)
            self.counters[socket.inet_ntoa(packet[16:20]), index].append(counter)


class Network(NamedTuple):
    ours: Host
    gateway: GatewayProcess
    peers: list[Peer]
    sessions: Sessions


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Network]:
    skip_where_missing()
    directory, identity = tmp_path_factory.mktemp("lanes"), Identity()
    with Lab() as lab, contextlib.ExitStack() as stack:
        ours = lab.host("ours")
        peers = [make_peer(lab, ours, n, directory) for n in range(N_PEERS)]
        for peer in peers:
            stack.callback(peer.program.stop)
        file = directory / "server.toml"
        file.touch(mode=0o600)
        head = f'[interface]\nprivate_key = "{identity.private_key}"\n'
        file.write_text(head + "".join(peer.section() for peer in peers))
        sessions = stack.enter_context(Sessions(ours))
        # fmt: off
        gateway = start_gateway(
            ours, directory, "serve", "-c", str(file), "-v", "--lanes", str(N_LANES),
            "--listen", f"udp://0.0.0.0:{PORT}",
            wire="wireguard", addresses=[f"{OUR_INNER}/24"], program=OFTEN,
        )
        # fmt: on
        wait_until(lambda: ours.listens(PORT, udp=True), "fastun listens", timeout_s=15)
        for peer in peers:
            peer.program.configure(peer.file(identity))
        yield Network(ours, gateway, peers, sessions)
        print("--- fastun", *gateway.log_tail(40), sep="\n")  # noqa: T201
        assert gateway.stop() == 0


def make_peer(lab: Lab, ours: Host, n: int, directory: Path) -> Peer:
    host = lab.host(f"peer{n}")
    lab.wire(ours, host, [f"10.0.{n}.1/24"], [f"10.0.{n}.2/24"])
    program = WireGuardGo(host, directory, [f"10.99.0.{10 + n}/24"])
    return Peer(n, host, program, Identity())


def n_rekeys(network: Network) -> float:
    return network.gateway.scrape().total("fastun_rekeys_total")


def assert_all_answer(network: Network, n: int = 5) -> None:
    for peer in network.peers:
        there, back = (peer.host, OUR_INNER), (network.ours, peer.inner)
        for source, address in (there, back) if peer.begins else (back, there):
            wait_until(lambda s=source, a=address: answers_ping(s, a), "up", timeout_s=20)
            assert ping(source, address, n=n, interval_s=0.02).n_received == n


def test_every_session_counts_from_0_and_leaves_no_number_out(network: Network) -> None:
    """In both roles, over rekeys. Singly sent packets only: the kernel would show trains as one."""
    assert_all_answer(network)
    until = n_rekeys(network) + N_REKEYS * N_PEERS / 2  # of those that fastun has begun
    for _ in itertools.count():
        assert_all_answer(network)
        if n_rekeys(network) >= until:
            break
    for peer in network.peers[::2]:
        peer.program.begin_anew()
    assert_all_answer(network)
    sent = {key: list(counters) for key, counters in list(network.sessions.counters.items())}
    print({key: len(counters) for key, counters in sent.items()})  # noqa: T201
    assert len({address for address, _ in sent}) == N_PEERS
    assert len(sent) >= N_PEERS + N_REKEYS * N_PEERS / 2 + N_PEERS / 2
    wrong = {
        key: counters
        for key, counters in sent.items()
        if sorted(counters) != list(range(len(counters)))
    }
    assert wrong == {}


def test_all_transfer_at_once_both_ways_and_each_lane_carries_two(network: Network) -> None:
    before = packets_by_lane(network.gateway)
    transfers = [
        start_transfer(*there, n_bytes=10**6, port=7000 + peer.number)
        for peer in network.peers
        for there in ((peer.host, network.ours, OUR_INNER), (network.ours, peer.host, peer.inner))
    ]
    assert all(transfer.result(timeout=120).is_exact for transfer in transfers)
    carried = [now - was for now, was in zip(packets_by_lane(network.gateway), before, strict=True)]
    print(carried)  # noqa: T201
    assert min(carried) > sum(carried) / N_LANES / 2
    assert all("ERROR" not in peer.program.log() for peer in network.peers)


def packets_by_lane(gateway: GatewayProcess) -> list[float]:
    scrape = gateway.scrape()
    return [
        scrape.total("fastun_packets_total", role="link-reader", lane=str(lane))
        for lane in range(N_LANES)
    ]


def test_those_that_change_their_ports_are_followed_in_every_lane(network: Network) -> None:
    assert_all_answer(network)
    for peer in network.peers:
        peer.program.listen(PORT + 1)
        wait_until(lambda p=peer: answers_ping(p.host, OUR_INNER), "an answer", timeout_s=20)
        assert ping(network.ours, peer.inner, n=5, interval_s=0.02).n_received == 5
    expected = {f"10.0.{peer.number}.2:{PORT + 1}" for peer in network.peers}
    wait_until(
        lambda: {each["remote"] for each in status_of(network.gateway)["peers"]} == expected,
        "all at their new ports",
        timeout_s=20,
    )


def test_those_that_are_moved_to_another_port_of_ours_follow_it(network: Network) -> None:
    """As when a router before us has forgotten what it translated to."""
    assert_all_answer(network)
    network.ours.run(
        "nft",
        f"""table inet rebound {{
            chain went {{ type filter hook postrouting priority 0;
                udp sport {PORT} udp sport set 6000
            }}
            chain came {{ type filter hook prerouting priority 0;
                udp dport 6000 udp dport set {PORT}
            }}
        }}""",
    )
    for peer in network.peers:
        wait_until(lambda p=peer: answers_ping(network.ours, p.inner), "an answer", timeout_s=20)
        wait_until(
            lambda p=peer: p.program.show().endpoint == f"10.0.{p.number}.1:6000",
            "wireguard-go has noticed",
        )
    assert_all_answer(network)
