"""fastun's changes of its host: one record for each change, which knows how to undo it.

routing-rules   the two rules of a default route (routing_rules.py)
nft-table       a table of our own
sysctl, forwarding, ipv6-forwarding     settings of the network namespace (sysctls.py)
dns             the name servers of an interface (name_servers.py)
resolv-conf     those that are in /etc/resolv.conf itself (resolv_conf.py)
device          what a device that outlives us gets: addresses, routes, MTU, and that it is up

The journal stores these records, so they are validated like any input: whatever a journal file
contains, undoing it touches only such rules and tables, settings below /proc/sys/net, the DNS of an
interface, and TUN devices with what says that fastun made it. A new kind is a new class here and a
member of `AnyChange`.
"""

from __future__ import annotations

import socket
import time
from typing import Annotated, ClassVar, Literal

import msgspec
from msgspec import Meta

from fastun.errors import RuntimeFailure
from fastun.host import link_state, programs
from fastun.host.dns import resolv_conf
from fastun.host.firewall import nft
from fastun.host.journal.change import Change
from fastun.host.journal.sysctls import ForwardingSetting, Ipv6Forwarding, Sysctl
from fastun.host.link_state import LinkState
from fastun.host.netlink.iproute import IPRoute
from fastun.host.netlink.kernel import Kernel, SetAddress, SetRoute
from fastun.host.routing import routing_rules

# After a gateway was killed, its workers and the device may exist for another moment.
_DEVICE_GOES_LIMIT_S = 1.0
_DEVICE_GOES_S = 0.05

