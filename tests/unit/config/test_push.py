"""What a server gives its clients: written, said in the hello, and applied or not."""

import asyncio
from dataclasses import replace
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import msgpack
import pytest
import structlog
from msgspec import structs

from fastun import log
from fastun.config.push import Push
from fastun.config.push_settings import Pushed
from fastun.config.settings import Options, Role, Settings, load
from fastun.errors import ConfigError, RuntimeFailure
from fastun.gateway.peer_sync import PeerSync
from fastun.gateway.pushed_settings import PushedSettings
from fastun.host.inner_mtu import InnerMtu
from fastun.host.wanted import Applied
from fastun.link import hello
from fastun.link.hello import HelloError
from fastun.link.peer_slots import SlottedPeer
from fastun.peers.peer import Peer
from fastun.session import keys

KEY = keys.generate_private()
PUBLIC = keys.format_key(keys.public_of(keys.generate_private()))
PUSH = """
[push]
routes = ["192.168.7.0/24", "fd00:7::/64"]
dns = ["example.net", "10.55.0.1"]
keepalive = 25
"""
CLIENT = f"""
[[peer]]
endpoint = "udp://192.0.2.1"
public_key = "{PUBLIC}"
allowed_ips = ["10.55.0.0/24", "192.168.0.0/16"]
"""


def loaded(role: Role, directory: Path, text: str) -> Settings:
    path = directory / "fastun.toml"
    path.touch(0o600)
    path.write_text(f"{text}\n[interface]\nprivate_key = '{keys.format_key(KEY)}'\n")
    return load(role, None, Options(config=path, state=directory))


