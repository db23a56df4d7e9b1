"""A reload of a server of four lanes under load: clients of one and of three, on UDP and TCP.

server   ===veth===  udp1, udp3, tcp1, tcp3, each a host of its own (tests/support/reloading.py)
"""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, NamedTuple

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab
from fastun.lab.traffic import answers_ping
from fastun.session import keys
from tests.support import reloading
from tests.support.lanes_at_once import BY_FEW_PACKETS
from tests.support.lanes_load import lanes_of, wait_for_lanes
from tests.support.lanes_seen import assert_each_lane_adds_up, link_of
from tests.support.numbered import Asked, asking
from tests.support.reloading import SERVER_INNER, Client, inner_of
from tests.support.transfer import start_transfer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess
    from tests.support.reloading import Reloading

N_LANES = 4
N_OF_SEVERAL = 3
SEVERAL = ("--lanes", str(N_OF_SEVERAL))
CLIENTS = {
    "udp1": Client("udp"),
    "udp3": Client("udp", SEVERAL),
    "tcp1": Client("tcp"),
    "tcp3": Client("tcp", SEVERAL),
}
OF_SEVERAL = ("udp3", "tcp3")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reloading]:
    with Lab() as lab:
        yield reloading.start(
            lab,
            tmp_path_factory.mktemp("reload"),
            CLIENTS,
            ("--lanes", str(N_LANES)),
            program=BY_FEW_PACKETS,
        )


@pytest.fixture
def here(scene: Reloading) -> Iterator[Reloading]:
    yield scene
    scene.base()
    for name in CLIENTS:
        wait_until(lambda n=name: is_up(scene, n), f"{name} is up again", timeout_s=30)


def is_up(here: Reloading, name: str) -> bool:
    return answers_ping(here.clients[name].host, SERVER_INNER)


def inner(name: str) -> str:
    return inner_of(list(CLIENTS).index(name))


class Load(NamedTuple):
    """What goes on meanwhile: by client its numbered datagrams, there and back."""

    asked: dict[str, Asked]

    def check(self, *names: str) -> None:
        """Have nothing lost, and all in order, of these clients."""
        lost = {name: self.asked[name].n_lost() for name in names}
        wrong = {name: self.asked[name].n_out_of_order() for name in names}
        print({name: each.n_sent for name, each in self.asked.items()}, lost, wrong)  # noqa: T201
        assert (sum(lost.values()), sum(wrong.values())) == (0, 0)


@contextlib.contextmanager
def under_load(here: Reloading, *, by_streams: bool = True) -> Iterator[Load]:
    """Have all lanes of all clients open, and by them numbered datagrams, and four streams."""
    server = here.server
    is_on = threading.Event()
    is_on.set()
    with contextlib.ExitStack() as stack:
        asked = {
            name: stack.enter_context(asking(client.host, server.host, SERVER_INNER))
            for name, client in here.clients.items()
        }
        wait_for_several(here)
        streams = []
        for n, name in enumerate(OF_SEVERAL if by_streams else ()):
            ends: tuple[tuple[Host, Host, str], ...] = (
                (here.clients[name].host, server.host, SERVER_INNER),
                (server.host, here.clients[name].host, inner(name)),
            )
            streams += [
                start_transfer(
                    *each,
                    n_bytes=10**6,
                    goes_on=is_on.is_set,
                    port=7500 + 2 * n + m,
                    bytes_per_s=4 * 10**6,
                )
                for m, each in enumerate(ends)
            ]
        try:
            yield Load(asked)
        finally:
            is_on.clear()
        assert all(stream.result(timeout=60).is_exact for stream in streams)
    for gateway in (server, *here.clients.values()):
        assert_each_lane_adds_up(gateway)


def wait_for_several(here: Reloading) -> None:
    for name in OF_SEVERAL:
        wait_for_lanes(here.clients[name], N_OF_SEVERAL, timeout_s=30)
        wait_for_lanes(here.server, N_OF_SEVERAL, name, timeout_s=30)


def links(here: Reloading) -> dict[str, tuple[float, list[int]]]:
    """When each client's link began, and the lanes that carry it."""
    return {name: (link_of(here.server, name), lanes_of(here.server, name)) for name in CLIENTS}


def test_what_concerns_no_lane_changes_without_a_loss_and_in_order(here: Reloading) -> None:
    with under_load(here) as load:
        before = links(here)
        for name in OF_SEVERAL:
            key, own = here.peers_before[name]
            here.peers[name] = key, (*own, "10.77.0.0/16")
            here.write()
            assert f"peer {name}: allowed IPs +10.77.0.0/16" in here.reload().changes
            here.peers[name] = key, own
        here.peers["other"] = (
            keys.format_key(keys.public_of(keys.generate_private())),
            ("10.66.0.0/16",),
        )
        here.sections["push"] = 'routes = ["172.21.0.0/16"]\nkeepalive = 25'
        here.sections["log"] = 'level = "debug"'
        here.sections["forward"] = 'enabled = true\nto = ["172.21.0.0/16"]'
        here.sections["interface"] += "\nmtu = 1400"
        here.write()
        assert len(here.reload().changes) >= 6
        here.sections["interface"] += "\nlanes = 2"
        here.write()
        assert here.reload().needs_restart == ()  # the command line has them
        del here.peers["other"]
        here.base()
        assert links(here) == before
    load.check(*CLIENTS)


