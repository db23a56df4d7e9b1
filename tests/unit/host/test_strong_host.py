"""When packets for the device's addresses are dropped on other interfaces, and what nft gets."""

from __future__ import annotations

import json
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any, Self

import pytest
import structlog

from fastun import log
from fastun.host import programs
from fastun.host.firewall import strong_host
from fastun.host.firewall.own_tables import Tables
from fastun.host.firewall.strong_host import StrongHost, has_default
from fastun.host.programs import ProgramRefused
from tests.support.fake_kernel import FT0, LAN, FakeKernel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.host.journal.journal import Journal

ADDRESSES = {4: ("10.9.0.2",), 6: ("fd00:9::2",)}
ALL = ("0.0.0.0/0",)


class Host:
    """What StrongHost sees of a host, and what nft was given."""

    def __init__(self) -> None:
        self.addresses: dict[int, tuple[str, ...]] = dict(ADDRESSES)
        self.routes: tuple[str, ...] = ALL
        self.forwards: set[int] = set()
        self.has_nft = True
        self.name = "fastun0"
        self.refusal = ""
        self.said: list[tuple[tuple[str, ...], dict[str, Any]]] = []

    def run(self, command: tuple[str, ...], stdin: str, *, limit_s: float, is_undo: bool) -> str:
        assert limit_s <= 10
        assert not is_undo
        if "list" in command:
            return '{"nftables": []}'
        self.said.append((command, json.loads(stdin)))
        if self.refusal:
            raise ProgramRefused(self.refusal)
        return ""

    def made(self) -> list[dict[str, Any]]:
        """Return the transactions, without those that were only checked."""
        return [document for command, document in self.said if "-c" not in command]


class NoNetlink:
    def __init__(self, _: int) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def may_take_all(self) -> bool:
        return True

    def __exit__(self, *_: object) -> None:
        pass


@pytest.fixture
def tables(journal: Journal) -> Tables:
    return Tables(journal)


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Iterator[Host]:
    host = Host()
    monkeypatch.setattr(programs, "run", host.run)
    monkeypatch.setattr(programs, "find", lambda _: "/usr/sbin/nft" if host.has_nft else None)
    monkeypatch.setattr(strong_host, "Kernel", NoNetlink)
    monkeypatch.setattr(strong_host.socket, "if_nametoindex", lambda _: 7)
    monkeypatch.setattr(strong_host.socket, "if_indextoname", lambda _: host.name)
    monkeypatch.setattr(strong_host, "_addresses", lambda *_: host.addresses)
    monkeypatch.setattr(strong_host, "_routes", lambda *_: map(ip_network, host.routes))
    monkeypatch.setattr(strong_host, "forwards", lambda version: version in host.forwards)
    log.configure("console", 0)
    yield host
    structlog.reset_defaults()


def guarded(document: dict[str, Any]) -> list[str]:
    """Return the addresses of a transaction's rules."""
    rules = [
        command["add"]["rule"]
        for command in document["nftables"]
        if "rule" in command.get("add", {})
    ]
    matches = [rule["expr"][1]["match"] for rule in rules]
    assert matches[::2] == matches[1::2], "both rules are for the same addresses"
    return [address for match in matches[::2] for address in match["right"]["set"]]


def test_an_address_that_another_interface_has_is_not_guarded(
    journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    kernel = FakeKernel()
    kernel.have_address("10.9.0.2/24", FT0)
    kernel.have_address("192.168.77.2/32", FT0)
    kernel.have_address("fe80::1/64", FT0)
    kernel.have_address("192.168.77.2/24", LAN)
    monkeypatch.setattr(strong_host, "Kernel", kernel)
    strong = StrongHost("ft0", True, Tables(journal))
    strong.index = FT0
    assert strong._to_guard() == {4: ("10.9.0.2",)}  # noqa: SLF001


EVERY = ["10.9.0.2", "fd00:9::2"]


@pytest.mark.parametrize(
    ("wanted", "routes", "forwarding", "expected"),
    [
        ("auto", ALL, set(), EVERY),
        ("auto", ("::/0",), set(), EVERY),
        ("auto", ("10.0.0.0/8",), set(), []),
        ("auto", ALL, {4}, ["fd00:9::2"]),
        ("auto", ALL, {6}, ["10.9.0.2"]),
        ("auto", ALL, {4, 6}, []),
        (True, (), {4, 6}, EVERY),
        (False, ALL, set(), []),
    ],
)
def test_it_is_on_with_a_default_route_off_where_the_host_forwards_and_an_option(
    host: Host,
    tables: Tables,
    *,
    wanted: Any,
    routes: tuple[str, ...],
    forwarding: set[int],
    expected: list[str],
) -> None:
    host.routes, host.forwards = routes, forwarding
    StrongHost("fastun0", wanted, tables).follow()
    assert [address for document in host.made() for address in guarded(document)] == expected


def test_a_default_route_may_come_in_halves() -> None:
    def of(*texts: str) -> bool:
        return has_default(map(ip_network, texts))

    assert of("0.0.0.0/0")
    assert of("0.0.0.0/1", "128.0.0.0/1")
    assert of("::/0", "10.0.0.0/8")
    assert of("0.0.0.0/1", "128.0.0.0/2", "192.0.0.0/2")
    assert not of("0.0.0.0/1")
    assert not of("0.0.0.0/1", "8000::/1")
    assert not of()


def test_the_rule_is_wg_quicks(host: Host, tables: Tables) -> None:
    StrongHost("fastun0", True, tables).follow()
    commands = host.made()[0]["nftables"]
    chain = commands[3]["add"]["chain"]
    assert (chain["hook"], chain["prio"], chain["policy"]) == ("prerouting", -300, "accept")
    assert commands[4]["add"]["rule"]["expr"] == [
        {"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": "fastun0"}},
        {
            "match": {
                "op": "==",
                "left": {"payload": {"protocol": "ip", "field": "daddr"}},
                "right": {"set": ["10.9.0.2"]},
            }
        },
        {
            "match": {
                "op": "!=",
                "left": {"fib": {"result": "type", "flags": ["saddr"]}},
                "right": "local",
            }
        },
        {"counter": None},
        {"drop": None},
    ]
    destination = commands[6]["add"]["rule"]["expr"][1]["match"]["left"]
    assert destination == {"payload": {"protocol": "ip6", "field": "daddr"}}


