"""What the host process makes, opens and keeps for a gateway that may not, and what it refuses."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import time
from contextlib import contextmanager
from dataclasses import replace
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest

from fastun.config.settings import Options, Settings, load
from fastun.ending import AskedToStop
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, RuntimeFailure
from fastun.host import run_directory
from fastun.host.process import supply_messages
from fastun.host.process.client import HostClient
from fastun.host.process.gateway_files import GatewayFiles, GatewayPeers, GatewaySource
from fastun.host.process.gateway_sockets import GatewaySockets
from fastun.host.process.supply import Supply
from fastun.host.process.work import HostWork
from fastun.host.sockets.address import EndpointAddress
from fastun.host.users import KEPT
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.peers.terms import Usage
from fastun.session import keys
from tests.support.descriptors import open_descriptors
from tests.support.host_serving import host_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MARK = 7
ENDED = "the host process has ended"


def free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server(directory: Path, port: int = 5555, **more: Any) -> Settings:
    options = Options(
        listen=(f"tcp://127.0.0.1:{port}", f"udp://127.0.0.1:{port}", f"tcp://vpn.example:{port}"),
        address=("10.9.0.1/24",),
        metrics="127.0.0.1:9100",
        state=directory / "state",
        run_dir=directory / "run",
        **more,
    )
    return replace(load("serve", None, options), fwmark=MARK)


def client(directory: Path, **more: Any) -> Settings:
    options = Options(
        wire="plain", insecure=True, state=directory / "state", run_dir=directory / "run", **more
    )
    plain = load("connect", "tcp://192.0.2.1:5555", options)
    return replace(plain, wire="wireguard", endpoints=(Endpoint("udp", "192.0.2.1", 5555),))


@contextmanager
def supplying(settings: Settings) -> Iterator[HostClient]:
    def handlers() -> dict[Any, Callable[[Any], Any]]:
        return dict(Supply(HostWork(settings, None), KEPT).handlers)

    with (
        host_process(handlers) as (end, pid, _),
        HostClient(end, pid, supply_messages.ANSWERS) as host,
    ):
        yield host


def at(host: str, port: int) -> EndpointAddress:
    return EndpointAddress(ip_address(host), port, 0)


# -- sockets ------------------------------------------------------------------------------------


def test_sockets_come_as_they_were_asked_for(tmp_path: Path) -> None:
    port = free_port()
    with supplying(server(tmp_path, port)) as host:
        sockets = GatewaySockets(host)
        with sockets.listener(at("127.0.0.1", port)) as stream:
            assert stream.getsockname() == ("127.0.0.1", port)
            assert (stream.type, stream.getblocking()) == (socket.SOCK_STREAM, False)
            assert stream.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == MARK
        with sockets.datagrams(at("127.0.0.1", port)) as datagrams:
            assert datagrams.getsockname() == ("127.0.0.1", port)
            with sockets.icmp("hints", socket.AF_INET, [port]) as raw:
                assert raw.type == socket.SOCK_RAW
        for family in (socket.AF_INET, socket.AF_INET6):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with sockets.outgoing(family, kind) as out:
                    assert (out.family, out.type, out.getblocking()) == (family, kind, False)
                    assert out.getsockopt(socket.SOL_SOCKET, socket.SO_MARK) == MARK
        ours, theirs = sockets.channel()
        with ours, theirs:
            ours.send(b"boot")
            assert theirs.recv(10) == b"boot"


def test_an_address_that_is_in_use_is_an_error_and_no_end(tmp_path: Path) -> None:
    with supplying(server(tmp_path, port := free_port())) as host:
        sockets = GatewaySockets(host)
        with (
            sockets.datagrams(at("127.0.0.1", port)),
            pytest.raises(OSError, match="in use"),
        ):
            sockets.datagrams(at("127.0.0.1", port))
        sockets.outgoing(socket.AF_INET, socket.SOCK_STREAM).close()


ALLOWED: dict[str, Callable[[GatewaySockets], socket.socket]] = {
    "a name may be any address": lambda it: it.listener(at("127.0.0.9", 5555)),
    "the metrics": lambda it: it.listener(at("127.0.0.1", 9100), "metrics"),
}

REFUSED: dict[str, Callable[[GatewaySockets], socket.socket]] = {
    "another port": lambda it: it.listener(at("127.0.0.1", 22)),
    "another port of UDP": lambda it: it.datagrams(at("127.0.0.1", 53)),
    "another address of UDP": lambda it: it.datagrams(at("127.0.0.2", 5555)),
    "every address": lambda it: it.datagrams(at("0.0.0.0", 5555)),  # noqa: S104
    "any port, as a client": lambda it: it.datagrams(at("::", 0)),
    "the tunnel's port for metrics": lambda it: it.listener(at("127.0.0.1", 5555), "metrics"),
    "the metrics' port for links": lambda it: it.listener(at("127.0.0.1", 9100)),
    "ICMP of others": lambda it: it.icmp("hints", socket.AF_INET, [53]),
}


@pytest.mark.parametrize("what", ALLOWED)
def test_what_the_settings_say_is_made(tmp_path: Path, what: str) -> None:
    with supplying(server(tmp_path)) as host:
        ALLOWED[what](GatewaySockets(host)).close()


@pytest.mark.parametrize("what", REFUSED)
def test_what_the_settings_do_not_say_ends_the_conversation(tmp_path: Path, what: str) -> None:
    with supplying(server(tmp_path)) as host, pytest.raises(RuntimeFailure, match=ENDED):
        REFUSED[what](GatewaySockets(host))


def test_the_newest_ports_stay_the_gateways_however_many_there_were(tmp_path: Path) -> None:
    with supplying(client(tmp_path)) as host:
        sockets = GatewaySockets(host)
        for _ in range(supply_messages.PORTS_MAX):  # as one that changes its port for days
            sockets.datagrams(at("0.0.0.0", 0)).close()  # noqa: S104
        with (
            sockets.datagrams(at("::", 0)) as last,
            sockets.datagrams(at("0.0.0.0", 0)) as newest,  # noqa: S104
        ):
            ports = [each.getsockname()[1] for each in (last, newest)]
            sockets.icmp("hints", socket.AF_INET, ports).close()


def test_a_filter_for_what_was_closed_meanwhile_ends_nothing(tmp_path: Path) -> None:
    with supplying(server(tmp_path, free_port())) as host:
        sockets, (one, other) = GatewaySockets(host), socket.socketpair()
        with one, other:
            sockets.turn_away(one, [bytes(4)])
        sockets.channel()[0].close()  # it was done, and the next request is


def test_a_client_gets_its_own_port_and_no_other(tmp_path: Path) -> None:
    with supplying(client(tmp_path)) as host:
        sockets = GatewaySockets(host)
        sockets.datagrams(at("::", 0)).close()
        sockets.datagrams(at("0.0.0.0", 0)).close()  # noqa: S104
        with pytest.raises(RuntimeFailure, match=ENDED):
            sockets.datagrams(at("::", 5555))


# -- the state directory ------------------------------------------------------------------------

NAME = f"endpoints-{'0' * 16}"


def test_a_file_is_kept_for_the_host_process_alone(tmp_path: Path) -> None:
    settings = client(tmp_path)
    with supplying(settings) as host:
        files = GatewayFiles(host, settings.state_dir)
        with pytest.raises(FileNotFoundError):
            files.read(NAME, 100)
        content = os.urandom(100_000)
        files.replace(NAME, content)
        assert files.read(NAME, 200_000) == content
        assert files.read(NAME, 10) == content[:10]
        status = Path(files.path(NAME)).stat()
        assert stat.S_IMODE(status.st_mode) == 0o600


@pytest.mark.parametrize(
    "name",
    ["private.key", "peers.sqlite", f"../{NAME}", f"{NAME}/..", f"/etc/{NAME}", f"{NAME}\n", ""],
)
def test_no_other_file_can_be_named(tmp_path: Path, name: str) -> None:
    settings = client(tmp_path)
    for ask in ("read", "replace"):
        with supplying(settings) as host:
            files = GatewayFiles(host, settings.state_dir)
            with pytest.raises(RuntimeFailure, match=ENDED):
                files.read(name, 9) if ask == "read" else files.replace(name, b"x")
    assert not settings.state_dir.exists()


def test_the_peer_directory_is_read_and_what_was_used_is_kept_there(tmp_path: Path) -> None:
    settings = server(tmp_path)
    assert settings.role == "serve"
    own = keys.pair_of(keys.load_or_make_private(settings.private_key_file))
    peer = Peer(name="laptop", public_key=bytes(range(32)), preshared_key=bytes(32))
    with supplying(settings) as host:
        peers = GatewayPeers(host, settings)
        before = peers.version()
        with PeerStore(settings.state_dir) as store:
            store.add(peer)
            announced = store.server()
        assert announced is not None
        assert announced.public_key == own.public, "of its own key file"
        assert peers.version() > before
        assert peers.peers() == (peer,)
        peers.remember_usage({"laptop": Usage("2026-11", 7)})
        assert peers.usage() == {"laptop": Usage("2026-11", 7)}
        peers.close()
        for _ in range(2):  # a look that was not waited for may come after the end
            with pytest.raises(AskedToStop):
                peers.version()


def test_the_key_by_which_peers_know_a_server_is_looked_up(tmp_path: Path) -> None:
    settings = server(tmp_path)
    assert settings.role == "serve"
    known, other = (bytes([n] * 32) for n in (1, 2))
    with supplying(settings) as host:
        source = GatewaySource(host)
        source.check_key(settings, None)
        assert not settings.state_dir.exists(), "a look makes nothing"
        with PeerStore(settings.state_dir) as store:
            store.remember_server_key(known)
            store.add(Peer(name="laptop", public_key=bytes(range(32))))
        source.check_key(settings, known)
        for key in (other, None):
            with pytest.raises(ConfigError, match=r"the peer of --state .* knows this server by"):
                source.check_key(settings, key)


def test_a_network_of_one_address_has_no_function_of_its_own(tmp_path: Path) -> None:
    """Also not where it came from the host process as text: 250 bytes for each peer."""
    settings = server(tmp_path)
    assert settings.role == "serve"
    keys.load_or_make_private(settings.private_key_file)
    prefixes = tuple(map(ip_network, ("10.9.0.2/32", "10.9.1.2/31", "10.9.2.0/24", "fd00::2/128")))
    with supplying(settings) as host:
        peers = GatewayPeers(host, settings)
        before = peers.version()
        with PeerStore(settings.state_dir) as store:
            store.add(Peer(name="laptop", public_key=bytes(range(32)), allowed_ips=prefixes))
        changes = peers.changes_since(before)
        assert changes is not None
        for peer in (*peers.peers(), *changes.peers):
            assert peer.allowed_ips == prefixes
            assert not [each for each in peer.allowed_ips if "hosts" in vars(each)]


def test_a_client_has_no_peer_directory(tmp_path: Path) -> None:
    settings = server(tmp_path)
    assert settings.role == "serve"
    with supplying(client(tmp_path)) as host, pytest.raises(RuntimeFailure, match=ENDED):
        GatewayPeers(host, settings)
    with supplying(client(tmp_path)) as host, pytest.raises(RuntimeFailure, match=ENDED):
        GatewaySource(host).check_key(settings, None)


# -- the control socket, the template -----------------------------------------------------------


def test_the_control_socket_is_there_while_it_is_used(tmp_path: Path) -> None:
    import asyncio  # noqa: PLC0415

    settings = client(tmp_path)
    path = run_directory.socket_path(settings.run_dir, settings.interface)

    async def claim(host: HostClient) -> None:
        async with GatewaySockets(host).control() as listener:
            assert run_directory.is_alive(path)
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            assert listener.getsockname() == str(path)
        host.have(supply_messages.RemoveControl())  # it was asked for without waiting
        assert not path.exists()

    with supplying(settings) as host:
        asyncio.run(claim(host))


def test_a_template_is_a_child_of_the_gateway(tmp_path: Path) -> None:
    with supplying(client(tmp_path)) as host:
        pid, channel = GatewaySockets(host).start_template()
        with channel:
            assert psutil.Process(pid).ppid() == os.getpid()
            channel.settimeout(20)
            assert len(channel.recv(10)) == 4, "it is ready"
            assert psutil.Process(pid).cmdline()[0].startswith("fastun: template")
        until_s = time.monotonic() + 10
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            assert time.monotonic() < until_s
            time.sleep(0.01)


# -- one that does nothing ----------------------------------------------------------------------


def test_a_stopped_host_process_costs_a_moment_once(tmp_path: Path) -> None:
    with supplying(client(tmp_path)) as host:
        sockets = GatewaySockets(host)
        os.kill(host.pid, signal.SIGSTOP)
        began_s = time.monotonic()
        with pytest.raises(TimeoutError, match="does not answer"):
            sockets.outgoing(socket.AF_INET, socket.SOCK_STREAM)
        first_s = time.monotonic() - began_s
        for _ in range(50):
            with pytest.raises(TimeoutError, match="does not answer"):
                sockets.outgoing(socket.AF_INET, socket.SOCK_STREAM)
        assert time.monotonic() - began_s < 2 * first_s
        before = open_descriptors()
        os.kill(host.pid, signal.SIGCONT)
        until_s = time.monotonic() + 10
        while True:
            assert time.monotonic() < until_s
            with contextlib.suppress(TimeoutError):
                sockets.outgoing(socket.AF_INET, socket.SOCK_STREAM).close()
                break
        assert open_descriptors() <= before, "the late one is closed"