class Device:
    """Takes down what a device would be given to apply."""

    def __init__(self) -> None:
        self.applied: list[Any] = []
        self.inner_mtu = InnerMtu(1420)

    def apply(
        self, addresses: list[Any], routes: list[Any], mtu: int, _outer: object, **takes: bool
    ) -> Applied:
        self.takes = takes
        self.applied.append((addresses, list(map(str, routes)), mtu))
        return Applied(mtu or 1420)

    def apply_dns(self, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
        self.applied.append((servers, domains))


def apply(settings: Settings, device: Device, push: Push) -> None:
    pushed_settings = PushedSettings(settings, device, lambda *_: None)  # type: ignore[arg-type]
    pushed_settings.take(settings.peers[0].name, push)
    asyncio.run(pushed_settings.apply())


def test_nothing_is_pushed_but_what_is_written(tmp_path: Path) -> None:
    assert loaded("serve", tmp_path, "").push == Pushed()
    assert loaded("serve", tmp_path, PUSH).push == Pushed(
        routes=(ip_network("192.168.7.0/24"), ip_network("fd00:7::/64")),
        dns=("10.55.0.1", "example.net"),
        keepalive_s=25,
    )


@pytest.mark.parametrize(
    ("role", "text", "named"),
    [
        ("connect", PUSH + CLIENT, "push: 'push' applies only to serve; remove it"),
        ("serve", "[push]\nroute = []", "'push.route': unknown field; did you mean routes?"),
        ("serve", "[push]\nroutes = ['10.0.0.1/8']", "push.routes: 10.0.0.1/8 has bits set beyond"),
        ("serve", "[push]\nroutes = ['fe80::%eth0/64']", "push.routes: 'fe80::%eth0/64' is not a"),
        ("serve", "[push]\ndns = ['fe80::1%eth0']", "push.dns: 'fe80::1%eth0' has a zone"),
        (
            "serve",
            "[push]\ndns = ['10.0.0']",
            "push.dns: '10.0.0' is neither the address of a DNS server",
        ),
        ("serve", "[push]\nkeepalive = 65536", "push.keepalive: 65536 is out of range"),
        ("serve", "[push]\nkeepalive = '25'", "push.keepalive: must be an integer; it is a"),
    ],
)
def test_what_cannot_be_pushed_is_named(tmp_path: Path, role: Role, text: str, named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(role, tmp_path, text)
    assert named in str(caught.value)


def test_an_unencrypted_wire_pushes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "fastun.toml"
    path.write_text("[push]")
    with pytest.raises(ConfigError, match="push: has no effect on the plain wire"):
        load("serve", None, Options(config=path, wire="plain", insecure=True))


def test_a_client_is_given_its_addresses_the_ways_dns_and_keepalive(tmp_path: Path) -> None:
    settings = loaded("serve", tmp_path, PUSH)
    peer = Peer(name="a", public_key=bytes(32), allowed_ips=(ip_network("10.55.0.7/32"),))
    slotted = SlottedPeer(slot=0, peer=peer)
    assert PeerSync(settings, peer_slots=None).push_to(slotted) == Push(  # type: ignore[arg-type]
        addresses=("10.55.0.7/24",),
        routes=("10.55.0.0/24", "192.168.7.0/24", "fd00:7::/64"),
        dns=("10.55.0.1", "example.net"),
        mtu=1420,
        keepalive=25,
    )


GIVEN = Push(
    addresses=("10.55.0.7/24",),
    routes=("10.55.0.0/24", "192.168.7.0/24", "172.16.0.0/16"),
    dns=("10.55.0.1", "example.net"),
    mtu=1400,
    keepalive=20,
)
APPLIED = ([ip_interface("10.55.0.7/24")], ["10.55.0.0/24", "192.168.7.0/24"], 1400)
SERVERS = (("10.55.0.1",), ("example.net",))


@pytest.mark.parametrize(
    ("interface", "applied"),
    [
        ({}, [APPLIED]),
        ({"accept": ("addresses", "routes", "dns", "mtu")}, [APPLIED, SERVERS]),
        ({"accept": ("dns",)}, [([], [], 0), SERVERS]),
        ({"accept": ("dns",), "dns": ("10.0.0.1",)}, [([], [], 0)]),
    ],
)
def test_a_client_applies_dns_only_where_it_accepts_it_and_has_none_of_its_own(
    tmp_path: Path, interface: dict[str, Any], applied: list[Any]
) -> None:
    settings = replace(loaded("connect", tmp_path, CLIENT), **interface)
    device = Device()
    apply(settings, device, GIVEN)
    assert device.applied == applied


def test_dns_that_no_resolver_should_get_ends_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    class Wall(Device):
        def apply_dns(self, *_: object) -> None:
            raise RuntimeFailure("DNS: 'x' is not valid for a resolver")

    settings = replace(loaded("connect", tmp_path, CLIENT), accept=("dns",))
    log.configure("console", 0)
    apply(settings, Wall(), GIVEN)
    structlog.reset_defaults()
    assert "cannot apply pushed settings" in capsys.readouterr().err


def test_a_client_whose_table_is_off_accepts_no_routes(tmp_path: Path) -> None:
    path = tmp_path / "wg0.conf"
    path.touch(0o600)
    path.write_text(
        f"[Interface]\nTable = off\nPrivateKey = {keys.format_key(KEY)}\n"
        f"[Peer]\nPublicKey = {PUBLIC}\nAllowedIPs = ::/0\nEndpoint = 192.0.2.1:1\n"
    )
    assert load("connect", str(path), Options()).accept == ("addresses", "mtu", "keepalive")


BODY = {"version": 1, "software": "x", "mode": "tun", "offload": [], "message_max": 65535}


def decoded(push: dict[str, Any]) -> hello.Hello:
    return hello.decode(hello.TYPE + msgpack.packb(BODY | {"push": push}))


def test_a_push_is_read_as_it_was_written_and_by_older_versions_too() -> None:
    said = structs.replace(decoded({}), push=GIVEN)
    assert hello.decode(hello.encode(said)) == said
    assert decoded({"addresses": ["10.0.0.1/8"], "later": 1}).push == Push(
        addresses=("10.0.0.1/8",)
    )


@pytest.mark.parametrize(
    "push",
    [
        {"dns": ["10.0.0"]},
        {"dns": ["a\nnameserver 10.0.0.1"]},
        {"dns": ["-a"]},
        {"dns": ["~a\nnameserver 10.0.0.1"]},
        {"dns": ["~"]},
        {"dns": ["~~a.example"]},
        {"dns": ["~$(id).example"]},
        {"dns": ["~10.0.0.1"]},
        {"dns": ["a.example # x"]},
        {"default": "yes"},
        {"dns": ["fe80::1%$(touch${IFS}PWNED;id>OUT)"]},
        {"dns": ["fe80::1%eth0"]},
        {"dns": ["a$(id).net"]},
        {"dns": ["a" * 64]},
        {"dns": [".".join(["a" * 63] * 5)]},
        {"addresses": ["fe80::1%eth0/64"]},
        {"addresses": ["fe80::1%$(id)/64"]},
        {"routes": ["fe80::%eth0/64"]},
        {"routes": ["fe80::%a\nb/64"]},
        {"dns": ["::"]},
        {"dns": "10.0.0.1"},
        {"dns": [1]},
        {"keepalive": -1},
        {"keepalive": 65536},
        {"keepalive": "25"},
        {"mtu": 67},
        {"mtu": -1},
        {"mtu": 65536},
        {"routes": ["10.0.0.1/8"]},
        {"addresses": ["x"]},
    ],
)
def test_a_push_that_cannot_be_makes_the_hello_malformed(push: dict[str, Any]) -> None:
    with pytest.raises(HelloError, match="the peer's hello is malformed"):
        decoded(push)
