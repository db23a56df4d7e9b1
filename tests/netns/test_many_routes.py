"""Routes by the ten thousands: made, compared and gone in seconds."""

from __future__ import annotations

import os
import socket
import time
from ipaddress import IPv4Network, IPv6Network, ip_interface
from typing import TYPE_CHECKING

import pytest

from fastun import native
from fastun.host.reconcile import Reconciler
from fastun.host.wanted import Wanted
from fastun.native import Mode
from tests.support.pushed_device import JOURNAL, settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab
    from fastun.peers.peer import Network


def networks(n: int) -> Iterator[Network]:
    """Half of them of each IP version, without neighbours that could be merged."""
    for i in range(n // 2):
        yield IPv4Network(((11 << 24) + (i << 8), 28))
        yield IPv6Network(((0xFD << 120) + (i << 64), 64))


@pytest.mark.parametrize(
    ("n", "limit_s"), [(10_000, 3.0), pytest.param(130_560, 15.0, marks=pytest.mark.soak)]
)
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