def test_addresses_that_are_listened_on_come_and_go_and_the_lanes_follow(here: Reloading) -> None:
    """Of UDP each lane has its socket there; each client's ways hear of the new one."""
    listen = 'udp = [{}]\ntcp = ["tcp://[::]:55555"]'
    everywhere, elsewhere = '"udp://[::]:51820"', '"udp://[::]:51822"'
    with under_load(here) as load:
        before = links(here)
        for addresses in (
            f"{everywhere}, {elsewhere}",
            elsewhere,
            f'{elsewhere}, "udp://10.2.0.1:51820", "udp://10.1.0.1:51820"',
            f'"udp://10.2.0.1:51820", {everywhere.replace("[::]", "10.1.0.1")}',
            everywhere,
        ):
            here.sections["listen"] = listen.format(addresses)
            here.write()
            assert here.reload().changes
            assert links(here) == before
        assert not here.server.host.listens(51822, udp=True)
    load.check(*CLIENTS)


def test_a_client_of_several_lanes_that_sends_from_another_port_loses_nothing(
    here: Reloading,
) -> None:
    client = here.clients["udp3"]
    with under_load(here) as load:
        before = links(here)
        here.rewrite_client("udp3", "[interface]\n", "[interface]\nlisten_port = 51833\n")
        assert here.reload(client).changes
        assert client.host.listens(51833, udp=True)
        here.rewrite_client("udp3", "listen_port = 51833\n", "")
        assert here.reload(client).changes
        assert not client.host.listens(51833, udp=True)
        assert links(here) == before
    load.check(*CLIENTS)


@pytest.mark.parametrize("name", OF_SEVERAL)
def test_a_limit_takes_a_peers_further_lanes_and_its_end_gives_them_back(
    here: Reloading, name: str
) -> None:
    others = [each for each in CLIENTS if each != name]
    with under_load(here, by_streams=False) as load:
        key, (own, *_) = here.peers_before[name]
        del here.peers[name]
        limited = f'[[peer]]\nname = "{name}"\npublic_key = "{key}"\nallowed_ips = ["{own}"]\n'
        here.write(f'{limited}limit = "400Mbit"\n')
        (said,) = here.reload().changes
        assert said == f"peer {name}: limit 400 Mbit/s"
        wait_for_lanes(here.server, 1, name)
        wait_for_lanes(here.clients[name], 1)
        transfer = start_transfer(
            here.clients[name].host, here.server.host, SERVER_INNER, n_bytes=10**7, port=7600
        )
        assert transfer.result(timeout=60).is_exact
        here.write(limited)
        here.reload()
        wait_for_lanes(here.server, N_OF_SEVERAL, name, timeout_s=40)
    load.check(*others)


@pytest.mark.parametrize("name", OF_SEVERAL)
@pytest.mark.parametrize("what", ["key", "preshared"])
def test_a_peer_that_is_another_from_now_on_has_no_lane_and_the_others_lose_nothing(
    here: Reloading, name: str, what: str
) -> None:
    """Its key, or the secret that both have beside it, is another one, and then the old one."""
    others = [each for each in CLIENTS if each != name]
    with under_load(here, by_streams=False) as load:
        key, (own, *_) = here.peers_before[name]
        del here.peers[name]
        other = keys.format_key(keys.public_of(keys.generate_private()))
        lines = {
            "key": f'public_key = "{other}"',
            "preshared": f'public_key = "{key}"\npreshared_key = "{other}"',
        }[what]
        here.write(f'[[peer]]\nname = "{name}"\n{lines}\nallowed_ips = ["{own}"]\n')
        assert here.reload().changes
        wait_until(lambda: not is_up(here, name), f"{name} is out")
        assert lanes_of(here.server, name) == []
        here.base()
        wait_until(lambda: is_up(here, name), f"{name} is back", timeout_s=40)
        wait_for_several(here)
    load.check(*others)


def test_a_peer_that_is_removed_and_added_under_load_has_all_its_lanes_again(
    here: Reloading,
) -> None:
    clients: dict[str, GatewayProcess] = {name: here.clients[name] for name in OF_SEVERAL}
    with under_load(here, by_streams=False) as load:
        for name in clients:
            del here.peers[name]
            here.write()
            assert here.reload().changes == (f"peer {name}: removed",)
            wait_until(lambda n=name: not is_up(here, n), f"{name} is out")
            here.base()
            wait_until(lambda n=name: is_up(here, n), f"{name} is back", timeout_s=40)
            wait_for_several(here)
    load.check("udp1", "tcp1")
