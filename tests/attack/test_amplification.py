"""What a client with a key sends becomes three times its bytes at most, wherever it goes.

attacker (keyed_client.py) ==veth== server (fastun serve) ==veth== udp   (fastun connect)
10.99.0.2, fd99::2                  10.99.0.1, fd99::1    ==veth== tcp   (fastun connect)
                                                          ==veth== third (behind the server)

The server forwards, and its devices cut nothing: what goes out by a veth are packets, which the
kernel counts with their Ethernet headers. Input is what the attacker writes into its stream.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

import pytest
from pyroute2.ethtool.ioctl import EthtoolFeaturesList, IoctlEthtool

from fastun.lab.host import wait_until
from fastun.lab.traffic import iperf3, ping
from fastun.lab.tunnel import (
    PORT,
    SERVER_ADDRESSES,
    UDP_PORT,
    GatewayProcess,
    add_peer,
    start_gateway,
)
from tests.support.keyed_client import KeyedClient
from tests.support.plain_peer import PlainPeer, frame
from tests.support.super_packets import Shape, message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

GROWTH_MAX = 3
# What a neighbour keeps is 0.9 to 1 on two quiet cores, which the attacker and the third party
# share with the tunnel; before there was a limit it was 0.2. Three short rounds beside other work
# show less: what they assert is what no noise crosses, and the soak asserts the promise.
GOODPUT_MIN, GOODPUT_MIN_OF_THREE = 0.8, 0.6
PING_MS_MAX = 5
ATTACK_BITS_PER_SECOND = 40e6
PAYLOAD = 64000
UDP_SEGMENTS = 64
N_EACH = 3

SEGMENTS = (1, 8, 48, 89, 165, 180, 197, 1300)
SHAPES = [
    Shape(protocol, version, segment, min(most * segment, PAYLOAD))
    for protocol, most in (("tcp", PAYLOAD), ("udp", UDP_SEGMENTS))
    for version in (4, 6)
    for segment in SEGMENTS
] + [
    Shape("tcp", 6, 8, 8000, extension=1296),
    Shape("tcp", 6, 100, 30000, extension=1296),
    Shape("tcp", 6, 1200, 12000, extension=8),
    Shape("udp", 6, 1, 64, extension=1296),
    Shape("udp", 6, 900, 50 * 900, extension=1296),
]
SOURCES = {4: "10.99.0.2", 6: "fd99::2"}


def _cutting(features: EthtoolFeaturesList) -> list[str]:
    names = [name for name in features.keys() if name.startswith("tx-")]  # noqa: SIM118 (no dict)
    return [name for name in names if "segmentation" in name and features.is_active(name)]


def cut_nothing(host: Host, device: str) -> None:
    """Turn off what the device cuts itself: the kernel then does, before it counts."""

    def turn_off() -> None:
        ethtool = IoctlEthtool(device)
        features = ethtool.get_features()
        for name in _cutting(features):
            features[name] = False
        ethtool.set_features(features)
        left = _cutting(ethtool.get_features())
        ethtool.close()
        assert not left, left

    host.inside(turn_off)


@dataclass(frozen=True)
class WayOut:
    """A way out of the gateway: the device, and who is reached by it."""

    device: str
    addresses: dict[int, str]


class Server:
    """The gateway with its clients, and whoever is behind it."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self.host = lab.host("server")
        self.clients: dict[str, Host] = {}
        self.paths: dict[str, WayOut] = {}
        self._lab, self._directory = lab, directory
        for name, n in (("attacker", 1), ("udp", 2), ("tcp", 3), ("third", 4)):
            other = lab.host(name)
            networks = (f"10.0.{n}", f"fd0{n}:")
            lab.wire(
                self.host,
                other,
                [f"{networks[0]}.1/24", f"{networks[1]}:1/64"],
                [f"{networks[0]}.2/24", f"{networks[1]}:2/64"],
            )
            self.clients[name] = other
            addresses = {4: f"10.99.0.{n + 1}", 6: f"fd99::{n + 1}"}
            if name == "third":
                addresses = {4: f"{networks[0]}.2", 6: f"{networks[1]}:2"}
                other.ip("route", "add", "10.99.0.0/24", "via", f"{networks[0]}.1")
                other.ip("-6", "route", "add", "fd99::/64", "via", f"{networks[1]}:1")
            self.paths[name] = WayOut(f"to-{name}", addresses)
            cut_nothing(self.host, f"to-{name}")
        self.host.sysctl("net.ipv4.ip_forward", 1)
        self.host.sysctl("net.ipv6.conf.all.forwarding", 1)
        self.gateway: GatewayProcess
        self.others: list[GatewayProcess] = []

    def serve(self, *clients: str) -> Path:
        """Start the gateway and these of its clients; return the attacker's file."""
        listen = ("--listen", f"tcp://[::]:{PORT}", "--listen", f"udp://[::]:{UDP_PORT}")
        self.gateway = start_gateway(
            self.host, self._directory, "serve", *listen, wire="wireguard",
            addresses=SERVER_ADDRESSES,
        )  # fmt: skip
        # In this order: each gets the next address.
        files = {
            "attacker": add_peer(self.gateway, "attacker", "10.0.1.1", "tcp"),
            "udp": add_peer(self.gateway, "udp", "10.0.2.1", "udp"),
            "tcp": add_peer(self.gateway, "tcp", "10.0.3.1", "tcp"),
        }
        wait_until(lambda: self.host.listens(PORT), "fastun listens", timeout_s=15)
        for name in clients:
            started = start_gateway(
                self.clients[name], self._directory, "connect", str(files[name]), wire="wireguard"
            )
            self.others.append(started)
        for name in clients:
            address = self.paths[name].addresses[4]
            wait_until(
                lambda address=address: self._answers(address), f"{name} connected", timeout_s=15
            )
        return files["attacker"]

    def _answers(self, address: str) -> bool:
        done = self.host.run("ping", "-n", "-q", "-c1", "-W1", address, check=False)
        return done.returncode == 0

    def n_bytes_out(self, name: str) -> int:
        """Return what has gone out to a neighbour of the gateway, Ethernet headers included."""
        text = self.host.inside(Path("/proc/thread-self/net/dev").read_text)
        (line,) = [each for each in text.splitlines() if f"{self.paths[name].device}:" in each]
        return int(line.partition(":")[2].split()[8])

    def n_bytes_when_quiet(self, name: str) -> int:
        """Return the same when it has not changed by more than a keepalive for a while."""
        before = -1
        while (now := self.n_bytes_out(name)) > before + 200:
            before = now
            time.sleep(0.03)
        return now

    def drops(self, reason: str) -> float:
        return self.gateway.scrape().total(
            "fastun_dropped_packets_total", role="link-reader", reason=reason
        )

    def stop(self) -> None:
        for gateway in (*self.others, self.gateway):
            assert gateway.stop() == 0


