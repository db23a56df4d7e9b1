"""Limits are per source first, then overall: in the data path.

What one peer, or a stranger, can use up belongs to it alone: answers by ICMP, cookie replies, room
in the link-writer's queues, the first packets behind a hello.
"""

from __future__ import annotations

import errno
import itertools
import os
import socket
import struct
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab import tunnel as lab_tunnel
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping, iperf3
from fastun.lab.tunnel import PORT, SERVER_ADDRESSES, UDP_PORT, add_peer, start_gateway
from fastun.native import has_aes_instructions
from tests.fault.test_udp_flood import forged, forged_source, initiation, raw_socket, server_key
from tests.netns.test_path_mtu import INNER_MTU, NARROW_MTU, end, path_mtu, routed
from tests.support.compressed_time import gateway_with
from tests.support.hasty_client import add_clients, greet, udp_packet

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Transport
    from tests.conftest import StartTunnel

SERVER_INNER = "10.99.0.1"
ABSENT = "10.99.0.77"
IP_RECVERR, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE = 11, 10, 3  # linux/in.h
MIB = 1 << 20
N_TIMES = 12  # that 300 packets come behind a hello

# A gateway that makes new keys after 32 MiB under AES-256-GCM, in place of 192 GiB.
FEW_BLOCKS = gateway_with(rekey_after_blocks=2**20, rekey_timeout_s=0.2, jitter_s=0.01)

# Timers a hundred times as fast, and a look each moment at the oldest keys that Python has.
# By references of its own: gc.get_objects() in a second thread shows tuples that are not finished,
# and CPython then refuses to finish them (SystemError).
WATCHED = """
import os, sys, threading, time, weakref
from fastun.gateway import run as gateway
from fastun.session import clock, transport
from fastun.session.timer_constants import TimerConstants
run, constants = gateway.run, TimerConstants(
    rekey_after_time_s=0.5, reject_after_time_s=1.5, rekey_timeout_s=0.1, jitter_s=0.01,
)
made = []
class Watched(transport.SessionKeys):
    __slots__ = ("__weakref__",)
    def __new__(cls, *fields):
        keys = super().__new__(cls)
        made.append(weakref.ref(keys))
        return keys
transport.SessionKeys = Watched
def watched(settings, **more):
    # Opened while the gateway may still write files.
    file = open(os.environ["FASTUN_AGES"] + str(os.getpid()), "a")
    threading.Thread(target=watch, args=(file,), daemon=True).start()
    run(settings, constants, **more)
gateway.run = watched
def age_s(keys):
    now_s = clock.boottime_s()
    return now_s - getattr(keys, "created_s", now_s)  # None: gone; without the field: being made
def watch(file):
    while True:
        time.sleep(0.1)
        ages = [age_s(each()) for each in tuple(made)]
        print(max(ages, default=0.0), file=file, flush=True)
from fastun.command.cli import main
main()
"""


@contextmanager
def repeating(per_second: float, send: Callable[[], object]) -> Iterator[list[int]]:
    """Call ``send`` at a rate in a thread; the list has how often in it."""
    stopped, n_sent = threading.Event(), [0]
    started = time.monotonic()

    def run() -> None:
        while not stopped.wait(0.001):
            while n_sent[0] < (time.monotonic() - started) * per_second:
                send()
                n_sent[0] += 1

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield n_sent
    finally:
        stopped.set()
        thread.join()


def dropped(gateway: GatewayProcess, *reasons: str) -> float:
    scrape = gateway.scrape()
    return sum(scrape.total("fastun_dropped_packets_total", reason=reason) for reason in reasons)


# -- ICMP answers -----------------------------------------------------------------------------


def count_answers(sender: socket.socket) -> int:
    """Read the "fragmentation needed" that the kernel has for a socket."""
    n_answered = 0
    while True:
        try:
            _, ancillary, *_ = sender.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
        except BlockingIOError:
            return n_answered
        for _, kind, data in ancillary:
            if kind == IP_RECVERR:
                number, *_, mtu = struct.unpack_from("=IBBBBI", data)
                n_answered += number == errno.EMSGSIZE and mtu == INNER_MTU


@pytest.mark.alone
@pytest.mark.parametrize("per_second", [190, pytest.param(3000, marks=pytest.mark.soak)])
def test_forty_of_forty_get_too_big_beside_a_flood_to_an_absent_peer(
    lab: Lab, tmp_path: Path, per_second: int
) -> None:
    pair = routed(lab, tmp_path, NARROW_MTU)
    server = pair.server
    add_clients(server.log_file.parent, [ABSENT])
    wait_until(lambda: path_mtu(server) == NARROW_MTU, "the server knows the path", timeout_s=20)
    with (
        server.host.socket(kind=socket.SOCK_DGRAM) as flooding,
        server.host.socket(kind=socket.SOCK_DGRAM) as sender,
    ):
        # PROBE: "don't fragment", and what the kernel has learned is not heeded.
        sender.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_PROBE)
        sender.setsockopt(socket.IPPROTO_IP, IP_RECVERR, 1)
        n_answered = 0
        with repeating(per_second, lambda: flooding.sendto(b"x", (ABSENT, 9))) as n_flood:
            time.sleep(0.5)
            for _ in range(40):
                sender.sendto(bytes(1372), ("10.99.0.2", 9))
                time.sleep(0.02)
                n_answered += count_answers(sender)
        n_answered += count_answers(sender)
    print(f"{n_answered} of 40 given, beside {n_flood[0]} packets to an absent peer")  # noqa: T201
    assert n_flood[0] > 100
    assert n_answered == 40
    assert dropped(server, "exceeds_path_mtu_unanswered") == 0
    end(pair)


