"""`fastun connect --check` and `doctor --peer`: each cause by itself, between two hosts."""

from __future__ import annotations

import re
import sys
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import add_peer, start_gateway
from fastun.session import keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastun.lab.network import Lab
    from fastun.lab.tunnel import GatewayProcess

LIMIT_S = 14.0  # ten seconds, and a slow machine's start of Python
SERVER = "10.0.0.1"


class Site:
    """A server that runs, and a client's host with its file."""

    def __init__(self, lab: Lab, tmp_path: Path) -> None:
        self.server, self.client = lab.host("server"), lab.host("client")
        lab.wire(self.server, self.client, [f"{SERVER}/24"], ["10.0.0.2/24"])
        self.gateway: GatewayProcess = start_gateway(
            self.server, tmp_path, "serve", wire="wireguard", addresses=("10.99.0.1/24",)
        )
        self.state = self.gateway.log_file.parent
        self.file = add_peer(self.gateway, "laptop", SERVER, "both")
        wait_until(
            lambda: self.server.listens(55555) and self.server.listens(51820, udp=True),
            "the ports",
            timeout_s=15,
        )
        self.home = tmp_path / "home"

    def check(self) -> tuple[int, str]:
        """Return the exit code, and the lines with each finding as one."""
        self.home.mkdir(exist_ok=True)
        places = ("--state", str(self.home), "--run-dir", str(self.home))
        begun = time.monotonic()
        done = self.client.run(
            sys.executable, "-m", "fastun", "connect", "--check", str(self.file), *places,
            check=False,
        )  # fmt: skip
        assert time.monotonic() - begun < LIMIT_S
        assert "Traceback" not in done.stderr
        return done.returncode, re.sub(r"\n {21}", " ", done.stdout)

    def edit(self, change: Callable[[str], str]) -> None:
        self.file.write_text(change(self.file.read_text()))


@pytest.fixture
def site(lab: Lab, tmp_path: Path) -> Iterator[Site]:
    found = Site(lab, tmp_path)
    yield found
    found.gateway.stop(timeout_s=10)


def lines(said: str, check: str) -> list[str]:
    return [line for line in said.splitlines() if line[6:].startswith(f"{check} ")]


def other_key(text: str) -> str:
    key = keys.format_key(keys.public_of(keys.generate_private()))
    return re.sub(r'public_key = ".*"', f'public_key = "{key}"', text)


def other_preshared_key(text: str) -> str:
    key = keys.format_key(keys.generate_preshared())
    return re.sub(r'preshared_key = ".*"', f'preshared_key = "{key}"', text)


def test_all_is_well(site: Site) -> None:
    code, said = site.check()
    assert code == 0, said
    (route,) = lines(said, "route")
    assert route.split()[:2] == ["ok", "route"]
    assert "by to-server, from 10.0.0.2" in route
    for scheme in ("udp", "tcp"):
        (line,) = lines(said, scheme)
        assert line.startswith("ok")
        assert "answers, and knows our key" in line
    assert "1500 bytes" in lines(said, "path MTU")[0]
    # No session came of it, and the client connects at once afterwards.
    log = site.gateway.log_file.read_text()
    assert "up  peer=laptop" not in log
    client = start_gateway(
        site.client, site.home, "connect", str(site.file),
        wire="wireguard", addresses=("10.99.0.2/24",),
    )  # fmt: skip
    wait_until(lambda: answers_ping(site.client, "10.99.0.1"), "a link")
    assert client.stop() == 0


def refused_by(site: Site, *rules: str) -> None:
    site.server.run("nft", "add", "table", "inet", "wall")
    hook = "{ type filter hook input priority 0; }"
    site.server.run("nft", f"add chain inet wall input {hook}")
    for rule in rules:
        site.server.run("nft", f"add rule inet wall input {rule}")


def _drop(site: Site) -> None:
    refused_by(site, "udp dport 51820 drop", "tcp dport 55555 drop")


def _reject(site: Site) -> None:
    refused_by(site, "udp dport 51820 reject with icmpx admin-prohibited", "tcp dport 55555 reject")


def _close(site: Site) -> None:
    site.edit(lambda text: text.replace(":51820", ":51999").replace(":55555", ":55999"))


def _unregister(site: Site) -> None:
    site.server.run(
        sys.executable, "-m", "fastun", "peer", "remove", "laptop", "--state", str(site.state)
    )


def _block_here(site: Site) -> None:
    site.client.run("nft", "add", "table", "inet", "wall")
    site.client.run("nft", "add chain inet wall output { type filter hook output priority 0; }")
    site.client.run("nft", "add rule inet wall output udp dport 51820 drop")


def _no_route(site: Site) -> None:
    site.edit(lambda text: text.replace(SERVER, "198.51.100.7"))


def _no_name(site: Site) -> None:
    site.edit(lambda text: text.replace(SERVER, "vpn.invalid"))


def _wrong_host(site: Site) -> None:
    site.edit(lambda text: text.replace(SERVER, "10.0.0.77"))


