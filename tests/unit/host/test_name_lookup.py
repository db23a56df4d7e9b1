"""Which DNS servers a host has, and when names are looked up past the tunnel."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from fastun.host.dns import name_lookup, resolv_conf
from fastun.host.dns.name_lookup import DnsFiles, NameLookup
from fastun.host.dns.resolved import NoSuchNameError, NotYetError

STUB = "# systemd-resolved\nnameserver 127.0.0.53\noptions edns0\nsearch lan\n"


def test_instead_of_a_resolver_on_this_host_the_servers_count_that_it_asks() -> None:
    assert DnsFiles("nameserver 192.0.2.1\nnameserver fe80::1%eth0\nnameserver x\n").servers() == [
        "192.0.2.1",
        "fe80::1%eth0",
    ]
    assert DnsFiles(STUB, "nameserver 192.0.2.53\n").servers() == ["192.0.2.53"]
    assert DnsFiles(STUB).servers() == ["127.0.0.53"], "nothing better is known"
    assert DnsFiles().servers() == []


def test_what_resolvconf_has_of_other_interfaces_counts_where_it_uses_the_tunnel_s_alone() -> None:
    files = DnsFiles(
        "nameserver 10.9.0.1\n", records="nameserver 192.0.2.53\nnameserver 127.0.0.1\n"
    )
    assert files.servers() == ["10.9.0.1"]
    assert files.all_servers() == ["10.9.0.1", "192.0.2.53"]


def test_servers_that_a_tunnel_has_commented_out_count_with_others() -> None:
    text = resolv_conf.added("nameserver 192.0.2.53\nsearch lan\n", "wg0", ("10.9.0.1",))
    assert DnsFiles(text).servers() == ["10.9.0.1"]
    assert DnsFiles(text).all_servers() == ["10.9.0.1", "192.0.2.53"]


def test_files_that_are_not_there_are_empty(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("_RESOLV_CONF", "_HOSTS"):
        monkeypatch.setattr(name_lookup, name, tmp_path / "none")
    for name in ("_UPSTREAM", "_RECORDS"):
        monkeypatch.setattr(name_lookup, name, (tmp_path / "none",))
    assert DnsFiles.read() == DnsFiles()


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        (socket.EAI_AGAIN, NotYetError),
        (socket.EAI_FAIL, NotYetError),
        (socket.EAI_SYSTEM, NotYetError),
        (socket.EAI_NONAME, NoSuchNameError),
        (-5, NoSuchNameError),  # EAI_NODATA
    ],
)
def test_only_dns_itself_can_say_that_a_name_does_not_exist(
    code: int, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise socket.gaierror(code, "as glibc says")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(expected) as caught:
        NameLookup()("vpn.example.net")
    assert type(caught.value) is expected
    assert caught.value.why == "as glibc says"  # type: ignore[attr-defined]


def test_each_address_is_given_once_and_as_what_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    found = [
        (socket.AF_INET6, 0, 0, "", ("fe80::1%lo", 0, 0, 1)),
        (socket.AF_INET6, 0, 0, "", ("::ffff:192.0.2.1", 0, 0, 0)),
        (socket.AF_INET, 0, 0, "", ("192.0.2.1", 0)),
        (socket.AF_INET, 0, 0, "", ("192.0.2.1", 0)),
    ]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
    assert [(str(host), zone) for host, zone in NameLookup()("vpn")] == [
        ("fe80::1", 1),
        ("192.0.2.1", 0),
    ]


# -- with a kill switch -----------------------------------------------------------------------


class Asked:
    """What is asked by the mark, and what was allowed before."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, files: DnsFiles, hosts: Path) -> None:
        self.allowed: list[object] = []
        self.servers: list[str] = []
        monkeypatch.setattr(DnsFiles, "read", lambda: files)
        monkeypatch.setattr(name_lookup, "_HOSTS", hosts)
        monkeypatch.setattr(socket, "getaddrinfo", self.refuse)
        monkeypatch.setattr(NameLookup, "_by_dns", self.by_dns)
        self.lookup = NameLookup(7, 1, files, allow=lambda: self.allowed.append)

    def refuse(self, *_: Any, **__: Any) -> None:
        raise AssertionError("glibc's packets have no mark")

    def by_dns(self, _: str, servers: list[str]) -> tuple[()]:
        assert self.allowed == [servers], "allowed before it is asked"
        self.servers = servers
        if servers == ["127.0.0.53"]:
            raise NotYetError("no answer from DNS")
        return ()


def test_with_a_kill_switch_names_are_asked_for_by_the_mark_alone(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked = Asked(monkeypatch, DnsFiles("nameserver 192.0.2.53\n"), tmp_path / "hosts")
    asked.lookup("vpn.example.net")
    assert asked.servers == ["192.0.2.53"]


def test_with_a_kill_switch_the_hosts_file_needs_no_server(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "hosts").write_text("192.0.2.1 vpn.example.net\n")
    asked = Asked(monkeypatch, DnsFiles(), tmp_path / "hosts")
    assert [str(each.host) for each in asked.lookup("vpn.example.net")] == ["192.0.2.1"]


@pytest.mark.parametrize(
    ("resolv_conf", "why"),
    [
        ("", "this host has no DNS server"),
        (STUB, "the kill switch drops what the resolver at 127.0.0.53 asks"),
    ],
)
def test_with_a_kill_switch_it_is_said_what_cannot_be_asked(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, resolv_conf: str, why: str
) -> None:
    asked = Asked(monkeypatch, DnsFiles(resolv_conf), tmp_path / "hosts")
    with pytest.raises(NotYetError, match=why):
        asked.lookup("vpn.example.net")
