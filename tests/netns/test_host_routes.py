"""What a tunnel changes of its host, and that nothing of it stays: routes, rules, DNS.

tests/support/unanswered.py draws the network.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from fastun.lab.host import wait_until
from fastun.session import keys
from tests.support.kill_all import kill_all
from tests.support.unanswered import (
    ALL,
    INTERFACE,
    LEADING,
    OUT_THERE,
    PEER,
    RULES,
    SERVER,
    SOME,
    VALID_MARK,
    routes,
    rules,
    stop,
    warned,
    way,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from fastun.lab.host import Host
    from tests.support.unanswered import Connect


def test_a_default_route_takes_everything_but_the_tunnels_own_packets(
    client: Host, connect: Connect
) -> None:
    process = connect(INTERFACE + PEER + ALL)
    for family, before in RULES.items():
        assert rules(client, family) == [before[0], *LEADING, *before[1:]]
    for somewhere in ("203.0.113.1", OUT_THERE, "2001:db8::1"):
        assert way(client, somewhere) == "wg0"
        assert way(client, somewhere, "mark", "51820") == "to-internet"
    for known in ("192.0.2.1", "fd01::1"):
        assert way(client, known) == "to-internet", "the own network stays beside the tunnel"
    assert client.run("sysctl", "-n", VALID_MARK).stdout.strip() == "1"
    stop(process)
    assert client.run("sysctl", "-n", VALID_MARK).stdout.strip() == "0"
    for family, before in RULES.items():
        assert rules(client, family) == before
    assert way(client, "203.0.113.1") == "to-internet"


def test_what_is_behind_a_peer_is_routed_once_and_nothing_else(
    client: Host, connect: Connect
) -> None:
    process = connect(INTERFACE + PEER + SOME)
    assert sorted(routes(client, "-4")) == ["10.7.0.0/16", "10.7.1.0/24"]
    assert routes(client, "-6") == ["fd00:7::/64"]
    assert "proto kernel" in client.ip("route", "show", "10.9.0.0/24"), "it was there already"
    for family, before in RULES.items():
        assert rules(client, family) == before
    stop(process)
    assert client.ip("route", "show", "10.7.0.0/16") == ""


@pytest.mark.parametrize(
    ("line", "table", "expected"),
    [("Table = off", "main", []), ("Table = 4242", "4242", ["default", "10.9.0.0/24"])],
)
def test_the_table_can_be_another_or_none(
    client: Host, connect: Connect, line: str, table: str, expected: list[str]
) -> None:
    allowed = "AllowedIPs = 0.0.0.0/0, 10.9.0.0/24\n"
    process = connect(f"{INTERFACE}{line}\n{PEER}{allowed}")
    listing = client.run("ip", "route", "show", "table", table, "proto", "157", check=False)
    assert [text.split()[0] for text in listing.stdout.splitlines()] == expected
    assert rules(client, "-4") == RULES["-4"]
    stop(process)


def test_toml_has_no_routes_of_its_own_unless_it_asks_for_them(
    client: Host, connect: Connect
) -> None:
    toml = (
        "[interface]\nname = 'wg0'\naddress = ['10.9.0.2/24']\n"
        f"private_key = '{keys.format_key(keys.generate_private())}'\nTABLE"
        f"[[peer]]\npublic_key = '{SERVER}'\nallowed_ips = ['10.7.0.0/16']\n"
        f"endpoint = 'udp://{OUT_THERE}'\n"
    )
    for table, expected in (("", []), ("table = 'auto'\n", ["10.7.0.0/16"])):
        process = connect(toml.replace("TABLE", table), name="a.toml")
        assert routes(client, "-4") == expected
        stop(process)


@pytest.mark.parametrize("metric", [(), ("metric", "600")])
def test_a_network_that_the_lan_has_is_refused_and_costs_no_other_route(
    client: Host, connect: Connect, tmp_path: Path, metric: tuple[str, ...]
) -> None:
    client.ip("route", "del", "192.0.2.0/24")
    client.ip("route", "add", "192.0.2.0/24", "dev", "to-internet", *metric)
    allowed = "AllowedIPs = 10.7.0.0/16, 192.0.2.0/24, 192.0.0.0/16, 10.8.0.0/16\n"
    process = connect(INTERFACE + PEER + allowed)
    assert sorted(routes(client, "-4")) == ["10.7.0.0/16", "10.8.0.0/16", "192.0.0.0/16"]
    assert way(client, "192.0.2.1") == "to-internet"
    (said,) = warned(tmp_path)
    assert "route refused" in said
    assert "route=192.0.2.0/24" in said
    assert "another interface of this host has it already: to-internet; remove it" in said
    stop(process)


def test_rules_that_a_killed_gateway_left_lead_nowhere_and_go_at_the_next_start(
    client: Host, connect: Connect
) -> None:
    process = connect(INTERFACE + PEER + ALL)
    kill_all(client)
    process.wait(10)
    wait_until(lambda: "wg0" not in client.devices(), "device gone")
    assert LEADING[1] in rules(client, "-4")
    assert way(client, "203.0.113.1") == "to-internet"
    process = connect(INTERFACE + PEER + SOME)
    for family, before in RULES.items():
        assert rules(client, family) == before
    stop(process)


@pytest.mark.parametrize("state", [".", "another"])
def test_two_tunnels_have_two_marks_and_the_end_of_one_leaves_the_others(
    client: Host, connect: Connect, state: str
) -> None:
    first = connect(INTERFACE + PEER + ALL)
    addresses = INTERFACE.replace("10.9.0.2", "10.8.0.2").replace("fd00:9::2", "fd00:8::2")
    second = connect(addresses + PEER + "AllowedIPs = 0.0.0.0/0\n", name="wg1.conf", state=state)
    assert sum("not fwmark" in rule for rule in rules(client, "-4")) == 2
    assert "32765: not fwmark 51821 51821" in rules(client, "-4")
    stop(second)
    assert client.run("sysctl", "-n", VALID_MARK).stdout.strip() == "1"
    assert rules(client, "-4")[1:3] == LEADING
    assert way(client, "203.0.113.1") == "wg0"
    stop(first)
    assert rules(client, "-4") == RULES["-4"]
    assert client.run("sysctl", "-n", VALID_MARK).stdout.strip() == "0"


# -- DNS --------------------------------------------------------------------------------------

RECORDER = """#!/bin/sh
{{ echo "{name} $*"; [ "$1" = -a ] && cat; }} >> {record}
exit {code}
"""


@pytest.fixture
def program(tmp_path: Path) -> Callable[..., tuple[Path, Path]]:
    """A function that makes a program that records its calls; it returns its directory and them."""

    def make(name: str, code: int = 0) -> tuple[Path, Path]:
        directory, record = tmp_path / "bin", tmp_path / "record"
        directory.mkdir(exist_ok=True)
        script = directory / name
        script.write_text(RECORDER.format(name=name, record=record, code=code))
        script.chmod(0o755)
        return directory, record

    return make


DNS = "DNS = 10.9.0.1, fd00:9::1, example.net, example.org\n"


def test_dns_is_set_with_the_tunnel_and_unset_with_it(connect: Connect, program: Any) -> None:
    directory, record = program("resolvconf")
    process = connect(INTERFACE + DNS + PEER + SOME, path=[directory])
    given = [
        "resolvconf -a wg0 -m 0 -x",
        "nameserver 10.9.0.1",
        "nameserver fd00:9::1",
        "search example.net example.org",
    ]
    assert record.read_text().splitlines() == given
    stop(process)
    assert record.read_text().splitlines() == [*given, "resolvconf -d wg0 -f"]


@pytest.mark.parametrize(
    ("name", "why"), [("resolvconf", "exit code 3"), ("other", "shared with other network namesp")]
)
def test_dns_that_cannot_be_set_is_a_warning_with_the_servers(
    connect: Connect, program: Any, tmp_path: Path, name: str, why: str
) -> None:
    directory, _ = program(name, code=3)
    stop(connect(INTERFACE + DNS + PEER + SOME, path=[directory]))
    (line,) = (
        line
        for line in (tmp_path / "wg0.log").read_text().splitlines()
        if "cannot set DNS servers" in line
    )
    assert "10.9.0.1 fd00:9::1" in line
    assert "warning" in line
    assert why in line