@pytest.fixture
def server(lab: Lab, tmp_path: Path) -> Iterator[Server]:
    server = Server(lab, tmp_path)
    yield server
    server.stop()


def growth(server: Server, name: str, client: KeyedClient, shape: Shape) -> float:
    """Return what a shape sent to that neighbour becomes on the way to it, times its bytes."""
    source, destination = SOURCES[shape.version], server.paths[name].addresses[shape.version]
    before = server.n_bytes_when_quiet(name)
    n_bytes = client.send([message(shape, source, destination)] * N_EACH)
    server.n_bytes_out(name)  # the first look comes before all is out
    return (server.n_bytes_when_quiet(name) - before) / n_bytes


def test_no_super_packet_becomes_more_than_three_times_its_bytes_on_any_way_out(
    server: Server,
) -> None:
    file = server.serve("udp", "tcp")
    figures = {}
    with KeyedClient(server.clients["attacker"], file, "10.0.1.1", PORT) as client:
        for name in ("udp", "tcp", "third"):
            for shape in SHAPES:
                figures[name, str(shape)] = growth(server, name, client, shape)
    for (name, shape), figure in sorted(figures.items(), key=lambda item: -item[1])[:12]:
        print(f"{figure:6.2f} x towards {name}: {shape}")  # noqa: T201 (the figure is the test's)
    # What is admitted does arrive.
    for name in ("udp", "tcp", "third"):
        assert figures[name, "tcp4 by 1300"] > 0.9
        assert figures[name, "udp6 by 1300"] > 0.9
    assert max(figures.values()) <= GROWTH_MAX
    assert server.drops("amplifies") > 0
    assert server.drops("bad_virtio") == 0