# What is done; words of the line for udp, and for tcp. An empty text: there is no such line.
CASES: dict[str, tuple[Callable[[Site], None], str, str]] = {
    "wrong key": (lambda s: s.edit(other_key), "no answer", "closed without an answer"),
    "wrong psk": (lambda s: s.edit(other_preshared_key), "pre-shared key", "pre-shared key"),
    "unregistered": (_unregister, "no answer", "closed without an answer"),
    "firewall drops": (_drop, "no answer", "no answer to connect"),
    "firewall rejects": (_reject, "prohibited by a firewall (ICMP from 10.0.0.1)", "refused"),
    "port closed": (_close, "port unreachable (ICMP from 10.0.0.1)", "connection refused"),
    "blocked here": (_block_here, "this host's own firewall", "answers, and knows our key"),
    "wrong address": (_wrong_host, "host unreachable", "host unreachable"),
    "no route": (_no_route, "unreachable", "unreachable"),
    "no such name": (_no_name, "", ""),
}


@pytest.mark.parametrize("case", CASES)
def test_why_it_cannot_connect(site: Site, case: str) -> None:
    do, of_udp, of_tcp = CASES[case]
    do(site)
    code, said = site.check()
    assert code == 1, said
    for scheme, words in (("udp", of_udp), ("tcp", of_tcp)):
        found = lines(said, scheme)
        assert bool(found) == bool(words), said
        assert all(words in line for line in found), said
    assert "fix: " in said
    if case == "no such name":
        assert "vpn.invalid" in lines(said, "name")[0]
    if case == "no route":
        assert "no route" in lines(said, "route")[0]


def test_a_way_through_another_tunnel_is_named(site: Site) -> None:
    site.client.run("ip", "tuntap", "add", "other0", "mode", "tun")
    site.client.run("ip", "link", "set", "other0", "up")
    site.client.run("ip", "route", "add", f"{SERVER}/32", "dev", "other0")
    code, said = site.check()
    assert code == 1
    (route,) = lines(said, "route")
    assert route.startswith("warn")
    assert "by other0" in route
    assert "another tunnel" in route


def test_a_running_gateway_is_asked_and_not_disturbed(site: Site) -> None:
    site.home.mkdir()
    client = start_gateway(
        site.client, site.home, "connect", str(site.file),
        wire="wireguard", addresses=("10.99.0.2/24",),
    )  # fmt: skip
    site.home = client.log_file.parent
    wait_until(lambda: answers_ping(site.client, "10.99.0.1"), "a link", timeout_s=15)
    before = client.scrape()
    code, said = site.check()
    assert code == 0, said
    assert "is connected to server over udp" in lines(said, "gateway")[0]
    after = client.scrape()
    handshakes = "fastun_handshakes_total"
    assert after.total(handshakes) == before.total(handshakes)
    assert answers_ping(site.client, "10.99.0.1")
    assert client.stop() == 0


# -- the server's side --------------------------------------------------------------------------


def doctor(site: Site, name: str) -> tuple[int, str]:
    places = ("--state", str(site.state), "--run-dir", str(site.state))
    done = site.server.run(
        sys.executable, "-m", "fastun", "doctor", "--peer", name, *places, check=False
    )
    assert "Traceback" not in done.stderr
    return done.returncode, re.sub(r"\n {21}", " ", done.stdout)


def test_the_server_says_what_it_knows_of_a_peer(site: Site) -> None:
    code, said = doctor(site, "laptop")
    assert code == 1, "it is not connected"
    assert lines(said, "registered")[0].startswith("ok")
    assert "not connected to laptop; no handshake yet" in lines(said, "gateway")[0]
    assert [line[:2] for line in lines(said, "udp port") + lines(said, "tcp port")] == ["ok", "ok"]
    assert [line[:2] for line in lines(said, "firewall")] == ["ok", "ok"]
    assert "connect FILE --check" in lines(said, "client")[0]
    site.edit(other_preshared_key)
    for _ in range(4):  # answered, and never confirmed
        site.check()
    code, said = doctor(site, "laptop")
    assert "pre-shared key" in lines(said, "gateway")[0], "the last error"
    refused_by(site, "udp dport 51820 drop")
    code, said = doctor(site, "laptop")
    assert lines(said, "firewall")[0].startswith("FAIL")
    code, said = doctor(site, "labtop")
    assert code == 1
    assert "did you mean 'laptop'?" in lines(said, "registered")[0]
    site.gateway.stop(timeout_s=10)
    code, said = doctor(site, "laptop")
    assert code == 1
    assert lines(said, "registered")[0].startswith("ok")
    assert "none is running" in lines(said, "gateway")[0]


def test_the_server_confirms_a_peer_that_is_connected(site: Site) -> None:
    client = start_gateway(
        site.client, site.state.parent, "connect", str(site.file),
        wire="wireguard", addresses=("10.99.0.2/24",),
    )  # fmt: skip
    wait_until(lambda: answers_ping(site.client, "10.99.0.1"), "a link", timeout_s=15)
    code, said = doctor(site, "laptop")
    assert code == 0, said
    assert "is connected to laptop over udp, 10.0.0.2:" in lines(said, "gateway")[0]
    assert client.stop() == 0
