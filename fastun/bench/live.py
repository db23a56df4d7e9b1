"""``fastun bench --peer`` and ``--serve``: through a live tunnel to another fastun.

    here: fastun bench --peer NAME                     there: fastun bench --serve
    asks the gateway where NAME is, and what           listens on the inner addresses, port 55556
    its workers cost meanwhile
        TCP, bound to the tunnel's device  ..tunnel..  TCP, bound to the tunnel's device

No gateway listens for traffic by itself. The served end exists only while 'fastun bench --serve'
runs, for an hour at most, and only for what comes out of the tunnel: its sockets are bound to the
device.
"""

from __future__ import annotations

import contextlib
import socket
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from pathlib import Path
from typing import TYPE_CHECKING

import psutil

from fastun import __version__
from fastun.bench import sink
from fastun.bench.figures import Live, LiveOneWay
from fastun.bench.protocol import PORT
from fastun.bench.stages import spent, us_per_mebibyte
from fastun.bench.traffic import round_trips, transfer
from fastun.errors import ConfigError, RuntimeFailure, quote
from fastun.status import control
from fastun.status.report import socket_of

if TYPE_CHECKING:
    from fastun.bench.protocol import Request
    from fastun.bench.traffic import Direction
    from fastun.status.reply import PeerStatus, Status

# A forgotten one ends after that.
SERVE_S_MAX = 3600.0
# Connecting takes a round trip; what is silent for so long has no route, or a firewall.
_CONNECT_S = 2.0

Step = Callable[[str], None]


# -- the asking end ---------------------------------------------------------------------------


def measure(
    peer: str,
    interface: str | None,
    run_dir: Path,
    seconds: float,
    step: Step,
    *,
    only_receiving: bool = False,
) -> Live:
    """Measure the tunnel to `peer`, a name or an inner address. Raises FastunError."""
    path = socket_of(interface, run_dir)
    status = control.request(path, "status")
    step(f"looking for {peer}")
    target, addresses = find(status, peer, _inner_interfaces(status.interface))
    address = _serving(status.interface, peer, addresses)
    tunnel = _Tunnel(path, status.interface, address)
    sending = None
    try:
        step("round trips")
        times = round_trips(tunnel.connect)
        if not only_receiving:
            step("sending")
            sending = tunnel.one_way("send", seconds)
        step("receiving")
        receiving = tunnel.one_way("receive", seconds)
    except OSError as error:
        raise RuntimeFailure(
            f"the traffic to {address} broke off ({error.strerror or error}); "
            "see 'fastun status' on both hosts"
        ) from error
    return Live(
        version=__version__,
        interface=status.interface,
        wire=status.wire,
        peer=target.name if target else peer,
        address=address,
        transport=target.link.transport if target and target.link else None,
        seconds=seconds,
        round_trip_min_ms=times.min_ms,
        round_trip_median_ms=times.median_ms,
        round_trip_max_ms=times.max_ms,
        sending=sending,
        receiving=receiving,
    )


def find(
    status: Status, peer: str, inner: list[IPv4Interface | IPv6Interface]
) -> tuple[PeerStatus | None, list[str]]:
    """Return the peer's name, where it is certain, and the addresses at which it may be.

    `inner` are the addresses of the tunnel's device here. Raises FastunError with the fix.
    """
    with contextlib.suppress(ValueError):
        address = str(ip_address(peer))
        holders = [each for each in status.peers if address in each.inner_addresses]
        only = status.peers if len(status.peers) == 1 else []
        return next(iter(holders or only), None), [address]
    target = next((each for each in status.peers if each.name == peer), None)
    if target is None:
        names = ", ".join(each.name for each in status.peers[:8]) or "none"
        raise ConfigError(
            f"--peer {quote(peer)}: {status.interface} has no peer of that name;"
            f" choose one of: {names}"
        )
    if not target.up:
        raise RuntimeFailure(
            f"--peer {quote(peer)}: not connected to {status.interface}; "
            "see 'fastun status' on both hosts"
        )
    addresses = target.inner_addresses or (_guesses(inner) if len(status.peers) == 1 else [])
    if not addresses:
        raise ConfigError(
            f"--peer {quote(peer)}: its allowed IPs do not tell its own address; "
            "give that instead of the name: --peer ADDRESS"
        )
    return target, addresses


