"""Where names are looked up after a resolver's program has been given servers."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from fastun.host import programs
from fastun.host.dns import resolver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Host = Callable[..., None]

SERVERS = ("10.9.0.1", "fd00:9::1")


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A function that makes a host with these files, whose resolvectl prints that."""

    def make(
        resolv_conf: str | None = None, nsswitch: str = "", order: str = "", prints: str = ""
    ) -> None:
        files = {"_RESOLV_CONF": resolv_conf, "_NSSWITCH": nsswitch, "_INTERFACE_ORDER": order}
        for name, text in files.items():
            path = tmp_path / name
            monkeypatch.setattr(resolver, name, path)
            if text is not None:
                path.write_text(text)
        program = tmp_path / "resolvectl"
        program.write_text(f"#!/bin/sh\necho '{prints}'\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr(programs, "_SBIN", ())

    return make


@pytest.mark.parametrize(
    "resolv_conf",
    [
        "nameserver 10.9.0.1\nnameserver 192.168.1.1\n",
        "# nameserver 192.168.1.1\nsearch a\n nameserver\tfd00:9:0::1\nnameserver 192.168.1.1",
        "nameserver x\nnameserver 10.9.0.1",
        "nameserver 127.0.0.1\nnameserver 192.168.1.1",
        "nameserver ::1",
    ],
)
def test_a_server_of_ours_or_of_this_host_may_be_first(host: Host, resolv_conf: str) -> None:
    host(resolv_conf)
    assert resolver.what_is_wrong("resolvconf", "wg0", SERVERS) is None


@pytest.mark.parametrize(
    ("resolv_conf", "named"),
    [
        ("nameserver 192.168.1.1\nnameserver 10.9.0.1\n", "names 192.168.1.1 first"),
        ("nameserver fe80::1%eth0", "names fe80::1%eth0 first"),
        ("search example.net\n", "no nameserver"),
        ("", "no nameserver"),
        (None, "no nameserver"),
    ],
)
def test_another_server_that_is_first_is_named(
    host: Host, resolv_conf: str | None, named: str
) -> None:
    host(resolv_conf)
    wrong = resolver.what_is_wrong("resolvconf", "wg0", SERVERS)
    assert wrong is not None
    assert named in wrong


HAS = "Link 7 (wg0): 10.9.0.1 fd00:9::1"
STUB = "nameserver 127.0.0.53\n"
LAN = "nameserver 192.168.1.1\n"


@pytest.mark.parametrize(
    ("prints", "resolv_conf", "nsswitch", "named"),
    [
        (HAS, STUB, "", None),
        (HAS, LAN, "hosts: files resolve [!UNAVAIL=return] dns\n", None),
        (HAS, LAN, "# hosts: resolve\nhosts:  files dns\n", "stub-resolv.conf"),
        (HAS, LAN, "hosts: files dns resolve\n", "stub-resolv.conf"),
        ("Link 7 (wg0):", STUB, "", "has other servers for the interface"),
        ("Link 7 (wg0): 10.9.0.2", STUB, "", "has other servers for the interface"),
    ],
)
def test_systemd_resolved_is_asked_what_it_has_and_whether_it_is_asked_itself(
    host: Host, prints: str, resolv_conf: str, nsswitch: str, named: str | None
) -> None:
    host(resolv_conf, nsswitch, prints=prints)
    wrong = resolver.what_is_wrong("resolvectl", "wg0", SERVERS)
    assert wrong is None if named is None else named in (wrong or "")


@pytest.mark.parametrize(
    ("order", "record"),
    [
        ("# interface-order(5)\nlo.inet6\nlo.!(pdns|pdns-recursor)\nlo\ntun*\ntap*\n", "tun.wg0"),
        ("em+([0-9])*\nvpn*\n", "vpn.wg0"),
        ("lo\n", "wg0"),
        ("", "wg0"),
    ],
)
def test_a_record_is_named_as_debians_order_wants_it(host: Host, order: str, record: str) -> None:
    host(order=order)
    assert resolver.record_of("wg0") == record


NSS = "hosts: files resolve [!UNAVAIL=return] dns\n"


@pytest.mark.parametrize(
    ("resolv_conf", "nsswitch", "runs", "has_resolvconf", "manager"),
    [
        (STUB, "", False, False, "resolvectl"),
        (STUB, "", False, True, "resolvectl"),  # Debian's resolvconf passes its servers on
        ("nameserver 127.0.0.54\n", "", False, True, "resolvectl"),
        (LAN, NSS, True, True, "resolvectl"),
        # Installed, and not in use.
        (LAN, NSS, False, True, "resolvconf"),
        (LAN, NSS, False, False, "file"),
        (LAN, "hosts: files dns\n", True, False, "file"),
        (LAN, "hosts: files dns\n", True, True, "resolvconf"),
        (None, "", False, False, "file"),
    ],
)
def test_the_manager_is_the_one_that_is_in_use(
    host: Host,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    resolv_conf: str | None,
    nsswitch: str,
    runs: bool,
    has_resolvconf: bool,
    manager: str,
) -> None:
    host(resolv_conf, nsswitch)
    run = tmp_path / "run"
    run.mkdir()
    monkeypatch.setattr(resolver, "_RESOLVED", run)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(run / "io.systemd.Resolve"))
    listener.listen()
    if not runs:
        listener.close()  # what one that was killed leaves
    if has_resolvconf:
        (tmp_path / "resolvconf").write_text("#!/bin/sh\n")
        (tmp_path / "resolvconf").chmod(0o755)
    assert resolver.manager() == manager


def test_resolvconf_of_systemd_is_resolvectl(host: Host, tmp_path: Path) -> None:
    host(LAN)
    (tmp_path / "resolvconf").symlink_to(tmp_path / "resolvectl")
    assert programs.find("resolvconf") is not None
    assert resolver.manager() == "file"