# -- data behind the hello ----------------------------------------------------------------------


@pytest.fixture
def serving(lab: Lab, tmp_path: Path) -> Iterator[tuple[GatewayProcess, Host]]:
    """A server on TCP, and a host beside it."""
    server, outside = lab.host("server"), lab.host("outside")
    lab.wire(server, outside, ["10.0.0.1/24"], ["10.0.0.2/24"])
    listen = ("--listen", f"tcp://10.0.0.1:{PORT}")
    gateway = start_gateway(
        server, tmp_path, "serve", *listen, wire="wireguard", addresses=SERVER_ADDRESSES
    )
    wait_until(lambda: server.listens(PORT), "the server listens", timeout_s=15)
    yield gateway, outside
    print(*gateway.log_tail(20), sep="\n")  # noqa: T201
    assert gateway.stop() == 0


def greeting_soon(
    host: Host, key: bytes, own: object, data: list[bytes], patience_s: float = 10
) -> socket.socket:
    """Greet as soon as the server knows who it is: it reads its directory now and then."""
    deadline = time.monotonic() + patience_s
    while True:
        try:
            return greet(host, ("10.0.0.1", PORT), key, own, data)  # type: ignore[arg-type]
        except (OSError, struct.error, TypeError, ValueError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def test_of_300_packets_right_behind_the_hello_none_is_lost(
    serving: tuple[GatewayProcess, Host],
) -> None:
    gateway, outside = serving
    key, (own,) = add_clients(gateway.log_file.parent, ["10.99.0.20"])
    data = [udp_packet("10.99.0.20", SERVER_INNER, bytes([n % 256])) for n in range(300)]
    lost = []
    n_before = gateway.scrape().total("fastun_packets_total", role="link-reader")
    for n in range(N_TIMES):
        with greeting_soon(outside, key, own, data):
            wait_until(
                lambda n=n: (
                    gateway.scrape().total("fastun_packets_total", role="link-reader")
                    >= n_before + 300 * (n + 1)
                ),
                "all have come",
            )
            lost.append(dropped(gateway, "unknown_index"))
        time.sleep(0.1)
    print(f"lost of 300, {N_TIMES} times: {lost[-1]:.0f}")  # noqa: T201
    assert lost == [0.0] * N_TIMES
    wait_until(
        lambda: gateway.scrape().total("fastun_packets_total", role="tun-writer") >= 300 * N_TIMES,
        "all are in the device",
    )


# -- cookie replies -----------------------------------------------------------------------------


def udp_port(host: Host) -> int:
    """Return the one that a client's gateway has chosen."""
    lines = host.run("ss", "-uanH").stdout.splitlines()
    (port,) = {int(line.split()[3].rpartition(":")[2]) for line in lines}
    return port


@pytest.mark.alone
def test_cookie_replies_without_a_question_keep_no_real_one_out(
    lab: Lab, hosts: tuple[Host, Host], tmp_path: Path, tunnel: StartTunnel
) -> None:
    """The server is under load, so that a cookie is needed; the client is flooded with false ones.

    An attempt that is asked for a cookie is made again after 5 s; 16 s are for three.
    """
    server, stranger, second = hosts[0], lab.host("stranger"), lab.host("second")
    lab.wire(server, stranger, ["10.0.9.1/24"], ["10.0.9.2/24"])
    lab.wire(server, second, ["10.0.8.1/24"], ["10.0.8.2/24"])
    pair = tunnel(transport="udp", server_arguments=("--listen", f"udp://10.0.9.1:{UDP_PORT}"))
    file = add_peer(pair.server, "second", "10.0.0.1", "udp")
    client = start_gateway(second, tmp_path, "connect", str(file), wire="wireguard")
    wait_until(lambda: second.listens(10055), "the second runs", timeout_s=15)
    port, key = udp_port(second), server_key(pair)
    questions = [forged(initiation(key), forged_source(n)) for n in range(3000)]
    replies = [
        udp_packet(forged_source(n), "10.0.8.2", b"\x03\0\0\0" + os.urandom(60), port=port)
        for n in range(3000)
    ]
    with raw_socket(stranger) as asking, raw_socket(server) as replying:
        asking.connect(("10.0.9.1", 0))
        replying.connect(("10.0.8.2", 0))
        ask, reply = iter_forever(questions, asking), iter_forever(replies, replying)
        with repeating(3000, ask), repeating(10_000, reply) as n_replies:
            time.sleep(1)
            second.ip("route", "add", "default", "via", "10.0.8.1")  # from now on it can ask
            started = time.monotonic()
            wait_until(lambda: answers_ping(second, SERVER_INNER), "it connects", timeout_s=16)
            took_s = time.monotonic() - started
    asked = dropped(pair.server, "cookie_sent", "cookie_not_sent")
    unasked = dropped(client, "cookie_unasked")
    print(f"connected after {took_s:.1f} s; {n_replies[0]} false replies, {unasked:.0f} counted")  # noqa: T201
    assert asked > 300
    assert unasked > 0.5 * n_replies[0]
    assert dropped(client, "handshake_flood") == 0
    assert client.stop() == 0


def iter_forever(packets: list[bytes], sender: socket.socket) -> Callable[[], object]:
    """Return what sends the next packet."""
    following = itertools.cycle(packets)
    return lambda: sender.send(next(following))


# -- old keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("transport", ["tcp", pytest.param("udp", marks=pytest.mark.soak)])
def test_no_key_is_kept_for_longer_than_three_times_its_life(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tunnel: StartTunnel, transport: Transport
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", (sys.executable, "-c", WATCHED))
    monkeypatch.setenv("FASTUN_AGES", str(tmp_path / "ages"))
    pair = tunnel(transport=transport)

    def rekeys() -> float:
        return pair.client.scrape().total("fastun_rekeys_total")

    pinging = pair.client.host.spawn("ping", "-q", "-i0.05", pair.server.inner_address)
    time.sleep(5)  # the oldest of them are thrown away meanwhile
    wait_until(lambda: rekeys() > 5, "new keys, six times", timeout_s=30)
    pinging.kill()
    oldest = {
        path.name: max(map(float, path.read_text(encoding="ascii").split()))
        for path in tmp_path.glob("ages*")
    }
    print(f"{rekeys():.0f} rekeys; the oldest keys, seconds: {oldest}")  # noqa: T201
    assert len(oldest) == 2
    assert max(oldest.values()) < 4.5


@pytest.mark.skipif(not has_aes_instructions(), reason="AES-256-GCM is not offered here")
@pytest.mark.parametrize("transport", ["tcp", pytest.param("udp", marks=pytest.mark.soak)])
def test_who_sends_much_under_aes_makes_new_keys_from_either_side(
    monkeypatch: pytest.MonkeyPatch, tunnel: StartTunnel, transport: Transport
) -> None:
    monkeypatch.setattr(lab_tunnel, "FASTUN", FEW_BLOCKS)
    pair = tunnel(transport=transport)
    client, server = pair.client, pair.server

    def rekeys() -> float:
        return server.scrape().total("fastun_rekeys_total")

    # A host sends to its new device before there is a session, too.
    lost = [dropped(gateway, "no_session", "unknown_index") for gateway in (client, server)]
    for is_reverse in (False, True):  # the server is the session's responder at first
        before, n_loads = rekeys(), 0
        while rekeys() == before:  # the gateway looks at the counts twice a second
            assert (n_loads := n_loads + 1) <= 10
            iperf3(
                *(client.host, server.host, pair.server.inner_address),
                duration_s=1,
                reverse=is_reverse,
            )
    for gateway, before in zip((client, server), lost, strict=True):
        assert dropped(gateway, "no_session", "unknown_index") == before


# -- memory -------------------------------------------------------------------------------------


def resident_mib(host: Host, worker: str) -> float:
    """Return what a worker has in memory; its rings' pages are counted as well."""
    (pid,) = (
        pid
        for pid in host.pids()
        if worker in Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8", errors="replace")
    )
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


def test_what_is_kept_for_peers_that_do_not_read_is_bounded(
    serving: tuple[GatewayProcess, Host],
) -> None:
    """60 of them; alone each may have 2 MiB. Of 1,024 tests/native/test_queue_memory.c says."""
    gateway, outside = serving
    addresses = [f"10.99.0.{100 + n}" for n in range(60)]
    key, owners = add_clients(gateway.log_file.parent, addresses)
    connections = [greeting_soon(outside, key, own, []) for own in owners]
    before = resident_mib(gateway.host, "link-writer")
    with gateway.host.socket(kind=socket.SOCK_DGRAM) as sender:
        for _ in range(2500):  # 3.3 MB to each
            for address in addresses:
                sender.sendto(bytes(1372), (address, 9))
    grown = resident_mib(gateway.host, "link-writer") - before
    n_dropped = dropped(gateway, "link_full")
    print(f"{len(addresses)} peers that do not read: {grown:.1f} MiB, {n_dropped:.0f} dropped")  # noqa: T201
    assert n_dropped > 0
    assert grown < 75  # 56 MiB are the pool, 4 the shares, 8 the ring that is mapped twice
    for connection in connections:
        connection.close()
