"""How much a hello can push, and that it is refused where it is configured."""

from __future__ import annotations

import re
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest
import structlog
from msgspec import structs

from fastun import log
from fastun.config import push
from fastun.config.push import ADDRESSES_MAX, DNS_MAX, ROUTES_MAX, Push
from fastun.config.served import server_of
from fastun.config.settings import Options, Settings, load
from fastun.errors import ConfigError
from fastun.gateway.peer_sync import PeerSync
from fastun.link import hello
from fastun.link.peer_slots import SlottedPeer
from fastun.native import Offload
from fastun.native.secrets import Secret
from fastun.peers.peer import Peer
from fastun.session import transport
from fastun.session.keys import format_key, generate_private

if TYPE_CHECKING:
    from pathlib import Path

KEY = format_key(generate_private())
UDP, TCP = "udp://0.0.0.0:1", "tcp://0.0.0.0:1"


def served(
    directory: Path,
    routes: list[str],
    *,
    dns: tuple[str, ...] = (),
    listen: tuple[str, ...] = (UDP, TCP),
    address: tuple[str, ...] = ("10.9.0.1/24", "fd00:9::1/64"),
) -> Settings:
    path = directory / "fastun.toml"
    path.touch(0o600)
    path.write_text(
        f"[interface]\nprivate_key = '{KEY}'\n[push]\nroutes = {routes}\ndns = {list(dns)}\n"
    )
    options = Options(config=path, state=directory, listen=listen, address=address)
    return load("serve", None, options)


def some(n: int) -> list[str]:
    return [f"172.{16 + i // 200}.{i % 200}.0/24" for i in range(n)]


@pytest.mark.parametrize(("listen", "most"), [((UDP, TCP), 1), ((UDP,), 1), ((TCP,), 200)])
def test_a_push_that_a_hello_cannot_carry_is_refused_with_how_much_would_fit(
    tmp_path: Path, listen: tuple[str, ...], most: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        served(tmp_path, some(500), listen=listen)
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{tmp_path}/fastun.toml: push.routes: 500 routes do not fit")
    n_fit = int(re.findall(r"(\d+) would", line)[0])
    assert n_fit >= most
    served(tmp_path, some(n_fit), listen=listen)
    with pytest.raises(ConfigError):
        served(tmp_path, some(n_fit + 1), listen=listen)


@pytest.mark.parametrize(
    ("listen", "longest"), [((UDP, TCP), 1280 - 40 - 8 - 32), ((TCP,), hello.HELLO_BYTES_MAX)]
)
def test_what_fits_goes_into_one_datagram_of_the_narrowest_path_or_a_hello(
    tmp_path: Path, listen: tuple[str, ...], longest: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        served(tmp_path, some(500), listen=listen)
    n_fit = int(re.findall(r"(\d+) would", str(caught.value))[0])
    settings = served(tmp_path, some(n_fit), listen=listen)
    allowed = (ip_network("10.9.0.254/32"), ip_network("fd00:9::ffff:ffff:ffff:ffff/128"))
    peer = Peer(name="a", public_key=bytes(32), allowed_ips=allowed)
    pushed = PeerSync(settings, peer_slots=None).push_to(SlottedPeer(0, peer))  # type: ignore[arg-type]
    assert len(pushed.addresses) == 2
    said = hello.own(settings, Offload.TCP_UDP, pushed)
    content = hello.encode(structs.replace(said, software="f" * 64))
    assert len(content) <= longest
    sealed = transport.seal_data(Secret.of(bytes(32)), 1, 0, content)
    if UDP in listen:
        assert len(sealed) <= 1280 - 40 - 8
    assert hello.decode(content).push == pushed


def test_name_servers_and_networks_that_do_not_fit_are_named(tmp_path: Path) -> None:
    many = tuple(f"very-long-name-of-a-domain-{i}.example.net" for i in range(30))
    with pytest.raises(ConfigError, match=r"push\.dns: 30 entries do not fit .*; \d+ would"):
        served(tmp_path, [], dns=many)
    networks = tuple(f"fd00:{i:x}:1234:5678:9abc:def0:1234:1/112" for i in range(30))
    with pytest.raises(ConfigError, match=r"interface\.address: 30 networks do not fit"):
        served(tmp_path, [], address=networks)


def test_a_network_that_is_pushed_anyway_takes_no_more_room(tmp_path: Path) -> None:
    settings = served(tmp_path, ["10.9.0.0/24"])
    peer = Peer(name="a", public_key=bytes(32))
    pushed = PeerSync(settings, peer_slots=None).push_to(SlottedPeer(0, peer))  # type: ignore[arg-type]
    assert pushed.routes == ("10.9.0.0/24", "fd00:9::/64")


def test_a_peer_with_more_addresses_than_fit_is_pushed_the_first_ones_and_one_warning(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    hosts = list(ip_network("10.9.0.0/24").hosts())[1:]
    peer = Peer(name="ant", public_key=bytes(32), allowed_ips=tuple(map(ip_network, hosts)))
    peer_sync = PeerSync(served(tmp_path, some(20)), peer_slots=None)  # type: ignore[arg-type]
    log.configure("console", 0)
    for _ in range(2):
        pushed = peer_sync.push_to(SlottedPeer(0, peer))
        assert push.fits(pushed, push.DATAGRAM_HELLO_BYTES_MAX - 256)
        assert pushed.addresses[0] == "10.9.0.2/24"
        assert 5 < len(pushed.addresses) < 60
    structlog.reset_defaults()
    assert len([line for line in capsys.readouterr().err.splitlines() if "ant" in line]) == 1


def test_peer_add_says_how_much_room_is_left(tmp_path: Path) -> None:
    server = server_of(served(tmp_path, some(20)), bytes(32))
    addresses = [ip_interface(f"10.9.0.{i}/24") for i in range(2, 100)]
    assert server.room_bytes is not None
    push.check_addresses(addresses[:5], server.room_bytes, "--address")
    with pytest.raises(ConfigError, match=r"--address: 98 addresses do not fit"):
        push.check_addresses(addresses, server.room_bytes, "--address")


@pytest.mark.parametrize(
    ("pushed", "most"),
    [
        ({"routes": tuple(f"10.{i // 256}.{i % 256}.0/24" for i in range(400))}, ROUTES_MAX),
        ({"addresses": tuple(f"10.0.{i}.1/24" for i in range(200))}, ADDRESSES_MAX),
        ({"dns": tuple(f"10.0.0.{i}" for i in range(1, 100))}, DNS_MAX),
    ],
)
def test_a_client_takes_so_many_of_each_and_no_more(
    pushed: dict[str, tuple[str, ...]], most: int
) -> None:
    ((name, texts),) = pushed.items()
    push.check(Push(**{name: texts[:most]}))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=f"{name}: {most + 1} pushed, at most {most} allowed"):
        push.check(Push(**{name: texts[: most + 1]}))  # type: ignore[arg-type]
    assert not push.fits(Push(**{name: texts[: most + 1]}), 10**6)  # type: ignore[arg-type]