def test_on_the_plain_wire_it_is_the_same(server: Server, tmp_path: Path) -> None:
    server.gateway = start_gateway(
        server.host, tmp_path, "serve", "--listen", f"tcp://10.0.1.1:{PORT}",
        addresses=SERVER_ADDRESSES,
    )  # fmt: skip
    wait_until(lambda: server.host.listens(PORT), "fastun listens", timeout_s=15)
    figures = {}
    with PlainPeer(server.clients["attacker"], "10.0.1.1", PORT) as peer:
        peer.say_hello()
        for shape in SHAPES:
            destination = server.paths["third"].addresses[shape.version]
            before = server.n_bytes_when_quiet("third")
            stream = N_EACH * frame(message(shape, SOURCES[shape.version], destination))
            peer.send(stream)
            server.n_bytes_out("third")
            figures[str(shape)] = (server.n_bytes_when_quiet("third") - before) / len(stream)
    print({shape: round(figure, 2) for shape, figure in figures.items() if figure > 2})  # noqa: T201
    assert figures["tcp4 by 1300"] > 0.9
    assert max(figures.values()) <= GROWTH_MAX
    assert server.drops("amplifies") > 0


class Attack:
    """Sends sealed messages at a rate, over a connection of its own, until all are sent."""

    def __init__(
        self, server: Server, file: Path, contents: list[bytes], duration_s: float
    ) -> None:
        self._client = KeyedClient(server.clients["attacker"], file, "10.0.1.1", PORT)
        n_messages = int(ATTACK_BITS_PER_SECOND * duration_s / 8 / len(contents[0]))
        self._contents = [contents[i % len(contents)] for i in range(n_messages)]
        self._thread = threading.Thread(target=self._run)
        self.bits_per_second = 0.0

    def _run(self) -> None:
        took_s = self._client.send_paced(self._messages, ATTACK_BITS_PER_SECOND)
        self.bits_per_second = 8 * sum(map(len, self._messages)) / took_s

    def __enter__(self) -> None:
        self._client.__enter__()
        self._messages = [self._client.seal(each) for each in self._contents]
        self._thread.start()

    def __exit__(self, *error: object) -> None:
        self._thread.join()
        self._client.__exit__(*error)
        assert self.bits_per_second > ATTACK_BITS_PER_SECOND / 2, "the attack was cut short"


ROUND_S = 1

# The shortest segments that are admitted, and what is refused and became up to 172 times its bytes.
WORST = {
    "admitted": [Shape("tcp", 4, 178, PAYLOAD), Shape("tcp", 6, 198, PAYLOAD)],
    "refused": [Shape("tcp", 4, 8, PAYLOAD), Shape("tcp", 6, 8, PAYLOAD - 1296, extension=1296)],
}


@pytest.mark.alone
@pytest.mark.parametrize(
    ("n_rounds", "kept_min"),
    [(3, GOODPUT_MIN_OF_THREE), pytest.param(9, GOODPUT_MIN, marks=pytest.mark.soak)],
)
def test_a_neighbour_keeps_its_goodput_and_its_round_trip_beside_the_worst_super_packets(
    server: Server, n_rounds: int, kept_min: float
) -> None:
    """With and without the attack in turn; the medians count."""
    file = server.serve("udp")
    neighbour, third = server.clients["udp"], server.paths["third"].addresses
    contents = {
        what: [message(shape, SOURCES[shape.version], third[shape.version]) for shape in shapes]
        for what, shapes in WORST.items()
    }
    gbits: dict[str, list[float]] = {what: [] for what in ("alone", *WORST)}
    pings: dict[str, list[float]] = {what: [] for what in ("alone", *WORST)}
    for _ in range(n_rounds):
        gbits["alone"].append(goodput(server, neighbour))
        pings["alone"].append(round_trip_ms(neighbour))
        for what in WORST:
            with Attack(server, file, contents[what], ROUND_S + 0.8):
                gbits[what].append(goodput(server, neighbour))
                pings[what].append(round_trip_ms(neighbour))
    for what, figures in gbits.items():
        print(  # noqa: T201 (the figure is the test's)
            f"{what}: {median(figures):.2f} Gbit/s, ping {median(pings[what]):.2f} ms,"
            f" of {[round(each, 2) for each in figures]}"
        )
    kept = {what: median(gbits[what]) / median(gbits["alone"]) for what in WORST}
    assert min(kept.values()) >= kept_min, kept
    for what in WORST:
        assert median(pings[what]) < max(PING_MS_MAX, 3 * median(pings["alone"]))


def goodput(server: Server, neighbour: Host) -> float:
    return iperf3(neighbour, server.host, "10.99.0.1", duration_s=ROUND_S).gbit_per_second


def round_trip_ms(neighbour: Host) -> float:
    return ping(neighbour, "10.99.0.1", n=20, interval_s=0.01).avg_ms
