"""What a real kernel reports of its host, and what of it can concern a tunnel."""

from __future__ import annotations

import asyncio
import errno
import shlex
import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.host.netlink.notices import Concern, Filter, Notices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

TABLE = "fastun_ft0"


@pytest.fixture
def host(lab: Lab) -> Host:
    """One with a device of ours, ft0, and another one, eth0."""
    host = lab.host("host")
    for name in ("ft0", "eth0"):
        host.ip("tuntap", "add", name, "mode", "tun")
        host.ip("link", "set", name, "up")
    host.ip("address", "add", "10.9.0.2/24", "dev", "ft0")
    for network in ("10.7.0.0/16", "10.8.0.0/16"):
        host.ip("route", "add", network, "dev", "ft0", "proto", "157")
    host.ip("rule", "add", "fwmark", "1", "table", "51820", "priority", "100", "proto", "157")
    host.ip("rule", "add", "fwmark", "2", "table", "51820", "priority", "101")
    host.run("nft", f"add table inet {TABLE}; add chain inet {TABLE} a; add table inet others")
    return host


@pytest.fixture
def notices(host: Host) -> Iterator[Notices]:
    with host.inside(Notices) as made:
        yield made


def index_of(host: Host, name: str) -> int:
    return int(host.ip("-o", "link", "show", name).partition(":")[0])


def meant(host: Host, notices: Notices) -> Concern:
    """Return what the reports since the last time mean."""
    wanted = {ip_network("10.7.0.0/16"), ip_network("0.0.0.0/0")}
    time.sleep(0.05)  # nftables reports a moment later
    return notices.read(Filter(index_of(host, "ft0"), lambda: (TABLE,), lambda: wanted).concern)


@pytest.mark.parametrize(
    ("command", "concern"),
    [
        ("ip link set ft0 down", Concern.OURS),
        ("ip route del 10.8.0.0/16", Concern.OURS),
        ("ip route replace 10.7.0.0/16 dev eth0", Concern.OURS),
        ("ip rule del priority 100", Concern.OURS),
        ("ip address del 10.9.0.2/24 dev ft0", Concern.OURS | Concern.OTHERS),
        ("ip address add 10.5.0.1/24 dev eth0", Concern.OTHERS),
        ("nft delete table inet fastun_ft0", Concern.TABLE),
        ("nft flush ruleset", Concern.TABLE),
        ("nft add rule inet fastun_ft0 a accept", Concern.TABLE),
        ("ip link set eth0 down", Concern.NONE),
        ("ip route add 10.6.0.0/16 dev eth0", Concern.NONE),
        ("ip route replace 10.6.0.0/16 dev eth0", Concern.NONE),
        ("ip route add 10.6.0.0/16 dev ft0", Concern.NONE),
        ("ip rule del priority 101", Concern.NONE),
        ("nft delete table inet others", Concern.RULES),
    ],
)
def test_only_what_concerns_the_tunnel_is_looked_into(
    host: Host, notices: Notices, command: str, concern: Concern
) -> None:
    assert meant(host, notices) is Concern.NONE
    host.run(*shlex.split(command))
    found = meant(host, notices)
    assert found & concern if concern else found is Concern.NONE, found
    assert not found & ~(concern | Concern.OTHERS | Concern.RULES)


def test_reports_that_were_lost_may_mean_anything(
    host: Host, notices: Notices, tmp_path: Path
) -> None:
    """The queue overflows with what does not concern us."""
    batch = tmp_path / "batch"
    lines = (
        f"route {verb} 10.6.{n // 250}.{n % 250} dev eth0\n"
        for verb in ("add", "del")
        for n in range(4000)
    )
    batch.write_text("".join(lines))
    host.ip("-batch", str(batch))
    assert Concern.OURS in meant(host, notices)
    assert meant(host, notices) is Concern.NONE


def test_waiting_ends_with_a_report_and_without_one(host: Host, notices: Notices) -> None:
    async def waited_s(timeout_s: float) -> float:
        started = time.monotonic()
        await notices.wait(timeout_s)
        return time.monotonic() - started

    assert asyncio.run(waited_s(0.1)) >= 0.1
    host.ip("link", "set", "ft0", "down")
    assert asyncio.run(waited_s(30)) < 5


class Refusing:
    """A socket without memory."""

    proto, n_asked = 0, 0

    def recv(self, _: int) -> bytes:
        self.n_asked += 1
        raise OSError(errno.ENOBUFS, "No buffer space available")


def test_a_socket_that_refuses_is_not_read_on_and_on() -> None:
    with Notices() as notices:
        refusing = Refusing()
        really = vars(notices)["_sockets"]
        vars(notices)["_sockets"] = [refusing]
        try:
            assert notices.read(lambda _: Concern.NONE) is Concern.OURS
        finally:
            vars(notices)["_sockets"] = really
    assert refusing.n_asked < 10