def test_what_has_a_source_of_our_own_comes_by_the_loopback_only(
    host: Host, tables: Tables
) -> None:
    StrongHost("fastun0", True, tables).follow()
    commands = host.made()[0]["nftables"]
    inputs = {"set": ["fastun0", "lo"]}
    assert commands[5]["add"]["rule"]["expr"] == [
        {"match": {"op": "!=", "left": {"meta": {"key": "iifname"}}, "right": inputs}},
        commands[4]["add"]["rule"]["expr"][1],
        {"counter": None},
        {"drop": None},
    ]


def test_the_table_is_replaced_in_one_transaction_that_was_checked_before(
    host: Host, tables: Tables
) -> None:
    strong = StrongHost("fastun0", "auto", tables)
    strong.follow()
    host.addresses = {4: ("10.9.0.2", "10.9.0.3")}
    strong.follow()
    strong.follow()  # nothing has changed
    assert ["-c" in command for command, _ in host.said] == [True, False] * 2
    assert [document for _, document in host.said[::2]] == host.made()
    assert [next(iter(command)) for command in host.made()[1]["nftables"][:3]] == [
        "add",
        "delete",
        "add",
    ]
    assert guarded(host.made()[1]) == ["10.9.0.2", "10.9.0.3"]


def test_when_the_default_route_goes_so_does_the_table(host: Host, tables: Tables) -> None:
    strong = StrongHost("fastun0", "auto", tables)
    strong.follow()
    host.routes = ()
    strong.follow()
    assert [next(iter(command)) for command in host.made()[1]["nftables"]] == ["add", "delete"]


def test_without_nft_there_is_a_warning_and_nothing_to_undo(
    host: Host, journal: Journal, tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    host.has_nft = False
    StrongHost("fastun0", "auto", tables).follow()
    assert "install the package nftables" in capsys.readouterr().err
    assert journal.undo_all() == []
    assert host.said == []


def test_what_nft_refuses_is_tried_again_with_the_next_change(
    host: Host, tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    host.refusal = "nft: No such file or directory"
    strong = StrongHost("fastun0", "auto", tables)
    strong.follow()
    assert "No such file" in capsys.readouterr().err
    host.refusal = ""
    strong.follow()
    assert len(host.made()) == 1


def test_that_the_host_forwards_is_said_once(
    host: Host, tables: Tables, capsys: pytest.CaptureFixture[str]
) -> None:
    host.forwards = {4}
    strong = StrongHost("fastun0", "auto", tables)
    strong.follow()
    strong.follow()
    assert capsys.readouterr().err.count("this host forwards") == 1


def test_an_odd_name_is_never_read_as_a_pattern(host: Host, tables: Tables) -> None:
    host.name = "fastun*"
    StrongHost("fastun*", True, tables).follow()
    rule = host.made()[0]["nftables"][4]["add"]["rule"]
    assert rule["expr"][0]["match"] == {"op": "!=", "left": {"meta": {"key": "iif"}}, "right": 7}
    rule = host.made()[0]["nftables"][5]["add"]["rule"]
    assert rule["expr"][0]["match"]["right"] == {"set": [7, 1]}


@pytest.mark.parametrize(
    ("interfaces", "expected"),
    [
        ({"all": "0", "eth0": "0"}, False),
        ({"all": "1", "eth0": "0"}, True),
        ({"all": "0", "eth0": "1"}, True),
        ({"all": "0", "default": "1"}, False),
        ({}, False),
    ],
)
@pytest.mark.parametrize("setting", ["forwarding", "force_forwarding"])
def test_a_host_forwards_where_one_interface_does(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    interfaces: dict[str, str],
    expected: bool,
    setting: str,
) -> None:
    for name, value in interfaces.items():
        path = tmp_path / "ipv6" / "conf" / name / setting
        path.parent.mkdir(parents=True)
        path.write_text(f"{value}\n")
    monkeypatch.setattr(strong_host, "_SYSCTL", tmp_path)
    assert strong_host.forwards(6) is expected
