"""A link in the middle of the way that takes less than the ends know of.

client                 router                 server
10.1.0.2 ===1500=== 10.1.0.1 | 10.2.0.1 ===1280 or 1500=== 10.2.0.2
ft0 10.99.0.2 ................tunnel................ ft0 10.99.0.1

The router tells senders by ICMP, unless it is silenced, and fastun tells those inside.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import ping
from fastun.lab.tunnel import start_tunnel
from tests.support.promised import promised_s
from tests.support.scrapes import assert_adds_up, quiesced
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess, Tunnel
    from tests.support.figures import Figures

NARROW_MTU = 1280
# Outside a packet over IPv4: its header, UDP's, and the data message's own and tag.
OUTER_BYTES = 20 + 8 + 32
INNER_MTU = NARROW_MTU - OUTER_BYTES


def silence(router: Host) -> None:
    """Drop what the router says of packets that are too long: a black hole for them."""
    router.run("nft", "add", "table", "inet", "firewall")
    chain = "{ type filter hook output priority 0; }"
    router.run("nft", "add", "chain", "inet", "firewall", "output", chain)
    for said in ("icmp type destination-unreachable", "icmpv6 type packet-too-big"):
        router.run("nft", "add", "rule", "inet", "firewall", "output", *said.split(), "drop")


def routed(
    lab: Lab,
    directory: Path,
    mtu: int,
    *,
    mode: str = "tun",
    is_silent: bool = False,
    outer: int = 4,
) -> Tunnel:
    """A tunnel whose way goes over a link of `mtu` on the server's side of a router."""
    client, router, server = (lab.host(f"{name}{mtu}") for name in "crs")
    lab.wire(client, router, ["10.1.0.2/24", "fd01::2/64"], ["10.1.0.1/24", "fd01::1/64"])
    lab.wire(router, server, ["10.2.0.1/24", "fd02::1/64"], ["10.2.0.2/24", "fd02::2/64"], mtu=mtu)
    router.sysctl("net.ipv4.ip_forward", 1)
    router.sysctl("net.ipv6.conf.all.forwarding", 1)
    for host, via in ((client, "10.1.0.1"), (server, "10.2.0.1")):
        host.ip("route", "add", "default", "via", via)
    for host, via in ((client, "fd01::1"), (server, "fd02::1")):
        host.ip("-6", "route", "add", "default", "via", via)
    if is_silent:
        silence(router)
    address = {4: "10.2.0.2", 6: "fd02::2"}[outer]
    pair = start_tunnel(server, client, address, directory, transport="udp", mode=mode)
    pair.wait_up()
    return pair


def path_mtu(gateway: GatewayProcess) -> float:
    return gateway.scrape().total("fastun_peer_path_mtu_bytes")


def seconds_to_move(pair: Tunnel, address: str, n_bytes: int) -> float:
    transfer = start_transfer(pair.client.host, pair.server.host, address, n_bytes=n_bytes)
    done = transfer.result(timeout=120)
    assert done.is_exact
    return done.received.duration_s


@pytest.fixture
def narrow(lab: Lab, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Tunnel]:
    pair = routed(lab, tmp_path, NARROW_MTU, mode=getattr(request, "param", "tun"))
    yield pair
    end(pair)


def end(pair: Tunnel) -> None:
    for gateway in (pair.client, pair.server):
        print(f"--- {gateway.role} log", *gateway.log_tail(20), sep="\n")  # noqa: T201 (as in conftest)
        gateway.check_alive()
        assert gateway.stop() == 0


@pytest.mark.parametrize(
    ("n_megabytes", "factor"),
    [pytest.param(20, 8, id="20 MB"), pytest.param(100, 3, id="100 MB", marks=pytest.mark.soak)],
)
def test_a_narrow_way_carries_at_nearly_the_speed_of_a_wide_one(
    lab: Lab, tmp_path: Path, narrow: Tunnel, n_megabytes: int, factor: float
) -> None:
    wide = routed(lab, tmp_path, 1500)
    # No IPv6 packet may be given to be shorter than 1280: those travel in fragments.
    inner = {narrow.server.inner_address: factor, narrow.server.inner_address_v6: 4 * factor}
    for address, most in inner.items():
        took = [
            [seconds_to_move(pair, address, n_megabytes * 10**6) for pair in (wide, narrow)]
            for _ in range(2)
        ]
        wide_s, narrow_s = (min(seconds) for seconds in zip(*took, strict=True))
        print(f"to {address}: {narrow_s / wide_s:.1f} times as long")  # noqa: T201
        assert narrow_s < most * wide_s
    assert path_mtu(narrow.client) == NARROW_MTU
    assert path_mtu(wide.client) == 1500
    for gateway in (narrow.client, narrow.server):
        assert_adds_up(quiesced(gateway))


