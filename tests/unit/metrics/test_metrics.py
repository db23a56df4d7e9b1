"""The metric families, their documentation, and the HTTP server in front of an idle gateway."""

from __future__ import annotations

import http.client
import mmap
import re
import socket
import socketserver
import struct
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastun import native
from fastun.config.settings import Options, Role, load
from fastun.errors import RuntimeFailure
from fastun.gateway.gateway import Gateway, Link, LinkCounts
from fastun.lab.host import wait_until
from fastun.lane.lane import Lane
from fastun.link import hello
from fastun.link.datagram import sockets as udp
from fastun.link.peer_slots import PeerSlots
from fastun.link.stream.handshake import SealedHandshaker
from fastun.link.stream.sessions import SessionCounts, StreamSessions
from fastun.link.table import LinkTable
from fastun.metrics import collector as metric_collector
from fastun.metrics import server as metric_server
from fastun.metrics import worker_states
from fastun.metrics.collector import GatewayCollector
from fastun.metrics.families import FAMILIES
from fastun.metrics.readings import CALLS_OF_ROLE
from fastun.metrics.server import REQUESTS_MAX, serve
from fastun.metrics.sockets import SocketState, socket_state
from fastun.metrics.tables import markdown, markdown_of_drops
from fastun.native import ROLES, Mode, Wire
from fastun.peers.peer import Peer
from fastun.session.keys import KeyPair
from fastun.session.refusal import Refusal
from fastun.session.timer_constants import TimerConstants
from tests.support.descriptors import no_descriptor_left

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric


ROOT = Path(__file__).resolve().parents[3]


@contextmanager
def idle_gateway(role: Role = "serve", target: str | None = None) -> Iterator[Gateway]:
    """All that a scrape reads of a gateway, with a real lane whose workers are not started."""
    settings = load(role, target, Options(wire="plain", insecure=True))
    lane = Lane(
        0,
        -1,
        Wire.PLAIN,
        Mode.TUN,
        holds=False,
        on_start=lambda *_: None,
        on_message=lambda *_: None,
        on_death=lambda *_: None,
        on_failure=lambda *_: None,
    )
    device = SimpleNamespace(name=settings.interface, statistics=dict, has_frames=lambda: False)
    peer_slots = PeerSlots(lane)
    peer_slots.replace([Peer(name=settings.peer_name, public_key=bytes(32))])
    yield cast(
        "Gateway",
        SimpleNamespace(
            settings=settings,
            lane=lane,
            device=device,
            links=LinkTable(lane, hello.format_without_peer(settings)),
            peer_slots=peer_slots,
            handshaker=None,
            sockets=udp.UdpSockets((), offload=False),
            sessions=None,
            datagrams=None,
            session_counts=SessionCounts(),
            counts=LinkCounts(),
        ),
    )
    lane.stats.close()
    lane.peers.close()
    for ring in lane.rings.values():
        ring.close()


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with idle_gateway() as idle:
        yield idle


