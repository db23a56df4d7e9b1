"""What the gateway has of the device: its descriptor, and what it may ask of it.

`host.device.Device` is in the host process; the methods here of the same names ask for its.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
from ipaddress import ip_network
from typing import TYPE_CHECKING, Self

from fastun.errors import FastunError, RuntimeFailure
from fastun.host import device_counters
from fastun.host.dns.name_lookup import DnsFiles
from fastun.host.dns.state import DnsState
from fastun.host.inner_mtu import InnerMtu
from fastun.host.process import messages
from fastun.host.process.channel import close_all
from fastun.host.process.messages import Begun, Changed
from fastun.host.process.watch import HostWatch
from fastun.native import Mode, Offload

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from fastun.config.settings import Settings
    from fastun.host.process.client import HostClient
    from fastun.host.process.messages import HostNow
    from fastun.host.routing.outer_addresses import OuterAddress
    from fastun.host.wanted import Applied
    from fastun.peers.peer import Address, Network


class GatewayDevice:
    """That of one gateway. Use as a context manager: at its end the device goes."""

    def __init__(self, host: HostClient, settings: Settings) -> None:
        """Wait for the device that ``host`` was asked to begin. Raises FastunError."""
        begun, descriptors = host.begun(Begun)
        if len(descriptors) != settings.lanes or host.now is None:
            close_all(descriptors)
            raise RuntimeFailure("the host process has given no device")
        self._host = host
        self.fds = tuple(descriptors)  # the device's queues, one a lane
        self.host_pid = host.pid
        self.name = settings.interface
        self.mode = Mode[settings.mode.upper()]
        self.index = begun.index
        self.offload_max = Offload(begun.offload)
        self.fwmark = begun.fwmark
        self.dns_before = DnsFiles(*begun.dns_before)
        self.inner_mtu = InnerMtu(settings.mtu)
        self.name_servers = GatewayNameServers(host)

    def __enter__(self) -> Self:  # noqa: D105
        return self

    def __exit__(self, *_: object) -> None:
        """Let it go."""
        close_all(list(self.fds))
        with contextlib.suppress(FastunError, OSError):  # of a host process that has ended
            self._host.let_go()

    @property
    def now(self) -> HostNow:
        """How it and this host are. Any thread."""
        assert self._host.now is not None  # noqa: S101 (since the beginning)
        return self._host.now

    @property
    def fault(self) -> str:
        """Why this host is not as the tunnel needs it; empty where it is. Any thread."""
        return self._host.fault or self.now.fault or self.now.kill_switch.fault

    @property
    def networks(self) -> frozenset[Network]:
        """The private networks that this host forwards to. Any thread."""
        return frozenset(map(ip_network, self.now.networks))

    @property
    def mtu(self) -> int:
        """The inner MTU, in bytes. Any thread."""
        return self.inner_mtu.bytes

    def follow(self, fail: Callable[[FastunError], None]) -> None:
        """Have the inner MTU follow what others make of it, and ``fail`` called at the loss.

        Event loop only.
        """
        loop = asyncio.get_running_loop()

        def soon(function: Callable[..., object], *arguments: object) -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(function, *arguments)

        self._host.follow(lambda now: soon(self._take, now), lambda error: soon(fail, error))

    async def watch(self) -> None:
        """Say when the host process is stopped, for ever. Event loop only."""
        await HostWatch(self._host).run()

    def _take(self, now: HostNow) -> None:
        if now.others_mtu:
            self.inner_mtu.change(now.others_mtu)

    # -- what may be asked: not on the event loop's thread ----------------------------------------

    def apply(
        self,
        addresses: Iterable[Address],
        routes: Iterable[Network],
        mtu: int,
        outer: Iterable[OuterAddress] = (),
        *,
        takes_all: bool = False,
    ) -> Applied:
        """As `Device.apply`."""
        asked = messages.Push(
            addresses=_texts(addresses),
            routes=_texts(routes),
            mtu=mtu,
            outer=_texts(outer),
            takes_all=takes_all,
        )
        return self._host.call(asked, Changed).applied

    def outer_changed(self, addresses: Iterable[OuterAddress]) -> None:
        """As `Device.outer_changed`."""
        self._host.have(messages.KeepOut(outer=_texts(addresses)))

    def route_also(self, networks: Collection[Network]) -> None:
        """As `Device.route_also`."""
        if len(networks) > messages.NETWORKS_MAX:
            raise RuntimeFailure(
                f"{len(networks):,} networks behind peers are too many to be routed; have "
                f"{messages.NETWORKS_MAX:,} at most, by shorter prefixes"
            )
        self._host.have(messages.RouteBehind(networks=tuple(map(str, networks))))

    def apply_dns(self, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
        """As `Device.apply_dns`."""
        self._host.have(messages.SetDns(servers=servers, domains=domains))

    def change(self, settings: Settings, outer: Iterable[OuterAddress]) -> Applied:
        """As `Device.change`; the host process takes the settings from where it has read them."""
        fields = self._host.reading.fields(settings)
        return self._host.call(
            messages.ChangeDevice(fields=fields, outer=_texts(outer)), Changed
        ).applied

    def adopt(self, settings: Settings) -> None:
        """Have the host process go by these from now on, as of `change`."""
        self._host.have(messages.Adopt(fields=self._host.reading.fields(settings)))

    def set_quiet(self, *, is_quiet: bool) -> None:
        """Have the host looked at less often, or as ever. Does not wait: event loop, too."""
        self._host.tell(messages.SetQuiet(is_quiet=is_quiet))

    # -- what the gateway sees itself: any thread -------------------------------------------------

    def statistics(self) -> dict[str, int]:
        """Return the kernel's own counters of the interface; empty when it is gone.

        The kernel's directions: what it received is what the tun-writer wrote.
        """
        if not self.now.is_here:
            return {}
        try:
            return device_counters.read(socket.if_indextoname(self.now.index))
        except OSError:
            return {}

    def has_frames(self) -> bool:
        """Return whether frames wait in the queue to us; the kernel gives no number."""
        poll = select.poll()
        for fd in self.fds:
            poll.register(fd, select.POLLIN)
        return any(events & select.POLLIN for _, events in poll.poll(0))


class GatewayNameServers:
    """The DNS servers of this host that the tunnel has set."""

    def __init__(self, host: HostClient) -> None:
        """Ask ``host``."""
        self._host = host

    @property
    def state(self) -> DnsState:
        """What is set. Any thread."""
        assert self._host.now is not None  # noqa: S101 (as of the device)
        dns = self._host.now.dns
        return DnsState(dns.servers, dns.domains, dns.manager, dns.fault, dns.is_checked)

    def judge(self, fault: str) -> None:
        """As `NameServers.judge`; does not wait: event loop, too."""
        self._host.tell(messages.JudgeDns(fault=fault[: messages.LINE_CHARACTERS_MAX]))


def _texts(values: Iterable[object]) -> tuple[str, ...]:
    return tuple(sorted(map(str, values)))
