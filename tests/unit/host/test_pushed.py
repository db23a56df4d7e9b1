"""What a push makes of a device, against a kernel of dictionaries: made, refused, taken back.

tests/attack/test_pushed_settings.py asks the real one.
"""

from __future__ import annotations

import socket

import pytest

from fastun.host.routing.routing_rules import PROTOCOL
from tests.support.fake_kernel import FT0, LAN, MAIN, FakeKernel
from tests.support.pushed_device import MARK, Client

pytestmark = pytest.mark.usefixtures("kernel")


# -- what others have -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "route",
    ["192.168.77.0/24", "192.168.77.0/25", "192.168.77.9/32", "fd77::/64", "fd77::9/128"],
)
def test_a_route_that_would_beat_a_lan_is_refused_unless_it_is_named(
    kernel: FakeKernel, route: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Client("0.0.0.0/0", "::/0", "192.168.77.0/26").push(route)
    assert kernel.routes_of() == set()
    (said,) = capsys.readouterr().err.splitlines()
    assert route in said
    assert "on lan" in said
    assert "add exactly this prefix to allowed_ips" in said
    if route not in ("192.168.77.0/24", "fd77::/64"):  # which the LAN is itself
        Client(route).push(route)
        assert kernel.routes_of() == {(route, MAIN)}


def test_an_equal_route_that_is_named_does_not_replace_the_lans_and_stops_no_other(
    kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    Client("192.168.77.0/24", "10.0.0.0/8").push("192.168.77.0/24", "10.0.0.0/8")
    assert kernel.routes_of() == {("10.0.0.0/8", MAIN)}
    assert "another interface of this host has it already" in capsys.readouterr().err


@pytest.mark.parametrize(
    "route", ["192.168.0.0/16", "192.168.76.0/23", "10.0.0.0/8", "fd00::/8", "192.168.78.0/24"]
)
def test_a_route_that_covers_a_lan_or_lies_beside_it_is_made(
    kernel: FakeKernel, route: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Client().push(route)
    assert kernel.routes_of() == {(route, MAIN)}
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("other", "index", "route", "is_made"),
    [
        ("10.9.0.0/16", 0, "10.9.1.0/24", False),  # a blackhole
        ("0.0.0.0/1", LAN, "10.9.1.0/24", True),  # half of another tunnel's default route
        ("0.0.0.0/1", LAN, "0.0.0.0/1", False),
        ("8000::/1", LAN, "fd00:9::/64", True),
        ("::/0", LAN, "fd00:9::/64", True),
        ("2000::/3", LAN, "2001:db8::/32", True),
        ("2000::/4", LAN, "2001:db8::/32", False),
        ("10.9.0.0/16", FT0, "10.9.1.0/24", True),
    ],
)
def test_what_counts_as_a_network_of_another_interface(
    kernel: FakeKernel, other: str, index: int, route: str, *, is_made: bool
) -> None:
    kernel.have_route(other, index)
    before = kernel.routes_of()
    Client().push(route)
    assert (kernel.routes_of() != before) == is_made


def test_a_route_by_several_ways_counts_unless_all_are_ours(kernel: FakeKernel) -> None:
    for text, ways in (("10.9.0.0/16", (FT0, LAN)), ("10.8.0.0/16", (FT0, FT0))):
        kernel.have_route(text, 0)
        kernel.routes[-1]["RTA_MULTIPATH"] = [{"oif": index} for index in ways]
    Client().push("10.9.1.0/24", "10.8.1.0/24")
    assert kernel.routes_of() == {("10.8.1.0/24", MAIN)}


def test_the_other_end_of_a_point_to_point_link_counts(kernel: FakeKernel) -> None:
    kernel.have_address("10.9.0.1/32", LAN)
    kernel.entries[-1]["IFA_ADDRESS"] = "10.9.0.2"
    Client().push("10.9.0.1/32", "10.9.0.2/32", "10.9.0.3/32")
    assert kernel.routes_of() == {("10.9.0.3/32", MAIN)}


@pytest.mark.parametrize("route", ["fe80:1::/64", "ff02::/16", "127.0.0.0/8", "224.0.0.0/4"])
def test_what_is_never_routed_is_refused_unless_it_is_named(kernel: FakeKernel, route: str) -> None:
    Client("0.0.0.0/0", "::/0").push(route)
    assert kernel.routes_of() == set()
    Client(route).push(route)
    assert kernel.routes_of() == {(route, MAIN)}


def test_a_lan_that_comes_later_takes_its_route_back(kernel: FakeKernel) -> None:
    client = Client()
    client.push("10.1.2.0/24", "10.1.3.0/24")
    kernel.have_address("10.1.2.7/24", LAN)
    client.push("10.1.2.0/24", "10.1.3.0/24")
    assert kernel.routes_of() == {("10.1.3.0/24", MAIN)}


def test_what_is_refused_again_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    client = Client()
    for refused in ("192.168.77.0/25", "192.168.77.0/25", "192.168.77.0/26"):
        client.push(refused, "192.168.77.1/32")
    first, second, third = capsys.readouterr().err.splitlines()
    assert "192.168.77.0/25" in first
    assert "192.168.77.1/32" in second
    assert "192.168.77.0/26" in third


def test_of_many_that_are_refused_the_first_are_said_one_by_one(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Client().push(*(f"192.168.77.{n}/32" for n in range(30)))
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 9
    assert "others=22" in lines[-1]


# -- replaced as a whole ----------------------------------------------------------------------


def test_a_push_replaces_the_last_and_keeps_what_both_have(kernel: FakeKernel) -> None:
    client = Client()
    client.push("10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0")
    kept = next(route for route in kernel.routes if route.get("RTA_DST") == "10.2.0.0")
    client.push("10.2.0.0/16", "10.3.0.0/16")
    assert kernel.routes_of() == {("10.2.0.0/16", MAIN), ("10.3.0.0/16", MAIN)}
    assert any(route is kept for route in kernel.routes), "it was not made anew"
    assert kernel.rules == []


def test_what_others_made_on_the_device_stays(kernel: FakeKernel) -> None:
    kernel.have_route("10.1.0.0/16", FT0)
    client = Client()
    client.push("10.1.0.0/16", "10.2.0.0/16")
    # An administrator has made it anew.
    kernel.route("del", dst="10.2.0.0/16", oif=FT0, proto=PROTOCOL, table=MAIN)
    kernel.have_route("10.2.0.0/16", FT0)
    client.push()
    assert kernel.routes_of() == {("10.1.0.0/16", MAIN), ("10.2.0.0/16", MAIN)}


def test_what_is_configured_stays_when_it_is_pushed_and_then_not(kernel: FakeKernel) -> None:
    client = Client("10.0.0.0/8", "0.0.0.0/0", table="auto")
    client.push("10.0.0.0/8", "0.0.0.0/0")
    client.push()
    assert kernel.routes_of() == {("10.0.0.0/8", MAIN), ("default/0", MARK)}
    assert len(kernel.rules) == 2


def test_addresses_are_replaced_and_those_of_others_stay(kernel: FakeKernel) -> None:
    kernel.have_address("10.9.0.1/24", FT0)
    client = Client()
    client.push(addresses=("10.9.0.1/24", "10.9.0.2/24", "fd00:9::2/64"))
    assert kernel.addresses_of() == {"10.9.0.1/24", "10.9.0.2/24", "fd00:9::2/64"}
    client.push(addresses=("10.9.0.3/24",))
    assert kernel.addresses_of() == {"10.9.0.1/24", "10.9.0.3/24"}
    kernel.addr("del", index=FT0, address="10.9.0.3", prefixlen=24)
    client.push()
    assert kernel.addresses_of() == {"10.9.0.1/24"}


def test_an_address_that_went_with_another_of_its_network_is_made_again(
    kernel: FakeKernel,
) -> None:
    client = Client()
    client.push(addresses=("10.9.0.2/24", "10.9.0.3/24"))
    kernel.addr("del", index=FT0, address="10.9.0.3", prefixlen=24)
    client.push(addresses=("10.9.0.3/24",))
    assert kernel.addresses_of() == {"10.9.0.3/24"}


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("192.168.77.2/32", "another interface of this host has it"),
        ("fd77::2/64", "another interface of this host has it"),
        ("192.168.77.9/24", "it would divert packets for 192.168.77.0/24 on lan"),
        ("192.168.77.9/32", "it would divert packets for 192.168.77.0/24 on lan"),
        ("192.168.77.9/16", "it would divert packets for 192.168.77.0/24 on lan"),
        ("203.0.113.9/24", "its network contains the server's own address"),
        ("203.0.113.1/32", "its network contains the server's own address"),
    ],
)
def test_an_address_beats_no_more_than_a_route(
    kernel: FakeKernel, address: str, why: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Client("0.0.0.0/0", "::/0").push(addresses=(address, "192.168.0.1/16"), outer="203.0.113.1")
    assert kernel.addresses_of() == {"192.168.0.1/16"}
    (said,) = capsys.readouterr().err.splitlines()
    assert address in said
    assert why in said


def test_an_address_that_is_named_may_lie_in_another_network_but_be_no_other_hosts(
    kernel: FakeKernel,
) -> None:
    Client("192.168.77.9/32", "192.168.77.2/32").push(
        addresses=("192.168.77.9/32", "192.168.77.2/32")
    )
    assert kernel.addresses_of() == {"192.168.77.9/32"}
    Client("192.168.77.8/32", "192.168.0.0/16").push(addresses=("192.168.77.8/16",))
    assert "192.168.77.8/16" in kernel.addresses_of()


def test_an_address_whose_network_is_named_may_lie_in_a_wider_one_but_in_no_narrower(
    kernel: FakeKernel,
) -> None:
    kernel.have_route("10.0.0.0/8", LAN)
    client = Client("10.9.0.0/24", "192.168.0.0/16")
    client.push(addresses=("10.9.0.2/24", "10.9.1.2/24", "192.168.77.9/16", "192.168.78.9/16"))
    assert kernel.addresses_of() == {"10.9.0.2/24", "192.168.78.9/16"}


def test_the_mtu_goes_back_where_it_is_still_as_it_was_pushed(
    kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    client = Client()
    assert client.push(mtu=1300) == kernel.mtu == 1300
    assert client.push() == kernel.mtu == 1420
    client.push(mtu=1300)
    kernel.mtu = 1350  # an administrator's
    assert client.push() == kernel.mtu == 1350
    assert capsys.readouterr().err == ""


def test_an_mtu_that_the_kernel_refuses_leaves_it_as_it_is(
    kernel: FakeKernel, capsys: pytest.CaptureFixture[str]
) -> None:
    kernel.refused_mtu = 1300
    client = Client()
    assert client.push("10.0.0.0/8", mtu=1300) == 1420
    assert kernel.routes_of() == {("10.0.0.0/8", MAIN)}
    assert "1300" in capsys.readouterr().err
    kernel.mtu = 1350
    assert client.push() == 1350


def test_an_interface_that_is_gone_by_now_is_named_by_its_number(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def gone(index: int) -> str:
        raise OSError(index)

    monkeypatch.setattr(socket, "if_indextoname", gone)
    Client().push("192.168.77.0/25")
    assert f"on interface {LAN}" in capsys.readouterr().err
