"""A gateway that is asked to stop while something of it is held, stopped or dies: it ends with 0.

Four servers, each on a host of its own and in another state when SIGTERM comes.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.tunnel import SERVER_ADDRESSES, start_gateway
from fastun.native import ROLES
from tests.support.hijacked import held
from tests.support.host_state import differences, host_state
from tests.support.processes import processes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.tunnel import GatewayProcess

END_S = 20.0  # promised are 15


def pid_of(gateway: GatewayProcess, title: str) -> int:
    return next(pid for pid, each in processes(gateway).items() if each == title)


@contextlib.contextmanager
def a_debugger_holds_a_worker(gateway: GatewayProcess) -> Iterator[None]:
    with held(pid_of(gateway, "link-writer")):
        yield


@contextlib.contextmanager
def a_worker_dies_in_a_debuggers_hands(gateway: GatewayProcess) -> Iterator[None]:
    pid = pid_of(gateway, "tun-writer")
    with held(pid):
        os.kill(pid, signal.SIGKILL)
        yield


@contextlib.contextmanager
def a_worker_has_died_whose_template_is_stopped(gateway: GatewayProcess) -> Iterator[None]:
    os.kill(pid_of(gateway, "template"), signal.SIGSTOP)
    os.kill(pid_of(gateway, "link-reader"), signal.SIGKILL)
    yield


@contextlib.contextmanager
def the_host_process_is_stopped(gateway: GatewayProcess) -> Iterator[None]:
    pid = pid_of(gateway, "host")
    os.kill(pid, signal.SIGSTOP)
    yield
    time.sleep(0.5)
    os.kill(pid, signal.SIGCONT)


SCENES: tuple[Callable[[GatewayProcess], contextlib.AbstractContextManager[None]], ...] = (
    a_debugger_holds_a_worker,
    a_worker_dies_in_a_debuggers_hands,
    a_worker_has_died_whose_template_is_stopped,
    the_host_process_is_stopped,
)


class Servers:
    """One a scene, all up."""

    def __init__(self, lab: Lab, directory: Path) -> None:
        self._directory = directory
        self.hosts: dict[str, Host] = {}
        self.before: dict[str, dict[str, str]] = {}
        self.gateways: dict[str, GatewayProcess] = {}
        for n, scene in enumerate(SCENES):
            host = lab.host(f"server{n}")
            self.hosts[scene.__name__] = host
            self.before[scene.__name__] = host_state(host)
            self.gateways[scene.__name__] = self._started(host)
        for gateway in self.gateways.values():
            wait_until(lambda each=gateway: self._is_up(each), "up", timeout_s=30)

    def _started(self, host: Host) -> GatewayProcess:
        listen = ("--listen", "udp://127.0.0.1:51820", "--listen", "tcp://127.0.0.1:55555")
        return start_gateway(
            host, self._directory, "serve", *listen, wire="wireguard", addresses=SERVER_ADDRESSES
        )

    @staticmethod
    def _is_up(gateway: GatewayProcess) -> bool:
        gateway.check_alive()
        # A fork of the template has its title until it has its own.
        titles = sorted(processes(gateway).values())
        is_whole = titles == sorted(("gateway", "host", "template", *ROLES))
        return is_whole and "gateway   up" in "".join(gateway.log_tail(20))


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        yield Servers(lab, tmp_path_factory.mktemp("servers"))


@pytest.mark.promise("Asked to stop, a gateway ends with 0 whatever a process of it does")
@pytest.mark.parametrize("scene", SCENES, ids=[each.__name__ for each in SCENES])
def test_it_ends_with_0_and_leaves_nothing(
    servers: Servers,
    scene: Callable[[GatewayProcess], contextlib.AbstractContextManager[None]],
) -> None:
    gateway = servers.gateways[scene.__name__]
    with scene(gateway):
        gateway.asked_to_stop = True
        gateway.process.send_signal(signal.SIGTERM)
        if scene is not the_host_process_is_stopped:
            assert gateway.process.wait(END_S) == 0, gateway.log_tail(20)
    assert gateway.process.wait(END_S) == 0, gateway.log_tail(20)
    host = servers.hosts[scene.__name__]
    assert differences(servers.before[scene.__name__], host_state(host)) == []
