"""What changes in a gateway's file is applied while traffic flows (tests/support/reloading.py)."""

from __future__ import annotations

import contextlib
import json
import random
import signal
import socket
import threading
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

import pytest

from fastun.errors import ConfigError, RuntimeFailure
from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, INTERFACE
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.peers.terms import RateLimit, Terms
from fastun.session import keys
from fastun.status import control
from tests.support import reloading
from tests.support.reloading import Reloading
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from concurrent.futures import Future

    from fastun.lab.tunnel import GatewayProcess
    from tests.support.transfer import Transfer


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloading]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        yield reloading.start(lab, tmp_path_factory.mktemp("reload"))


@pytest.fixture
def here(scene: Reloading) -> Iterator[Reloading]:
    yield scene
    scene.base()


def routes(client: GatewayProcess) -> list[str]:
    """Return the routes that the client has from its server."""
    listed = client.host.ip("route", "show", "dev", INTERFACE)
    return [line.split()[0] for line in listed.splitlines() if line.startswith("172.")]


def wait_for_routes(here: Reloading, *expected: str) -> None:
    for client in here.clients.values():
        wait_until(lambda: routes(client) == [*expected], "pushed routes")  # noqa: B023


def test_peers_pushes_and_the_rest_change_without_a_lost_packet(here: Reloading) -> None:
    udp_key, tcp_key = (here.peers[name][0] for name in ("udp", "tcp"))
    with here.losing_nothing():
        here.peers["udp"] = (udp_key, ("10.99.0.2/32", "10.77.0.0/16"))
        assert here.reload().changes == ()
        here.write()
        assert here.reload().changes == ("peer udp: allowed IPs +10.77.0.0/16",)
        assert "10.77.0.0/16" in here.server.host.ip("route", "show", "dev", INTERFACE)
        here.peers["udp"] = (udp_key, ("10.99.0.2/32",))
        here.peers["tcp"] = (tcp_key, ("10.99.0.3/32", "10.77.0.0/16"))
        here.write()
        assert here.reload().changes == (
            "peer udp: allowed IPs -10.77.0.0/16",
            "peer tcp: allowed IPs +10.77.0.0/16",
        )
        for route in ("172.20.0.0/16", "172.21.0.0/16"):
            here.sections["push"] = f'routes = ["{route}"]'
            here.write()
            (said,) = here.reload().changes
            assert said.startswith(f"push.routes: +{route} -172.")
            wait_for_routes(here, route)
        here.sections["interface"] += "\nmtu = 1400\ngso = false"
        here.sections["log"] = 'level = "debug"'
        here.sections["listen"] = (
            'udp = ["udp://[::]:51820", "udp://[::]:51821"]\ntcp = ["tcp://[::]:55555"]'
        )
        here.sections["forward"] = 'enabled = true\nto = ["172.21.0.0/16"]'
        here.write()
        done = here.reload()
        assert sorted(done.changes) == [
            "forward: off -> on (to 172.21.0.0/16, masquerade off, between peers on)",
            "interface.mtu: 1420 -> 1400",
            "listen: +udp://[::]:51821",
            "log: console from info up -> console from debug up",
        ]
        assert done.needs_restart == ("interface.gso",)
        assert "mtu 1400" in here.server.host.ip("link", "show", "dev", INTERFACE)
        assert here.server.host.listens(51821, udp=True)
        assert "forward" in here.server.host.run("nft", "list", "tables").stdout
        here.base()
        assert "forward" not in here.server.host.run("nft", "list", "tables").stdout


def test_terms_in_the_file_are_applied_and_shown(here: Reloading) -> None:
    def listed() -> dict[str, object]:
        state = ("--state", str(here.server.log_file.parent))
        peers = json.loads(here.server.host.run(*FASTUN, "peer", "list", "--json", *state).stdout)
        return next(dict(peer) for peer in peers if peer["name"] == "tcp")

    client = here.clients["tcp"].host
    with here.losing_nothing():
        here.write('limit = "50Mbit"\nquota = "1GB"\nto = ["10.99.0.1"]\nexpires = 2100-01-01\n')
        (said,) = here.reload().changes
        assert said.startswith("peer tcp: expires 2100-01-02 ")
        assert said.endswith(", limit 50 Mbit/s, quota 1.00 GB a month, to 10.99.0.1/32")
        assert listed()["limit_inbound_bytes_per_second"] == 50_000_000 / 8
        assert listed()["to"] == ["10.99.0.1/32"]
        path = control.socket_path(here.server.log_file.parent, INTERFACE)
        shown = next(each for each in control.request(path, "status").peers if each.name == "tcp")
        assert shown.terms is not None
        assert shown.terms.quota_bytes == 10**9
    here.write('to = ["192.0.2.0/24"]\n')
    here.reload()
    assert not answers_ping(client, reloading.SERVER_INNER)
    here.write("expires = 2001-01-01\n")
    here.reload()
    assert not answers_ping(client, reloading.SERVER_INNER)
    assert "the peer may not connect: it is expired" in here.server.log_file.read_text()
    here.base()
    wait_until(lambda: answers_ping(client, reloading.SERVER_INNER), "the peer", timeout_s=20)