def free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def ask(
    port: int, path: str, method: str = "GET", host: str = "127.0.0.1"
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    body = response.read().decode()
    connection.close()
    return response.status, body, headers


def set_up(gateway: Gateway, *, is_ready: bool) -> None:
    for worker in gateway.lane.workers.values():
        worker.is_ready = is_ready


# -- families ---------------------------------------------------------------------------------


def test_family_names_follow_the_conventions_of_prometheus() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert re.fullmatch(r"fastun_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.type == "counter")
        assert family.help.endswith(".")
        assert family.help.isprintable()
        assert "|" not in family.help


def test_the_readme_documents_every_family_and_every_drop_reason() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    missing = [
        row for row in (markdown() + "\n" + markdown_of_drops()).splitlines() if row not in readme
    ]
    assert missing == [], "put in the output of: python -m fastun.metrics"


def test_only_calls_that_a_role_can_make_are_families_of_it() -> None:
    assert tuple(CALLS_OF_ROLE) == ROLES
    for role, calls in CALLS_OF_ROLE.items():
        [path] = (ROOT / "csrc").rglob(f"{role.replace('-', '_')}.c")
        source = path.read_text(encoding="utf-8")
        assert set(calls) <= set(native.CALLS)
        assert set(re.findall(r"CALL_(\w+)", source)) <= set(calls)


# -- collecting -------------------------------------------------------------------------------


def collect(collector: GatewayCollector) -> dict[str, Metric]:
    """Return the families of one scrape by name, as prometheus_client reads them."""
    return {family.name: family for family in text_string_to_metric_families(collector.text())}


def by_peer(collector: GatewayCollector, name: str) -> dict[str, float]:
    """Return a family's values by peer."""
    samples = collect(collector)[name].samples
    values = {sample.labels["peer"]: sample.value for sample in samples}
    assert len(values) == len(samples)
    return values


def link_over(connection: object, link_id: int = 1, software: str = "test") -> Link:
    """All that a scrape reads of a link."""
    fields = {
        "id": link_id,
        "connection": connection,
        "peer_software": software,
        "transport": "tcp",
        "path_mtu": 0,
    }
    return cast("Link", SimpleNamespace(**fields))


def peers_named(*names: str) -> list[Peer]:
    return [Peer(name=name, public_key=name.encode().ljust(32)) for name in names]


def write_field(gateway: Gateway, slot: int, field: str, value: int) -> None:
    """Write one of PEER_FIELDS, as a worker would; where it stands is found by trying."""
    table = gateway.lane.peers
    with mmap.mmap(table.fd, 0) as memory:
        slot_bytes = len(memory) // native.PEER_SLOTS
        for place in range(slot * slot_bytes, (slot + 1) * slot_bytes, 8):
            (before,) = struct.unpack_from("=Q", memory, place)
            struct.pack_into("=Q", memory, place, value)
            if table.read(slot, field) == value:
                return
            struct.pack_into("=Q", memory, place, before)
    raise AssertionError(field)


def have(gateway: Gateway, *peers: Peer) -> None:
    while not gateway.peer_slots.replace(peers):  # a slot that has just become free rests
        pass


def test_every_peer_has_its_own_samples(gateway: Gateway) -> None:
    have(gateway, *peers_named("ant", "bee"))
    slots = {slotted.peer.name: slot for slot, slotted in gateway.peer_slots.by_slot.items()}
    write_field(gateway, slots["ant"], "transmit_bytes", 5)
    write_field(gateway, slots["bee"], "dropped_packets", 2)
    write_field(gateway, slots["bee"], "no_session_packets", 40)
    collector = GatewayCollector(gateway)
    with tcp_pair() as (one, _):
        gateway.links.by_slot[slots["bee"]] = link_over(one)
        assert by_peer(collector, "fastun_peer_up") == {"ant": 0, "bee": 1}
        assert by_peer(collector, "fastun_peer_info") == {"bee": 1}
        assert by_peer(collector, "fastun_tcp_rtt_seconds").keys() == {"bee"}
        assert by_peer(collector, "fastun_tcp_retransmits") == {"ant": 0, "bee": 0}
    assert by_peer(collector, "fastun_peer_transmit_bytes") == {"ant": 5, "bee": 0}
    assert by_peer(collector, "fastun_peer_dropped_packets") == {"ant": 0, "bee": 42}
    collector.close()


def test_a_changed_peer_counts_from_zero_and_a_removed_one_is_gone(gateway: Gateway) -> None:
    name = "fastun_peer_receive_bytes"
    have(gateway, *peers_named("ant", "bee"))
    collector = GatewayCollector(gateway)
    write_field(gateway, 0, "receive_bytes", 7)
    assert by_peer(collector, name) == {"ant": 7, "bee": 0}
    (_, bee) = peers_named("ant", "bee")
    have(gateway, Peer(name="ant", public_key=bytes(32)), bee)
    assert by_peer(collector, name) == {"ant": 0, "bee": 0}
    have(gateway, bee)
    assert by_peer(collector, name) == {"bee": 0}
    collector.close()


def test_what_a_peer_says_of_itself_cannot_break_the_format(gateway: Gateway) -> None:
    collector = GatewayCollector(gateway)
    with tcp_pair() as (one, _):
        evil = 'evil"} 1\nfastun_x{a="\\'
        have(gateway, *peers_named(evil))  # as no peer can be called
        (slot,) = gateway.peer_slots.by_slot
        gateway.links.by_slot[slot] = link_over(one, software=evil)
        families = collect(collector)
    assert "fastun_x" not in families
    (sample,) = families["fastun_peer_info"].samples
    assert sample.labels["peer"] == evil
    assert sample.labels["software"] == "other"
    collector.close()


@pytest.mark.slow
def test_however_often_a_peer_changes_its_name_it_has_a_few_series(gateway: Gateway) -> None:
    have(gateway, *peers_named("ant", "bee"))
    collector = GatewayCollector(gateway)

    def label_of(slot: int, software: str) -> str:
        gateway.links.by_slot[slot] = link_over(one, software=software)
        samples = collect(collector)["fastun_peer_info"].samples
        (mine,) = (s for s in samples if s.labels["peer"] == ("ant", "bee")[slot])
        return mine.labels["software"]

    with tcp_pair() as (one, _):
        assert label_of(0, "WireGuard") == "WireGuard"
        said = [f"fastun 0.{n}.0" for n in range(100)] + [f"me {n}" for n in range(100)]
        labels = {label_of(0, software) for software in said}
        assert labels == {"fastun 0.0.0", "fastun 0.1.0", "fastun 0.2.0", "other"}
        assert label_of(0, "fastun 0.1.0") == "fastun 0.1.0"
        assert label_of(1, "fastun 0.99.0") == "fastun 0.99.0"
        assert label_of(1, "fastun 1" + "0" * 50) == "other"
        assert label_of(1, "fastun 1.2\u202e") == "other"
    collector.close()


def test_only_the_sealed_wire_has_handshakes(gateway: Gateway) -> None:
    collector = GatewayCollector(gateway)
    names = ("fastun_handshakes", "fastun_rekeys", "fastun_peer_last_handshake_timestamp_seconds")
    assert [collect(collector)[name].samples for name in names] == [[], [], []]

    keys = KeyPair(bytes(32), bytes(32))
    gateway.handshaker = SealedHandshaker(
        gateway.peer_slots, keys, lambda _: pytest.fail("no hello")
    )
    gateway.sessions = StreamSessions(
        gateway.lane, gateway.links, gateway.handshaker, TimerConstants(), gateway.session_counts
    )
    handshakes, rekeys, last = (collect(collector)[name].samples for name in names)
    assert {(s.labels["result"], s.value) for s in handshakes} == {
        (result, 0) for result in ("ok", *Refusal)
    }
    assert [(s.labels, s.value) for s in (*rekeys, *last)] == [({}, 0), ({"peer": "peer"}, 0)]

    gateway.handshaker.results[Refusal.BAD_MAC1] += 2
    gateway.session_counts.n_rekeys = 3
    gateway.session_counts.last_handshake[0] = 1.7e9 + 0.25
    handshakes, rekeys, last = (collect(collector)[name].samples for name in names)
    assert {s.labels["result"]: s.value for s in handshakes if s.value} == {"bad_mac1": 2}
    assert [s.value for s in (*rekeys, *last)] == [3, 1.7e9 + 0.25]
    collector.close()


def test_a_scrape_names_each_of_a_thousand_peers(gateway: Gateway) -> None:
    # What it costs is measured in bench/micro/test_scrape.py.
    have(gateway, *peers_named(*(f"peer{n}" for n in range(1000))))
    collector = GatewayCollector(gateway)
    with tcp_pair() as (one, _):
        gateway.links.by_slot.update({slot: link_over(one) for slot in gateway.peer_slots.by_slot})
        text = collector.text()
    for n in range(1000):
        assert f'\nfastun_peer_up{{peer="peer{n}"}} 1' in text
    collector.close()


def test_the_kernels_counts_of_a_link_go_on_where_the_link_before_ended(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The kernel's figures cannot be produced at will, so they are given here.
    figures: dict[int, int] = {}

    def tcp_info(connection: socket.socket) -> native.TcpInfo:
        link_id = cast("int", connection)
        if link_id not in figures:
            raise OSError
        return native.TcpInfo(0.001, figures[link_id], 0)

    def socket_state(connection: socket.socket) -> SocketState:
        return SocketState(0, tcp_info(connection).n_retransmits * 10)

    monkeypatch.setattr(native, "tcp_info", tcp_info)
    monkeypatch.setattr(metric_collector, "socket_state", socket_state)
    monkeypatch.setattr(worker_states, "_has_room", lambda *_: True)
    collector = GatewayCollector(gateway)

    def see(link_id: int | None, n_retransmits: int | None) -> float:
        figures.clear()
        if link_id is None:
            gateway.links.by_slot.clear()
        else:
            gateway.links.by_slot[0] = link_over(link_id, link_id)
            if n_retransmits is not None:
                figures[link_id] = n_retransmits
        drops = by_peer(collector, "fastun_socket_drops")["peer"]
        retransmits = by_peer(collector, "fastun_tcp_retransmits")["peer"]
        assert drops == 10 * retransmits
        return retransmits

    assert see(None, None) == 0
    assert see(1, 5) == 5
    assert see(1, 7) == 7
    assert see(None, None) == 7
    assert see(2, None) == 7  # it ended between the two looks of one scrape
    assert see(2, 1) == 8
    assert see(5, 0) == 8
    assert see(5, 2) == 10
    collector.close()


def test_a_counter_whose_parts_lag_does_not_go_back(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter([2.0, 1.5, 2.5])
    collector = GatewayCollector(gateway)
    monkeypatch.setattr(gateway.lane.workers["tun-reader"], "cpu_seconds", lambda: next(seconds))
    seen = [
        sample.value
        for _ in range(3)
        for sample in collect(collector)["fastun_worker_cpu_seconds"].samples
        if sample.labels["role"] == "tun-reader"
    ]
    assert seen == [2.0, 2.0, 2.5]
    collector.close()


def test_a_scrape_outlives_the_lanes_memory(gateway: Gateway) -> None:
    collector = GatewayCollector(gateway)
    lane = gateway.lane
    lane.stats.close()
    lane.peers.close()
    for ring in lane.rings.values():
        ring.close()
    assert len(collect(collector)) == len(FAMILIES)
    collector.close()
    assert collector.text() == ""
    lane.stats = native.Stats.create()  # for the fixture to close
    lane.peers = native.PeerTable.create()
    lane.rings = {}


# -- what the workers are at -------------------------------------------------------------------


def states(collector: GatewayCollector) -> dict[str, str]:
    """Return the state of each role; every role is in exactly one."""
    samples = [s for s in collect(collector)["fastun_worker_state"].samples if s.value]
    found = {sample.labels["role"]: sample.labels["state"] for sample in samples}
    assert len(samples) == len(found) == len(ROLES)
    return found


def fill_ring(gateway: Gateway, direction: str, share: float) -> None:
    """Move the ring's head, as its producer would; where it stands is found by trying."""
    ring = gateway.lane.rings[direction]
    wanted = int(ring.size_bytes * share)
    with mmap.mmap(ring.fd, 4096) as memory:
        for place in range(0, 4096, 8):
            (before,) = struct.unpack_from("=Q", memory, place)
            struct.pack_into("=Q", memory, place, wanted)
            if ring.used_bytes() == wanted:
                return
            struct.pack_into("=Q", memory, place, before)
    raise AssertionError(direction)


def test_a_worker_is_busy_while_something_waits_and_blocked_while_it_has_no_room(
    gateway: Gateway,
) -> None:
    collector = GatewayCollector(gateway)
    assert set(states(collector).values()) == {"idle"}
    cast("SimpleNamespace", gateway.device).has_frames = lambda: True
    assert states(collector)["tun-reader"] == "busy"
    fill_ring(gateway, "outbound", 0.5)
    assert states(collector)["tun-reader"] == "busy"
    assert states(collector)["link-writer"] == "blocked", "there is no link"
    fill_ring(gateway, "outbound", 0.9)
    assert states(collector)["tun-reader"] == "blocked"
    with tcp_pair() as (one, other):
        gateway.links.by_slot[0] = link_over(one)
        other.send(b"data")
        assert states(collector)["link-reader"] == "busy"
        fill_ring(gateway, "inbound", 0.9)
        assert states(collector)["link-reader"] == "blocked"
        assert states(collector)["tun-writer"] == "busy"
        assert states(collector)["link-writer"] == "busy"
        fill(one)
        assert states(collector)["link-writer"] == "blocked"
        one.close()
        assert states(collector)["link-writer"] == "busy"
    collector.close()


# -- the state of sockets -------------------------------------------------------------------------


@contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with ExitStack() as stack:
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        one = stack.enter_context(socket.create_connection(listener.getsockname()))
        other = stack.enter_context(listener.accept()[0])
        yield one, other


def fill(connection: socket.socket) -> None:
    """Send until neither socket has room."""
    connection.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            connection.send(bytes(65536))


def test_tcp_info_tells_what_stands_unsent_in_the_socket() -> None:
    with tcp_pair() as (one, _):
        quiet = native.tcp_info(one)
        assert quiet.notsent_bytes == 0
        assert 0 < quiet.rtt_s < 1
        fill(one)
        assert native.tcp_info(one).notsent_bytes > 65536


def test_tcp_info_of_a_closed_connection_is_an_error() -> None:
    with tcp_pair() as (one, _):
        one.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            native.tcp_info(one)


def test_a_sockets_state_tells_what_waits_in_it_and_what_it_threw_away() -> None:
    with tcp_pair() as (one, other):
        assert socket_state(one) == SocketState(0, 0)
        other.sendall(bytes(1234))
        assert socket_state(one) == SocketState(1234, 0)
        one.close()
        with pytest.raises(OSError, match="Bad file descriptor"):
            socket_state(one)
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as receiver,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
    ):
        receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        receiver.bind(("127.0.0.1", 0))
        for _ in range(100):
            sender.sendto(bytes(1000), receiver.getsockname())
        n_drops = socket_state(receiver).n_drops
        receiver.setblocking(False)
        n_received = 0
        with suppress(BlockingIOError):
            while receiver.recv(2000):
                n_received += 1
        assert n_drops == 100 - n_received > 0


def test_what_an_older_kernel_does_not_tell_reads_as_zero() -> None:
    with tcp_pair() as (one, _):
        fill(one)

        class OlderKernel:
            """Ends struct tcp_info as Linux 3.15 did, before tcpi_notsent_bytes."""

            def getsockopt(self, level: int, option: int, _length: int) -> bytes:
                return one.getsockopt(level, option, 104)

        info = native.tcp_info(cast("socket.socket", OlderKernel()))
        assert info.rtt_s > 0
        assert info.notsent_bytes == 0


# -- the address ------------------------------------------------------------------------------


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_all_paths_answer_on_either_family(gateway: Gateway, host: str) -> None:
    port = free_port()
    with serve(gateway, (host, port)):
        status, body, headers = ask(port, "/metrics", host=host)
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=")
        found = {family.name for family in text_string_to_metric_families(body)}
        assert {"fastun_info", "fastun_packets", "process_start_time_seconds"} <= found
        assert ask(port, "/healthz", host=host)[0] == 503
        set_up(gateway, is_ready=True)
        assert ask(port, "/healthz", host=host)[:2] == (200, "all workers run\n")
        assert ask(port, "/readyz", host=host)[:2] == (200, "ready\n")


def test_connect_is_ready_only_with_a_link() -> None:
    port = free_port()
    with (
        idle_gateway("connect", "tcp://192.0.2.1") as gateway,
        serve(gateway, ("127.0.0.1", port)),
    ):
        set_up(gateway, is_ready=True)
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/readyz")[:2] == (503, "no link\n")
        gateway.lane.workers["tun-writer"].is_ready = False
        assert ask(port, "/readyz")[:2] == (503, "not at work: tun-writer/0\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metricsx", "/favicon.ico", "/../healthz"])
def test_other_paths_are_not_found(gateway: Gateway, path: str) -> None:
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)):
        assert ask(port, path)[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_only_get_and_head_are_answered(gateway: Gateway, path: str) -> None:
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)):
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(port, path, method)[0] == 405
        status, body, _ = ask(port, path, "HEAD")
        assert (status, body) == (ask(port, path)[0], "")


