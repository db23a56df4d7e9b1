"""Which DNS servers a host has, and when names are looked up past the tunnel."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from fastun.host import name_lookup
from fastun.host.name_lookup import DnsFiles, NameLookup
from fastun.host.resolved import NoSuchNameError, NotYetError

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