def test_the_command_says_what_it_did_and_a_fault_in_the_file_changes_nothing(
    here: Reloading,
) -> None:
    here.sections["push"] += "\nkeepalive = 25"
    here.write()
    done = here.command()
    assert (done.returncode, done.stdout, done.stderr) == (0, "ft0: push.keepalive: 0 -> 25\n", "")
    done = here.command()
    assert (done.returncode, done.stdout, done.stderr) == (0, "ft0: nothing has changed\n", "")
    here.write('to = ["172.16.9.0"]\n')
    done = here.command()
    assert done.stdout == "ft0: peer tcp: to 172.16.9.0/32\n"
    assert "ft0: warning: " in done.stderr
    assert "peer[1].to: 172.16.9.0 is one host, 172.16.9.0/32; for a network" in done.stderr
    assert "172.16.9.0 is one host" in here.server.log_file.read_text()
    for fault, where in (
        ("[log]\nlevel = \n", "line 2"),
        ('[interface]\nadress = ["10.0.0.1/24"]\n', "interface.adress"),
        ('[[peer]]\nname = "x"\n', "peer"),
    ):
        here.file.write_text(fault)
        done = here.command()
        assert (done.returncode, done.stdout) == (2, "")
        assert str(here.file) in done.stderr
        assert where in done.stderr
        assert len(done.stderr.splitlines()) == 1


def test_networks_behind_peers_of_the_directory_are_routed(here: Reloading) -> None:
    def route() -> str:
        return here.server.host.ip("route", "show", "10.88.0.0/16", "dev", INTERFACE)

    def peer(*arguments: str) -> None:
        state = ("--state", str(here.server.log_file.parent))
        here.server.host.run(*FASTUN, "peer", *arguments, *state)

    key = keys.format_key(keys.public_of(keys.generate_private()))
    with here.losing_nothing():
        peer(
            "add",
            "site",
            "--public-key",
            key,
            "--allowed-ips",
            "10.88.0.0/16",
            "--endpoint",
            "udp://10.1.0.1",
        )
        wait_until(lambda: bool(route()), "a route")
        here.reload()
        assert route()
        peer("remove", "site")
        wait_until(lambda: not route(), "no route")


def test_what_the_system_refuses_changes_nothing(here: Reloading) -> None:
    server = here.server.host
    listen = 'udp = ["udp://[::]:51820", "udp://[::]:{}"]\ntcp = ["tcp://[::]:55555"]'
    with here.losing_nothing(), server.socket(kind=socket.SOCK_DGRAM) as other:
        other.bind(("0.0.0.0", 51830))  # noqa: S104 (of the namespace)
        here.sections["listen"] = listen.format(51830)
        here.sections["interface"] += "\nmtu = 1400"
        here.write()
        with pytest.raises(RuntimeFailure, match=r"51830.*in use.*nothing was changed"):
            here.reload()
        # The port is bound before the device refuses, and closed again.
        here.sections["listen"] = listen.format(51831)
        here.sections["interface"] = here.sections["interface"].replace(
            "10.99.0.1/24", "10.1.0.1/24"
        )
        here.write()
        with pytest.raises(RuntimeFailure, match=r"address 10\.1\.0\.1/24.*nothing was changed"):
            here.reload()
        assert not server.listens(51831, udp=True)
        assert "mtu 1420" in server.ip("link", "show", "dev", INTERFACE)
        assert "10.99.0.1/24" in server.ip("address", "show", "dev", INTERFACE)


def test_a_hang_up_without_a_terminal_reloads_either_side(here: Reloading) -> None:
    here.sections["push"] = 'routes = ["172.22.0.0/16", "172.23.0.0/16"]'
    here.write()
    here.server.process.send_signal(signal.SIGHUP)
    wait_for_routes(here, "172.22.0.0/16", "172.23.0.0/16")
    assert any("reloaded  changes=1" in line for line in here.server.log_tail(20))
    with here.losing_nothing():
        client = here.rewrite_client("tcp", "[interface]\n", '[interface]\naccept = ["mtu"]\n')
        client.process.send_signal(signal.SIGHUP)
        wait_until(lambda: routes(client) == [], "no route is accepted")
        here.rewrite_client("tcp", 'accept = ["mtu"]\n', "")
        assert here.reload(client).changes
        wait_for_routes(here, "172.22.0.0/16", "172.23.0.0/16")