def _guesses(inner: list[IPv4Interface | IPv6Interface]) -> list[str]:
    """Return where the only other end is, as a rule: a server has a network's first address."""
    firsts = [
        next((host for host in each.network.hosts() if host != each.ip), None) for each in inner
    ]
    return [str(first) for first in firsts if first is not None]


def _serving(device: str, peer: str, addresses: list[str]) -> str:
    """Return the first of the addresses at which a server listens. RuntimeFailure if none."""
    for address in addresses:
        with contextlib.suppress(OSError), _connect(device, address):
            return address
    raise RuntimeFailure(
        f"--peer {quote(peer)}: nothing listens at {' or '.join(addresses)}, port {PORT}; "
        "run there: fastun bench --serve (and where it runs, give --peer the address it prints)"
    )


def _connect(device: str, address: str) -> socket.socket:
    connection = _bound_to(device, address)
    try:
        connection.settimeout(_CONNECT_S)
        connection.connect((address, PORT))
    except BaseException:
        connection.close()
        raise
    return connection


@dataclass(frozen=True, slots=True)
class _Tunnel:
    """The control socket and the device of a tunnel, and where a server listens behind it."""

    path: Path
    device: str
    address: str

    def connect(self) -> socket.socket:
        return _connect(self.device, self.address)

    def one_way(self, direction: Direction, seconds: float) -> LiveOneWay:
        before = control.request(self.path, "status")
        received = transfer(self.connect, direction, seconds)
        after = control.request(self.path, "status")
        if after.pid != before.pid:
            raise RuntimeFailure(f"the gateway of {self.device} was restarted meanwhile; run again")
        cpu = spent(before, after)
        return LiveOneWay(
            bits_per_second=received.bits_per_second,
            cpu_us_per_mebibyte={
                role: us_per_mebibyte(used_s, received.n_bytes) for role, used_s in cpu.items()
            },
        )


# -- the served end ---------------------------------------------------------------------------


def serve(interface: str | None, run_dir: Path) -> None:
    """Serve measuring clients through one tunnel, until interrupted or an hour has passed.

    Raises RuntimeFailure when there is no gateway, or when it ends.
    """
    device = control.request(socket_of(interface, run_dir), "status").interface
    index = socket.if_nametoindex(device)
    until_s = time.monotonic() + SERVE_S_MAX
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(each) for each in _listeners(device)]
        addresses = [listener.getsockname()[0] for listener in listeners]
        _say(f"serving on {', '.join(addresses)}, port {PORT}, for an hour; Ctrl-C ends it")
        _say(f"on the other host: fastun bench --peer {addresses[0]}")
        sink.serve(listeners, lambda: time.monotonic() < until_s and _is(device, index), _tell)
    if not _is(device, index):
        raise RuntimeFailure(f"the gateway of {device} has stopped")


def _listeners(device: str) -> Iterator[socket.socket]:
    addresses = [str(each.ip) for each in _inner_interfaces(device)]
    if not addresses:
        raise RuntimeFailure(f"{device} has no address to listen on; give its gateway --address")
    for address in addresses:
        listener = _bound_to(device, address)
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind((address, PORT))
            listener.listen(1)
        except OSError as error:
            listener.close()
            raise RuntimeFailure(
                f"{address} port {PORT}: {error.strerror}; "
                "is 'fastun bench --serve' running already?"
            ) from None
        yield listener


def _tell(remote: str, request: Request) -> None:
    _say(f"{remote}: {request.kind.name.lower()}, {request.duration_ms / 1000:g} s")


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


def _is(device: str, index: int) -> bool:
    try:
        return socket.if_nametoindex(device) == index
    except OSError:
        return False


# -- both -------------------------------------------------------------------------------------


def _bound_to(device: str, address: str) -> socket.socket:
    """Return a TCP socket whose only route is through the device."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
    return made


def _inner_interfaces(device: str) -> list[IPv4Interface | IPv6Interface]:
    """Return the device's addresses with their networks, IPv4 first, without link-local ones."""
    found = [
        ip_interface(f"{each.address}/{_prefix_length(each.netmask)}")
        for each in psutil.net_if_addrs().get(device, [])
        if each.family in (socket.AF_INET, socket.AF_INET6) and "%" not in each.address
    ]
    return sorted(
        (each for each in found if not each.ip.is_link_local), key=lambda each: each.version
    )


def _prefix_length(netmask: str | None) -> int | str:
    """Return what ip_interface takes: it knows no netmasks of IPv6."""
    if netmask is None or ":" not in netmask:
        return netmask or 32
    return int(ip_address(netmask)).bit_count()
