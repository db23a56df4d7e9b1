"""What the tests of all folders share: the laboratory, and a tunnel between two of its hosts.

server                                      client
to-client 10.0.0.1, fd00::1  ===veth===     to-server 10.0.0.2, fd00::2
ft0       10.99.0.1, fd99::1 ...tunnel...   ft0       10.99.0.2, fd99::2
"""

from __future__ import annotations

import gc
import os
import re
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pytest
import structlog.testing  # before fastun.log, which has something else in its place
from hypothesis import HealthCheck, settings

from fastun.host.dns import resolv_conf
from fastun.lab.host import Host, wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.tunnel import GatewayProcess, Tunnel, start_tunnel
from tests.support.figures import Figures, keep
from tests.support.postgres import cluster
from tests.support.promised import promised_s

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence

    from fastun.lab.tunnel import Transport
    from tests.support.postgres import Cluster

_FIGURES = pytest.StashKey[Figures]()
_KEY = re.compile(r"[A-Za-z0-9+/]{43}=")

OUTER = {4: ("10.0.0.1/24", "10.0.0.2/24"), 6: ("fd00::1/64", "fd00::2/64")}


class StartTunnel(Protocol):
    """What the `tunnel` fixture returns; call it once a test."""

    def __call__(
        self,
        *,
        wire: str = "wireguard",
        mode: str = "tun",
        transport: Transport = "tcp",
        outer: int = 4,
        mtu: int = 1500,
        server_arguments: Sequence[str] = (),
        client_arguments: Sequence[str] = (),
        wait: bool = True,
    ) -> Tunnel: ...


# What the tests start inherits them, and is to be ended by them: a shell in the background, or
# nohup, has them ignored.
for _number in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT):
    if signal.getsignal(_number) == signal.SIG_IGN:
        signal.signal(_number, signal.SIG_DFL)

# The same examples in every run, however long, so that CI fails only where the code changed.
# The environment's HYPOTHESIS_PROFILE may name another profile: `soak` (make soak) or `search`.
settings.register_profile(
    "ci",
    derandomize=True,
    deadline=None,
    database=None,
    max_examples=100,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
CI = settings.get_profile("ci")
settings.register_profile("quick", parent=CI, max_examples=20)
settings.register_profile("soak", parent=CI, max_examples=2_500)
settings.register_profile("search", parent=CI, derandomize=False, max_examples=20_000)
settings.load_profile(
    os.environ.get("HYPOTHESIS_PROFILE", "quick" if os.environ.get("FASTUN_QUICK") == "1" else "ci")
)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name parameters alike in each process of pytest-xdist: keys are new in each."""
    if isinstance(val, str) and _KEY.search(val):
        return _KEY.sub("KEY", val)
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get("FASTUN_SOAK") == "1":
        return
    for item in items:
        if item.get_closest_marker("soak"):
            item.add_marker(pytest.mark.skip(reason="a soak test: needs FASTUN_SOAK=1 (make soak)"))


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Figures:
    """What a test of a promise measures (support/figures.py)."""
    return request.node.stash.setdefault(_FIGURES, Figures())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    marker = item.get_closest_marker("promise")
    if marker is not None and call.when == "call" and report.passed:
        keep(item.nodeid, marker.args[0], item.stash.get(_FIGURES, Figures()))
    return report


def pytest_collection_finish() -> None:
    """Leave what all tests share out of later collections of garbage: many tests ask for one."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def unconfigured_log() -> Iterator[None]:
    """Have each test begin with a log that writes everything, whatever one before has asked for."""
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def machines_resolv_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a test does in this process away from this machine's /etc/resolv.conf."""
    monkeypatch.setattr(resolv_conf, "PATH", Path("/nonexistent/resolv.conf"))


@pytest.fixture
def lab() -> Iterator[Lab]:
    missing = missing_capability()
    if missing:
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as laboratory:
        yield laboratory


@pytest.fixture
def hosts(lab: Lab) -> tuple[Host, Host]:
    """The server and the client, not yet wired."""
    return lab.host("server"), lab.host("client")


@pytest.fixture
def tunnel(lab: Lab, hosts: tuple[Host, Host], tmp_path: Path) -> Iterator[StartTunnel]:
    """A function that starts a tunnel and returns it when its inner addresses answer.

    Afterwards both gateways must still run, end with code 0 within 2 s of SIGTERM (`promised_s`),
    and leave neither their device nor a process. One that the test ended itself by
    `GatewayProcess.stop` is checked for what it left only.
    """
    started: list[Tunnel] = []

    def start(
        *,
        wire: str = "wireguard",
        mode: str = "tun",
        transport: Transport = "tcp",
        outer: int = 4,
        mtu: int = 1500,
        server_arguments: Sequence[str] = (),
        client_arguments: Sequence[str] = (),
        wait: bool = True,
    ) -> Tunnel:
        server, client = hosts
        server_cidr, client_cidr = OUTER[outer]
        lab.wire(server, client, [server_cidr], [client_cidr], mtu=mtu)
        pair = start_tunnel(
            server,
            client,
            server_cidr.partition("/")[0],
            tmp_path,
            wire=wire,
            mode=mode,
            transport=transport,
            server_arguments=server_arguments,
            client_arguments=client_arguments,
        )
        started.append(pair)
        if wait:
            pair.wait_up()
        return pair

    yield start
    gateways = [gateway for pair in started for gateway in (pair.client, pair.server)]
    for gateway in gateways:
        print(f"--- {gateway.role} log", *gateway.log_tail(40), sep="\n")  # noqa: T201 (pytest shows it on failure)
    for gateway in gateways:
        _assert_ends(gateway)
    for gateway in gateways:
        _assert_left_nothing(gateway)


def _assert_ends(gateway: GatewayProcess) -> None:
    if gateway.asked_to_stop:
        return
    gateway.check_alive()
    code = gateway.stop(timeout_s=promised_s(2))
    assert code == 0, "\n".join((f"{gateway.role} failed:", *gateway.log_tail()))


def _assert_left_nothing(gateway: GatewayProcess) -> None:
    """Check for the device and for workers; a killed gateway's have two seconds to go."""
    host = gateway.host
    wait_until(
        lambda: gateway.interface not in host.devices(),
        f"device {gateway.interface} of {gateway.role} gone",
        timeout_s=promised_s(2),
    )
    others = {process.pid for process in host.processes if process.poll() is None}
    wait_until(
        lambda: not [pid for pid in host.pids() if not _descends_from(pid, others)],
        f"workers of {gateway.role} gone",
        timeout_s=promised_s(2),
    )


def _descends_from(pid: int, ancestors: set[int]) -> bool:
    """Whether a process is one of `ancestors` or below it; one that has just ended counts too."""
    while pid not in ancestors:
        if pid <= 1 or pid == os.getpid():
            return False
        try:
            stat = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace")
        except OSError:
            return True
        pid = int(stat.rpartition(")")[2].split()[1])
    return True


@pytest.fixture(scope="session")
def postgres() -> Iterator[Cluster]:
    """A PostgreSQL; each test makes a database of its own."""
    with cluster() as running:
        yield running