def test_senders_inside_learn_what_fits_and_others_are_carried_in_fragments(
    narrow: Tunnel,
) -> None:
    client, inner = narrow.client.host, narrow.server.inner_address
    # The first that does not fit is lost to the router, which tells; one more when probes agree.
    client.run("ping", "-c5", "-i0.3", "-W1", "-M", "do", "-s", "1380", inner, check=False)
    wait_until(lambda: path_mtu(narrow.client) == NARROW_MTU, "the path is known")
    done = client.run("ping", "-c1", "-W1", "-M", "do", "-s", "1380", inner, check=False)
    assert f"mtu={INNER_MTU}\n" in done.stderr  # "local error: message too long"
    fitting = str(INNER_MTU - 28)
    assert "1 received" in client.run("ping", "-c1", "-M", "do", "-s", fitting, inner).stdout
    # Without "don't fragment"; ping would heed what the kernel has learned, though.
    client.ip("route", "flush", "cache")
    client.sysctl("net.ipv4.ip_no_pmtu_disc", 1)
    assert ping(client, inner, n=5, size_bytes=1380).n_received == 5
    # Over IPv6 each side is given once, and cuts the packets itself from then on.
    inner = narrow.server.inner_address_v6
    client.run("ping", "-c3", "-i0.2", "-W1", "-s", "1380", inner, check=False)
    assert ping(client, inner, n=5, size_bytes=1380).n_received == 5


def n_fragments(host: Host) -> int:
    """Return how many IPv4 fragments the host has received."""
    text = host.inside(Path("/proc/net/snmp").read_text)
    names, values = (line.split() for line in text.splitlines() if line.startswith("Ip:"))
    return int(values[names.index("ReasmReqds")])


@pytest.mark.parametrize("narrow", ["tap"], indirect=True)
def test_ethernet_frames_whose_senders_cannot_learn_it_go_in_pieces_and_not_in_fragments(
    narrow: Tunnel,
) -> None:
    client, server = narrow.client.host, narrow.server.host
    client.run("ping", "-c5", "-i0.3", "-W1", "-s", "1440", "10.99.0.1", check=False)
    for gateway in (narrow.client, narrow.server):
        wait_until(lambda g=gateway: path_mtu(g) == NARROW_MTU, "the path is known")
    before = n_fragments(client), n_fragments(server)
    for inner in (narrow.server.inner_address, narrow.server.inner_address_v6):
        done = start_transfer(client, server, inner, n_bytes=5 * 10**6).result(timeout=60)
        assert done.is_exact
        assert ping(client, inner, n=5, size_bytes=1440).n_received == 5
    assert (n_fragments(client), n_fragments(server)) == before
    for gateway in (narrow.client, narrow.server):
        assert_adds_up(quiesced(gateway))


@pytest.mark.promise("A path that becomes narrower and says nothing is found out within 10 s")
@pytest.mark.parametrize("outer", [4, 6])
def test_a_way_that_swallows_what_is_too_long_is_found_out_by_probes(
    lab: Lab, tmp_path: Path, outer: int, figures: Figures
) -> None:
    pair = routed(lab, tmp_path, NARROW_MTU, is_silent=True, outer=outer)
    began_s = time.monotonic()
    ends = pair.client.host, pair.server.host
    transfer = start_transfer(*ends, pair.server.inner_address, n_bytes=20 * 10**6)
    limit_s = promised_s(10)
    wait_until(lambda: path_mtu(pair.client) == NARROW_MTU, "the path is known", timeout_s=limit_s)
    figures.worst("found out after", time.monotonic() - began_s, "s")
    assert transfer.result(timeout=120).is_exact
    for gateway in (pair.client, pair.server):
        assert path_mtu(gateway) == NARROW_MTU
    # The server's own link is narrow, which its kernel knows; the client's kernel got nothing.
    assert "path MTU lowered" in "\n".join(pair.client.log_tail(40))
    assert "mtu" not in pair.client.host.ip("route", "get", "10.2.0.2")
    if outer == 4:  # the router cuts what may not be given to be shorter; of IPv6 it cuts nothing
        inner = pair.server.inner_address_v6
        pair.client.host.run("ping", "-c2", "-i0.2", "-W1", "-s", "1380", inner, check=False)
        assert ping(pair.client.host, inner, n=5, size_bytes=1380).n_received == 5
    end(pair)
