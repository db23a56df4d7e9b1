"""Allowed IPs by the ten thousands: their routes are made, compared and gone in seconds."""

from __future__ import annotations

import os
import socket
import time
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import TYPE_CHECKING

import pytest

from fastun import native
from fastun.config import wg_quick
from fastun.config.document import Document, InterfaceSection, PeerSection, Secret
from fastun.host.reconcile import Reconciler
from fastun.host.wanted import Wanted
from fastun.native import Mode
from fastun.session import keys
from tests.support.pushed_device import JOURNAL, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.peers.peer import Network
    from tests.support.unanswered import Connect


def networks(n: int) -> Iterator[Network]:
    """Half of them of each IP version, without neighbours that could be merged."""
    for i in range(n // 2):
        yield IPv4Network(((11 << 24) + (i << 8), 28))
        yield IPv6Network(((0xFD << 120) + (i << 64), 64))


SIZES = [(10_000, 3.0), pytest.param(130_560, 15.0, marks=pytest.mark.soak)]


@pytest.mark.alone
@pytest.mark.parametrize(("n", "limit_s"), SIZES)
def test_a_client_with_so_many_allowed_ips_is_up_and_gone_in_seconds(
    client: Host, connect: Connect, n: int, limit_s: float
) -> None:
    private, public = keys.generate_private(), keys.public_of(keys.generate_private())
    text = wg_quick.write(
        Document(
            interface=InterfaceSection(
                address=("10.9.0.2/24",), private_key=Secret(keys.format_key(private))
            ),
            peer=(
                PeerSection(
                    public_key=keys.format_key(public),
                    endpoint="udp://192.0.2.1:51820",
                    allowed_ips=tuple(map(str, networks(n))),
                ),
            ),
        )
    )
    began = time.monotonic()
    process = connect(text)
    lasted_s = time.monotonic() - began
    assert len(client.ip("route", "show", "dev", "wg0").splitlines()) == n // 2 + 1
    assert len(client.ip("-6", "route", "show", "dev", "wg0").splitlines()) == n // 2
    began = time.monotonic()
    process.terminate()
    assert process.wait(30) == 0
    ended_s = time.monotonic() - began
    print(f"{n} allowed IPs: up after {lasted_s:.2f} s, gone after {ended_s:.2f} s")  # noqa: T201
    assert max(lasted_s, ended_s) < limit_s


@pytest.mark.parametrize(("n", "limit_s"), SIZES)
def test_so_many_routes_are_made_compared_and_gone_in_seconds(
    lab: Lab, n: int, limit_s: float
) -> None:
    host = lab.host("client")
    wanted = Wanted(mtu=1420, addresses=(ip_interface("10.9.0.2/24"),), routes=(*networks(n),))
    host.inside(lambda: make(host, wanted, limit_s))


def make(host: Host, wanted: Wanted, limit_s: float) -> None:
    fd = native.device_open("ft0", Mode.TUN)
    try:
        reconciler = Reconciler(socket.if_nametoindex("ft0"), settings(table="auto"), JOURNAL)
        began = time.monotonic()
        applied = reconciler.apply(wanted)
        assert applied.refused == ()
        assert len(applied.made) == len(wanted.routes) + 1
        assert time.monotonic() - began < limit_s
        host.ip("-6", "route", "flush", "dev", "ft0", "fd00:0:0:7::/64")
        host.ip("route", "flush", "dev", "ft0", "11.0.7.0/28")
        began = time.monotonic()
        again = reconciler.apply(wanted)
        assert {change.item for change in again.made} == {"11.0.7.0/28", "fd00:0:0:7::/64"}
        assert time.monotonic() - began < limit_s
    finally:
        began = time.monotonic()
        os.close(fd)
    assert time.monotonic() - began < limit_s