_InterfaceName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_=+.][A-Za-z0-9_=+.-]{0,14}\Z")]
_OddInterfaceName = Annotated[str, Meta(pattern=r"^[!-$&-.0-9;-~]{1,15}\Z")]
_RecordName = Annotated[str, Meta(pattern=r"^([A-Za-z0-9_=+.][A-Za-z0-9_=+.-]{0,31})?\Z")]
_TableName = Annotated[str, Meta(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}\Z")]
_Mark = Annotated[int, Meta(ge=1, le=0xFFFFFFFF)]
_Index = Annotated[int, Meta(ge=1, le=0x7FFFFFFF)]


class RoutingRules(Change, frozen=True, tag="routing-rules"):
    """The rules of both IP versions that lead packets to a mark's table."""

    mark: _Mark

    @property
    def what(self) -> str:  # noqa: D102 (Change has it, here and below)
        return "routing rules"

    @property
    def by_hand(self) -> str:  # noqa: D102
        flush = f"rule flush table {routing_rules.table_of(self.mark)}"  # of every length
        return f"ip {flush}; ip -6 {flush}"

    def undo(self, limit_s: float, *, owner_died: bool) -> None:  # noqa: D102
        with IPRoute() as netlink:
            if owner_died:
                self._clear_stale(netlink, limit_s)
            elif not routing_rules.remove(netlink, self.mark):
                raise RuntimeFailure("the kernel does not remove them")

    def _clear_stale(self, netlink: IPRoute, limit_s: float) -> None:
        """Remove the rules unless their table has routes: then a living gateway has the mark."""
        deadline = time.monotonic() + min(limit_s, _DEVICE_GOES_LIMIT_S)
        while routing_rules.clear_stale(netlink, self.mark) and time.monotonic() < deadline:
            time.sleep(_DEVICE_GOES_S)


class NftTable(Change, frozen=True, tag="nft-table"):
    """A table of the inet family that belongs to an interface of ours."""

    name: _TableName
    interface: _OddInterfaceName
    rank: ClassVar[int] = 1

    @property
    def what(self) -> str:  # noqa: D102
        return f"nft table inet {self.name}"

    @property
    def by_hand(self) -> str:  # noqa: D102
        return f"nft delete table inet {self.name}"

    def undo(self, limit_s: float, *, owner_died: bool) -> None:  # noqa: D102
        if owner_died and _is_there_to_stay(self.interface):
            return
        nft.remove(self.name, limit_s, is_undo=True)


class Dns(Change, frozen=True, tag="dns"):
    """The name servers of an interface of ours, set by one of two programs."""

    interface: _InterfaceName
    program: Literal["resolvconf", "resolvectl"]
    record: _RecordName = ""  # resolvconf's, if it has another name than the interface
    rank: ClassVar[int] = 2
    limit_s: ClassVar[float] = 8.0  # it restarts what caches names, on slow machines too

    @property
    def what(self) -> str:  # noqa: D102
        return "DNS settings"

    @property
    def by_hand(self) -> str:  # noqa: D102
        return " ".join(self._command())

    def _command(self) -> tuple[str, ...]:
        if self.program == "resolvconf":
            return ("resolvconf", "-d", self.record or self.interface, "-f")
        return ("resolvectl", "revert", self.interface)

    def undo(self, limit_s: float, *, owner_died: bool) -> None:  # noqa: D102
        if owner_died and _is_there_to_stay(self.interface):
            return
        try:
            programs.run(self._command(), limit_s=limit_s, is_undo=True)
        except RuntimeFailure:
            # systemd-resolved's settings are the interface's, and go with it.
            if self.program != "resolvectl" or _exists(self.interface):
                raise


class ResolvConf(Change, frozen=True, tag="resolv-conf"):
    """The name servers of an interface of ours in /etc/resolv.conf, which says what was there."""

    interface: _InterfaceName
    rank: ClassVar[int] = 2
    outlives_boot: ClassVar[bool] = True

    @property
    def what(self) -> str:  # noqa: D102
        return str(resolv_conf.PATH)

    @property
    def by_hand(self) -> str:  # noqa: D102
        name = self.interface
        script = f"/^# {name}: these/,/^# {name}: end$/d; s/^#{name}# //"
        return f"sed -i '{script}' {resolv_conf.PATH}"

    def undo(self, limit_s: float, *, owner_died: bool) -> None:  # noqa: ARG002, D102
        if not (owner_died and _is_there_to_stay(self.interface)):
            resolv_conf.remove(self.interface)


class PreparedDevice(Change, frozen=True, tag="device"):
    """A TUN or TAP device that was made by another program, and stays when we are gone."""

    interface: _OddInterfaceName
    index: _Index
    before: LinkState
    ours: LinkState
    joins: bool = False  # a bridge, which may have come later
    rank: ClassVar[int] = -1  # rules that lead to its routes are in use, and stay

    @property
    def what(self) -> str:  # noqa: D102
        return f"interface {self.interface}"

    @property
    def by_hand(self) -> str:  # noqa: D102
        return (
            f"ip route flush dev {self.interface} proto {routing_rules.PROTOCOL}; "
            f"ip link set {self.interface} {'up' if self.before.is_up else 'down'} "
            f"mtu {self.before.mtu}"
        )

    def undo(self, limit_s: float, *, owner_died: bool) -> None:  # noqa: ARG002, D102
        if owner_died and _is_there_to_stay(self.interface):
            return
        now = link_state.read(self.index)
        if now is None:  # it is gone, or not a TUN device
            return
        with Kernel(self.index) as kernel:
            kernel.change(
                [SetRoute(each.place, True) for each in kernel.own_routes() if each.is_ours]
            )
            kernel.change(
                [
                    SetAddress(each.local, is_removal=True)
                    for each in kernel.addresses()
                    if each.is_ours and each.index == self.index
                ]
            )
        # A push may have set the MTU of a gateway that was killed.
        goal = now.back_to(self.before, self.ours, any_mtu=owner_died)
        if self.joins:
            goal = msgspec.structs.replace(goal, bridge=self.before.bridge)
        link_state.write(self.index, goal)


AnyChange = (
    RoutingRules
    | NftTable
    | Sysctl
    | ForwardingSetting
    | Ipv6Forwarding
    | Dns
    | ResolvConf
    | PreparedDevice
)


def _is_there_to_stay(interface: str) -> bool:
    """Return whether an interface is another gateway's: that of a dead one goes within moments.

    One that was prepared for fastun stays, without a program that has it open.
    """
    deadline = time.monotonic() + _DEVICE_GOES_LIMIT_S
    while _exists(interface) and not link_state.unused(interface):
        if time.monotonic() >= deadline:
            return True
        time.sleep(_DEVICE_GOES_S)
    return False


def _exists(interface: str) -> bool:
    return interface in {name for _, name in socket.if_nameindex()}
