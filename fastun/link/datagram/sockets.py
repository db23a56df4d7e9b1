"""The UDP sockets of a gateway: opened, tuned, handed to the workers, and sent handshakes by.

One socket carries all peers, so it is never connected. A socket of IPv6 on every address carries
IPv4 as well. The workers read and write data; the gateway writes only handshakes and hellos, and
reads nothing. Source: udp(7), ip(7), ipv6(7), linux/in.h, linux/udp.h.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv6Address

from fastun import log
from fastun.config.settings import Settings
from fastun.endpoint import format_host_port
from fastun.errors import RuntimeFailure
from fastun.host.sockets import binding
from fastun.host.sockets.address import EndpointAddress
from fastun.host.sockets.maker import OWN, SocketMaker
from fastun.lane.messages import AddSocket
from fastun.lane.session_lane import SessionLane
from fastun.lane.worker_process import WorkerProcess
from fastun.link.datagram import tuning
from fastun.link.datagram.socket_choice import UdpSocket, choose
from fastun.link.inside import Inside, LeadsInsideError
from fastun.native import SOCKETS_MAX, UdpAddress
from fastun.session.messages import MessageType

# The tun-reader sends as well, in place of a link-writer that sleeps. It is first: what it has not
# yet heard of is the link-writer's.
SOCKET_ROLES = ("tun-reader", "link-reader", "link-writer")

# linux/in.h, linux/in6.h; not all of them are in the socket module of Python 3.11.
_IP_PKTINFO = 8
_IP_MTU, _IPV6_MTU = 14, 24
_IPV6_TCLASS = 67
# DSCP AF41, as the kernel's WireGuard gives initiations and responses, not cookie replies.
_HANDSHAKE_CLASS = struct.pack("=i", 0x88)
_HANDSHAKES = (bytes([MessageType.INITIATION]), bytes([MessageType.RESPONSE]))
_IN_PKTINFO = struct.Struct("=i4s4s")  # interface, our address, (unused) destination
_IN6_PKTINFO = struct.Struct("=16sI")  # our address, interface


class UdpSockets:
    """All UDP sockets of a gateway, by index. Event loop only."""

    def __init__(
        self,
        sockets: Iterable[socket.socket],
        *,
        offload: bool,
        inside: Inside | None = None,
        maker: SocketMaker = OWN,
        n_lanes: int = 1,
    ) -> None:
        """Take over bound sockets of ``maker``; each gets others for further lanes.

        Nothing is sent to what is ``inside`` the tunnel. Raises as `add`.
        """
        self.maker = maker
        self._sockets: list[UdpSocket | None] = []  # None: removed
        self._inside = inside
        self._offload = offload
        self._n_lanes = n_lanes
        self._of_lanes: dict[int, UdpSocket] = {}  # of a dialling side, each with its own port
        self._leaving: set[int] = set()  # that are read still, and nothing is sent by
        for each in sockets:
            self.add(each)

    def add(self, bound: socket.socket) -> int:
        """Take over one more; return its index. RuntimeFailure where a worker can have no more."""
        if not self.has_room():
            raise RuntimeFailure(f"--listen: more than {SOCKETS_MAX} udp addresses; remove some")
        if None in self._sockets:
            index = self._sockets.index(None)
            self._sockets[index] = self._tuned(bound)
            return index
        self._sockets.append(self._tuned(bound))
        return len(self._sockets) - 1

    def replace(self, index: int, bound: socket.socket) -> None:
        """Take over a socket in place of another, which is closed."""
        retired, self._sockets[index] = self._sockets[index], self._tuned(bound)
        if retired is not None:
            retired.close()

    def begin_leaving(self, bound: socket.socket) -> int:
        """Have no peer be reached by a socket from now on; return its index."""
        index = next(n for n, each in self._present() if each.socket is bound)
        self._leaving.add(index)
        return index

    def turn_away(self, index: int) -> None:
        """Have nothing more arrive by a socket that is about to go; what has arrived is read.

        It is connected to itself, so what comes to its port is for the others that take it.
        """
        leaving = self._at(index)
        for each in (leaving.socket, *leaving.others):
            with contextlib.suppress(OSError):  # its address has gone
                each.connect(each.getsockname())

    def remove(self, bound: socket.socket) -> int:
        """Let go of a socket, which its owner closes; return the index that it had."""
        index = self.begin_leaving(bound)
        for each in self._at(index).others:
            each.close()
        self._sockets[index] = None
        self._leaving.discard(index)
        return index

    def has_room(self) -> bool:
        """Return whether a worker can have one more."""
        return sum(1 for _ in self._present()) < SOCKETS_MAX

    def _present(self) -> Iterator[tuple[int, UdpSocket]]:
        return ((n, each) for n, each in enumerate(self._sockets) if each is not None)

    def _at(self, index: int) -> UdpSocket:
        """Return the socket of an index. OSError: it is closed."""
        each = self._sockets[index]
        if each is None:
            raise OSError(errno.EBADF, "the socket is closed")
        return each

    def _tuned(self, bound: socket.socket) -> UdpSocket:
        others: tuple[socket.socket, ...] = ()
        if self._n_lanes > 1:
            from fastun.host.sockets import steering  # noqa: PLC0415 (of several lanes alone)

            others = steering.beside(bound, self._n_lanes, self.maker)
        for each in (bound, *others):
            tuning.tune(each)
            has_offload = self._offload and tuning.set_offload(each)
        return UdpSocket(bound, has_offload, others)

    def of_lane(self, lane: int, *, is_new: bool = False) -> UdpSocket:
        """Return the socket of a dialling side's further lane, which has no other.

        ``is_new``: one by another port, in its place. RuntimeFailure where it cannot be made.
        """
        before = self._of_lanes.get(lane)
        if before is None or is_new:
            (bound,) = any_port(None, self.maker)
            self._of_lanes[lane] = self._tuned(bound)
            if before is not None:
                before.close()
        return self._of_lanes[lane]

    def close(self) -> None:
        """Close all."""
        for _, each in self._present():
            each.close()
        for each in self._of_lanes.values():
            each.close()

    def tell_worker(self, worker: WorkerProcess) -> None:
        """Hand all sockets of its lane to a fresh worker."""
        present = self._present()
        if worker.lane > 0 and self._n_lanes == 1:
            present = ((0, each) for lane, each in self._of_lanes.items() if lane == worker.lane)
        for index, each in present if worker.role in SOCKET_ROLES else ():
            fd = each.of_lane(worker.lane).fileno()
            worker.send(AddSocket(index, each.has_offload), fd)

    def pass_to(self, lane: SessionLane, role: str, index: int) -> None:
        """Hand one socket to the workers of a role."""
        each = self._at(index)
        fds = [each.of_lane(n).fileno() for n in range(self._n_lanes)]
        lane.pass_socket(role, AddSocket(index, each.has_offload), fds)

    def all(self) -> list[socket.socket]:
        """Return the sockets, those of all lanes."""
        of_lanes = [each.socket for each in self._of_lanes.values()]
        return [*self.firsts(), *of_lanes, *(o for _, each in self._present() for o in each.others)]

    def firsts(self) -> list[socket.socket]:
        """Return the sockets of the first lane, by which handshakes come."""
        return [each.socket for _, each in self._present()]

    def ports(self) -> list[int]:
        """Return the ports that the sockets are bound to."""
        of_lanes = [each.socket for each in self._of_lanes.values()]
        return [each.getsockname()[1] for each in (*self.firsts(), *of_lanes)]

    def of_port(self, port: int) -> int | None:
        """Return the index of a socket with that port, if there is one."""
        return next((n for n, _ in self._present() if self.port_of(n) == port), None)

    def port_of(self, index: int) -> int:
        """Return the port of a socket, 0 where it is closed."""
        each = self._sockets[index]
        return 0 if each is None else int(each.socket.getsockname()[1])

    def is_to_stay(self, index: int) -> bool:
        """Return whether a socket is there, and is not about to go."""
        return index not in self._leaving and self._sockets[index] is not None

    def address_of(
        self, host: IPv4Address | IPv6Address, port: int, zone: int = 0, by: int | None = None
    ) -> UdpAddress:
        """Return how a peer there is reached: ``by`` that socket if it can. OSError: by none."""
        staying = {n: each for n, each in self._present() if n not in self._leaving}
        fixed = None if by is None else staying.get(by)
        if by is not None and fixed is not None and fixed.reaches(host):
            return UdpAddress(host, port, by, zone)
        lookup = None if self._inside is None else self._inside.lookup
        index = choose(staying, host, port, lookup)
        if index is None:
            raise OSError(errno.EAFNOSUPPORT, f"no UDP socket reaches {host}")
        return UdpAddress(host, port, index, zone)

    def free_of(self, address: UdpAddress) -> int:
        """Return the socket that reaches the same by another source, if its own is bound to one.

        OSError as `address_of`.
        """
        if self._at(address.socket_index).bound.is_unspecified:
            return address.socket_index
        return self.address_of(address.host, address.port, address.zone).socket_index

    def send(self, message: bytes, to: UdpAddress, lane: int = 0) -> None:
        """Send one datagram from where the peer knows us. Raises OSError, also LeadsInsideError.

        ``lane``: by the socket of that further one of a dialling side.
        """
        if self._inside is not None and self._inside.holds(to):
            raise LeadsInsideError
        where = (self._of_lanes[lane] if lane else self._at(to.socket_index)).socket
        marked = _traffic_class(message, to)
        try:
            where.sendmsg(
                [message],
                _source(where.family, to) + marked,
                0,
                _sockaddr(where.family, to),
            )
        except OSError:
            if to.local is None:
                raise
            # Our address may have gone (Linux says EINVAL to that, of late ENETUNREACH for IPv4);
            # the routing table knows another.
            where.sendmsg([message], marked, 0, _sockaddr(where.family, to))


def open_for(
    settings: Settings, inside: Inside | None = None, maker: SocketMaker = OWN
) -> UdpSockets:
    """Return the sockets that a side dials by; none where it serves, or nothing is udp.

    Raises RuntimeFailure.
    """
    sockets: list[socket.socket] = []
    if settings.role == "connect" and any(each.scheme == "udp" for each in settings.endpoints):
        sockets += any_port(settings.udp_port, maker)
    for each in sockets:
        say_listening(each)
    return UdpSockets(
        sockets,
        offload=settings.data_path.udp_offload,
        inside=inside,
        maker=maker,
        n_lanes=settings.lanes if settings.role == "serve" else 1,
    )


def say_listening(bound: socket.socket) -> None:
    """Say by which port a side dials, and is called back."""
    where = format_host_port(*bound.getsockname()[:2])
    log.get("link").info("listening", address=where, transport="udp")


# -- opening ----------------------------------------------------------------------------------


def any_port(port: int | None, maker: SocketMaker = OWN) -> list[socket.socket]:
    """Return sockets for a side that begins: bound to ``port``, or to one that the kernel chooses.

    Raises RuntimeFailure.
    """
    host: IPv4Address | IPv6Address = IPv4Address(0)
    if socket.has_dualstack_ipv6():
        host = IPv6Address(0)
    try:
        return [maker.datagrams(EndpointAddress(host, port or 0, 0))]
    except OSError as error:
        raise RuntimeFailure(f"UDP port {port}: {binding.advice(error)}") from None


# -- addresses --------------------------------------------------------------------------------


def _sockaddr(family: int, to: UdpAddress) -> tuple[object, ...]:
    if family == socket.AF_INET:
        return (str(to.host), to.port)
    return (str(_mapped(to.host)), to.port, 0, to.zone)


def _mapped(host: IPv4Address | IPv6Address) -> IPv6Address:
    return IPv6Address(f"::ffff:{host}") if isinstance(host, IPv4Address) else host


def _source(family: int, to: UdpAddress) -> list[tuple[int, int, bytes]]:
    if to.local is None:
        return []
    if family == socket.AF_INET:
        info = _IN_PKTINFO.pack(0, to.local.packed, bytes(4))
        return [(socket.IPPROTO_IP, _IP_PKTINFO, info)]
    info = _IN6_PKTINFO.pack(_mapped(to.local).packed, to.zone)
    return [(socket.IPPROTO_IPV6, socket.IPV6_PKTINFO, info)]


def _traffic_class(message: bytes, to: UdpAddress) -> list[tuple[int, int, bytes]]:
    """Return what gives a handshake its DSCP: by the family of the packet, not of the socket."""
    if message[:1] not in _HANDSHAKES:
        return []
    if isinstance(to.host, IPv4Address):
        return [(socket.IPPROTO_IP, socket.IP_TOS, _HANDSHAKE_CLASS)]
    return [(socket.IPPROTO_IPV6, _IPV6_TCLASS, _HANDSHAKE_CLASS)]


def cached_path_mtu(to: UdpAddress, maker: SocketMaker = OWN) -> int:
    """Return the path MTU in the kernel's PMTU cache: only a hint. Raises OSError."""
    where = EndpointAddress(to.host, to.port, to.zone)
    with maker.outgoing(where.family, socket.SOCK_DGRAM) as probe:
        probe.connect(where.sockaddr())  # sends nothing
        if where.family == socket.AF_INET:
            return probe.getsockopt(socket.IPPROTO_IP, _IP_MTU)
        return probe.getsockopt(socket.IPPROTO_IPV6, _IPV6_MTU)
