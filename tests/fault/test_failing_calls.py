"""System calls of one end fail for a while, one after the other, with every error that they can.

Nothing goes deaf or spins, all packets are counted, and it is good again within a second of the
end. The short form tries one error of each call, of some processes; the long one all.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import LabError
from fastun.lab.network import Lab, missing_capability
from fastun.native import ROLES
from tests.support.call_errors import ERRORS, LEFT_OUT, OTHERS, allowed, pairs_of
from tests.support.failing_calls import CALLS, GATEWAY, HOST
from tests.support.faulted_tunnel import FaultedTunnel, is_alive

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.support.figures import Figures

IS_LONG = os.environ.get("FASTUN_SOAK") == "1"
FAILING_S = 1.1
# A machine on which four tunnels run at once is late itself.
GOOD_AGAIN_S = 1.0 if IS_LONG else 4.0
CPU_MAX = 0.05

# A worker makes them when it begins, or gets a new session or link.
AT_THE_BEGINNING = frozenset(
    {"close", "epoll_ctl", "getrandom", "getsockname", "madvise", "mlock", "mmap", "munmap"}
)
SAMPLE = {
    "udp": (
        ("tun-reader", "read", errno.ENOMEM),
        ("tun-reader", "mmap", errno.ENOMEM),
        ("link-writer", "sendmmsg", errno.EAGAIN),
        ("link-reader", "recvmmsg", errno.ENOMEM),
        ("link-reader", "sendmsg", errno.ENOBUFS),
        ("tun-writer", "futex", errno.ENOMEM),
        (GATEWAY, "epoll_ctl", errno.ENOSPC),
        (GATEWAY, "recvmsg", errno.ENOMEM),
        (GATEWAY, "mmap", errno.ENOMEM),
        (HOST, "sendmsg", errno.ENOBUFS),
    ),
    "tcp": (
        ("link-writer", "writev", errno.EAGAIN),
        ("link-reader", "recvmsg", errno.EAGAIN),
        (GATEWAY, "socket", errno.EMFILE),
    ),
}


def test_every_call_that_a_worker_may_make_is_tried_or_left_out_for_a_reason() -> None:
    may = set().union(*allowed().values())
    assert may == set(ERRORS) | set(LEFT_OUT)
    assert set(ERRORS) | {call for calls in OTHERS.values() for call in calls} <= set(CALLS)


@pytest.fixture(scope="module", params=["udp", "tcp"])
def tunnel(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultedTunnel]:
    if missing := missing_capability():
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with (
        Lab() as lab,
        FaultedTunnel(lab, tmp_path_factory.mktemp("calls"), request.param) as faulted,
    ):
        yield faulted
        assert is_alive(faulted.client)


def provoke(tunnel: FaultedTunnel, title: str, call: str) -> None:
    """Have calls made that nothing makes while all is well."""
    if title in ROLES and call in AT_THE_BEGINNING:
        tunnel.worker(title).kill()
    if title in OTHERS:
        tunnel.worker("tun-writer").kill()  # the template forks another, of which the gateway hears
        if tunnel.transport == "tcp":
            tunnel.client.host.run("ss", "-K", "dport", "=", "55555", check=False)
        with contextlib.suppress(LabError):
            tunnel.client.get("/readyz", timeout_s=0.3)


def suffer(tunnel: FaultedTunnel, title: str, call: str, error: int, figures: Figures) -> list[str]:
    """Let a call fail for a while; return what was not as promised."""
    tunnel.seconds_until_good()
    if not is_alive(tunnel.client):
        return ["ended since", *tunnel.client.log_tail(30)]
    for each in (*ROLES, "template"):  # packets pass without a writer, too
        tunnel.worker(each)
    n_before, cpu_before, before_s = (
        tunnel.calls.n_failed,
        tunnel.cpu_seconds(title),
        time.monotonic(),
    )
    with tunnel.calls.failing(title, call, error):
        provoke(tunnel, title, call)
        time.sleep(max(0.0, FAILING_S - (time.monotonic() - before_s)))
    good_again_s = tunnel.seconds_until_good()
    if not is_alive(tunnel.client):
        return [f"{title} {call} {errno.errorcode[error]}: ended", *tunnel.client.log_tail()]
    share = (tunnel.cpu_seconds(title) - cpu_before) / (time.monotonic() - before_s)
    n_failed = tunnel.calls.n_failed - n_before
    missing = tunnel.missing()
    figures.total("pairs", n_failed > 0)
    figures.worst("good again after", good_again_s, "s")
    figures.worst("CPU", 100 * share, "%")
    is_kept = good_again_s < GOOD_AGAIN_S and share < CPU_MAX and not missing
    what = f"{tunnel.transport} {title} {call} {errno.errorcode[error]}: {n_failed} failed, "
    what += f"good again after {good_again_s:.2f} s, CPU {share:.1%}, {missing}"
    print(what)  # noqa: T201
    return [] if is_kept else [what]


@pytest.mark.promise(
    "A system call that fails for a while costs what it was to carry, and a second at most"
)
@pytest.mark.skipif(IS_LONG, reason="the long form tries all")
def test_one_that_fails_for_a_while_leaves_nothing_behind(
    tunnel: FaultedTunnel, figures: Figures
) -> None:
    said = []
    for title, call, error in SAMPLE[tunnel.transport]:
        said += suffer(tunnel, title, call, error, figures)
    assert not said, "\n".join(said)


@pytest.mark.promise(
    "A system call that fails for a while costs what it was to carry, and a second at most"
)
@pytest.mark.soak
@pytest.mark.timeout(900)
@pytest.mark.parametrize("title", [*ROLES, *OTHERS])
def test_whichever_fails_for_a_while_leaves_nothing_behind(
    tunnel: FaultedTunnel, title: str, figures: Figures
) -> None:
    said = []
    for call, error in pairs_of(title):
        said += suffer(tunnel, title, call, error, figures)
    assert not said, "\n".join(said)