def test_off_means_no_thread_and_no_socket(gateway: Gateway) -> None:
    before = set(Path("/proc/self/fd").iterdir())
    with serve(gateway, None):
        assert len(set(Path("/proc/self/fd").iterdir()) - before) <= 1  # that of iterdir itself


@contextmanager
def hanging(port: int, n: int = REQUESTS_MAX) -> Iterator[list[socket.socket]]:
    """Clients that have sent half a request."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(n)
        ]
        for client in clients:
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            client.setblocking(False)
        yield clients


def is_cut_off(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_when_all_threads_are_taken_the_oldest_client_goes(gateway: Gateway) -> None:
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)), ExitStack() as stack:
        n_threads = threading.active_count()
        assert ask(port, "/healthz")[0] == 503  # it is done with, and not the oldest any more
        wait_until(lambda: threading.active_count() == n_threads, "its thread is free again")
        clients = stack.enter_context(hanging(port))
        assert ask(port, "/metrics")[0] == 200
        assert [is_cut_off(client) for client in clients] == [True] + [False] * (REQUESTS_MAX - 1)
        n_hanging = n_threads + REQUESTS_MAX - 1
        wait_until(lambda: threading.active_count() == n_hanging, "the scrape's thread is free")
        with hanging(port, 2):
            wait_until(lambda: is_cut_off(clients[1]), "the next goes")
            assert not any(map(is_cut_off, clients[2:]))
            assert ask(port, "/metrics")[0] == 200
            assert is_cut_off(clients[2])


def test_of_too_many_the_source_that_has_most_loses_one(gateway: Gateway) -> None:
    port = free_port()
    with serve(gateway, ("0.0.0.0", port)), ExitStack() as stack:  # noqa: S104 (127.0.0.2, too)

        def hang(source: str) -> socket.socket:
            address = ("127.0.0.1", port)
            client = stack.enter_context(socket.create_connection(address, 5, (source, 0)))
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            client.setblocking(False)
            return client

        quiet = [hang("127.0.0.2") for _ in range(3)]
        crowd = [hang("127.0.0.3") for _ in range(REQUESTS_MAX - 3 + 20)]
        wait_until(lambda: all(map(is_cut_off, crowd[:20])), "the oldest of the crowd go")
        assert not any(map(is_cut_off, [*quiet, *crowd[20:]]))
        assert ask(port, "/metrics")[0] == 200


def test_a_source_that_is_not_this_host_has_a_rate() -> None:
    server = metric_server._bind("127.0.0.1", 0)  # noqa: SLF001 (other hosts are not at hand)
    with server:
        for here in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            assert all(server.verify_request(None, (here, 1)) for _ in range(500))
        for elsewhere in ("192.0.2.1", "fe80::1%lo"):
            n_passed = sum(server.verify_request(None, (elsewhere, 1)) for _ in range(500))
            assert 100 <= n_passed <= 110
        assert server.verify_request(None, ("192.0.2.2", 1))


def test_a_client_has_its_time_however_steadily_it_sends(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastun.metrics.server.REQUEST_TIMEOUT_S", 0.5)
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)), hanging(port, 3) as clients:
        deadline = time.monotonic() + 5
        while not all(map(is_cut_off, clients)):
            assert time.monotonic() < deadline
            for client in clients:
                with suppress(OSError):  # it is cut off
                    client.sendall(b"x")
            time.sleep(0.05)
        assert ask(port, "/metrics")[0] == 200


def test_without_a_descriptor_left_the_server_waits_and_does_not_spin(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_tried = 0
    get_request = socketserver.TCPServer.get_request

    def count(self: socketserver.TCPServer) -> object:
        nonlocal n_tried
        n_tried += 1
        return get_request(self)

    monkeypatch.setattr(socketserver.TCPServer, "get_request", count)
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)), socket.socket() as client:
        with no_descriptor_left():
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            time.sleep(0.5)
        assert 1 < n_tried < 20
        client.settimeout(5)
        assert client.recv(12) == b"HTTP/1.0 503"


def test_leaving_takes_no_time_and_frees_the_port(gateway: Gateway) -> None:
    port = free_port()
    with ExitStack() as stack:
        with serve(gateway, ("127.0.0.1", port)):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            began = time.monotonic()
        assert time.monotonic() - began < 0.2
        with serve(gateway, ("127.0.0.1", port)):
            assert ask(port, "/metrics")[0] == 200


@pytest.mark.parametrize(
    ("host", "what"),
    [
        ("192.0.2.1", "no interface of this host has that address"),
        ("does-not-exist.invalid", "the host cannot be resolved"),
    ],
)
def test_an_address_that_cannot_be_had_is_one_line(gateway: Gateway, host: str, what: str) -> None:
    with (
        pytest.raises(RuntimeFailure, match=rf"^--metrics {host}:10055: {what}.*;"),
        serve(gateway, (host, 10055)),
    ):
        pass


def test_a_port_in_use_is_one_line(gateway: Gateway) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(RuntimeFailure, match=rf"^--metrics \[::1\]:{port}: the port is in use;"),
            serve(gateway, ("::1", port)),
        ):
            pass