def test_a_client_goes_to_its_new_endpoint_and_follows_a_server_that_moves(here: Reloading) -> None:
    """Each time one side closes a port, the other is elsewhere already, or hears from there."""
    listen = 'udp = [{}]\ntcp = ["tcp://[::]:55555"]'
    server = here.server.host
    before, after = '"udp://[::]:51820"', '"udp://10.1.0.1:51822"'
    with here.losing_nothing():
        here.sections["listen"] = listen.format(f"{before}, {after}")
        here.write()
        here.reload()
        client = here.rewrite_client("udp", "10.1.0.1:51820", "10.1.0.1:51822")
        here.reload(client)
        remote = "10.1.0.1:51822"
        wait_until(lambda: remote in "".join(client.log_tail(5)), "the new endpoint")
        here.sections["listen"] = listen.format(after)
        here.write()
        here.reload()
        assert not server.listens(51820, udp=True)
    established = here.established()
    here.base()
    assert not server.listens(51822, udp=True)
    wait_until(lambda: "10.1.0.1:51820" in "".join(client.log_tail(5)), "roaming")
    assert here.established() == established, "the session lives on"
    here.rewrite_client("udp", "10.1.0.1:51822", "10.1.0.1:51820")
    here.reload(client)


def test_a_client_on_tcp_dials_its_new_endpoint_and_outlives_the_listener(here: Reloading) -> None:
    server, remote = here.server.host, "tcp://10.2.0.1:55556"
    here.sections["listen"] = (
        'udp = ["udp://[::]:51820"]\ntcp = ["tcp://[::]:55555", "tcp://[::]:55556"]'
    )
    here.write()
    here.reload()
    client = here.rewrite_client("tcp", "10.2.0.1:55555", "10.2.0.1:55556")
    here.reload(client)
    wait_until(lambda: f"remote={remote}" in "".join(client.log_tail(5)), "its link")
    wait_until(lambda: answers_ping(client.host, reloading.SERVER_INNER), "traffic")
    with here.losing_nothing():
        here.base()
        wait_until(lambda: not server.listens(55556), "no listener")
    here.rewrite_client("tcp", "10.2.0.1:55556", "10.2.0.1:55555")
    here.reload(client)
    wait_until(lambda: answers_ping(client.host, reloading.SERVER_INNER), "traffic")


@pytest.mark.parametrize("n", [20, pytest.param(1000, marks=pytest.mark.soak)])
def test_reloads_in_a_row_lose_nothing_and_broken_files_change_nothing(
    here: Reloading, n: int
) -> None:
    """In the long form beside a TCP connection that takes all there is of one tunnel."""
    dice, client = random.Random(n), here.clients["udp"].host
    loaded: list[Future[Transfer]] = []
    is_on = threading.Event()
    is_on.set()
    if n > 20:
        transfer = start_transfer(
            client, here.server.host, reloading.SERVER_INNER, n_bytes=1, goes_on=is_on.is_set
        )
        loaded.append(transfer)
    spare = [f"10.77.{i}.0/24" for i in range(8)]
    spare_peer = Peer(name="spare", public_key=keys.public_of(keys.generate_private()))
    with here.losing_nothing(0.002), PeerStore(here.server.log_file.parent) as directory:
        directory.add(spare_peer)
        for _ in range(n):
            terms = Terms(limit=RateLimit(outbound=dice.randrange(1, 9) * 10**5))
            prefixes = (ip_network(f"10.66.{dice.randrange(9)}.0/24"),)
            directory.replace("spare", replace(spare_peer, allowed_ips=prefixes, terms=terms))
            given = {each: dice.choice([*here.peers_before, ""]) for each in spare}
            for name, (key, (own, *_)) in here.peers_before.items():
                here.peers[name] = key, (own, *(each for each in spare if given[each] == name))
            route = f"172.{16 + dice.randrange(16)}.0.0/16"
            here.sections["push"] = f'routes = ["{route}"]\nkeepalive = {dice.randrange(3) * 25}'
            broken = dice.choice(["", "", "[listen", "x = 1\n", "[[peer]]\nname = 3\n"])
            here.write(broken)
            with contextlib.suppress(ConfigError) if broken else contextlib.nullcontext():
                here.reload()
            assert here.server.process.poll() is None
        directory.remove("spare")
        here.write()
        here.reload()
        is_on.clear()
        assert all(each.result(60).is_exact for each in loaded)
        listed = here.server.host.ip("route", "show", "dev", INTERFACE)
        wanted = {each for _, ips in here.peers.values() for each in ips if "/24" in each}
        assert {line.split()[0] for line in listed.splitlines() if "10.77" in line} == wanted
