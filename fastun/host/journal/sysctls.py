"""Settings below /proc/sys/net: read, written, and as changes of the host that are undone.

Forwarding is what several programs want of one host: other gateways of ours, containers, virtual
machines. So it is left on where another gateway of ours forwards, in whatever state directory its
journal is, and where another program has turned it on for all interfaces by now.
"""

from __future__ import annotations

import contextlib
import errno
import re
import socket
from pathlib import Path
from typing import Annotated, ClassVar, Final, Literal

from msgspec import Meta, structs

from fastun.errors import RuntimeFailure
from fastun.host import link_state
from fastun.host.firewall import nft
from fastun.host.journal.change import Change
from fastun.host.netlink.iproute import IPRoute
from fastun.host.routing import routing_rules

#: Makes the kernel use marks when it validates sources: a default route by rules needs it.
SRC_VALID_MARK: Final = "net/ipv4/conf/all/src_valid_mark"

#: Makes the kernel tell a sender of a shorter way: of an interface, or of ``all``.
SEND_REDIRECTS: Final = "net/ipv4/conf/{}/send_redirects"

#: What comes in by an interface is forwarded: of an interface, or of ``all``. For IPv6, Linux 6.17.
FORWARDING_IPV4: Final = "net/ipv4/conf/{}/forwarding"
FORCE_FORWARDING_IPV6: Final = "net/ipv6/conf/{}/force_forwarding"

#: Of ``all``: IPv6 is forwarded. Of an interface: it is a router there, and ignores routers.
FORWARDING_IPV6: Final = "net/ipv6/conf/{}/forwarding"

#: 2: an interface listens to router advertisements even where it forwards.
ACCEPT_RA: Final = "net/ipv6/conf/{}/accept_ra"

#: The purpose of the nft table of a gateway that forwards.
FORWARD_TABLE: Final = "forward"

_PROC_SYS = Path("/proc/sys")
_FORWARDING_IPV6_OF: Final = re.compile(FORWARDING_IPV6.format("([^/]+)"))

_SysctlName = Annotated[str, Meta(pattern=r"^net(/[^/\s.][^/\s]*)+\Z", max_length=200)]
_SysctlNameOrNone = Annotated[str, Meta(pattern=r"^(net(/[^/\s.][^/\s]*)+)?\Z", max_length=200)]
_SysctlValue = Annotated[str, Meta(pattern=r"^[A-Za-z0-9_ \t-]{1,64}\Z")]
_InterfaceName = Annotated[str, Meta(pattern=r"^[!-$&-.0-9;-~]{1,15}\Z")]


class Setting(Change, frozen=True):
    """A setting, by its path below /proc/sys: what it was, and what we made it."""

    name: _SysctlName
    before: _SysctlValue
    ours: _SysctlValue
    rank: ClassVar[int] = 1
    is_shared: ClassVar[bool] = True

    @property
    def what(self) -> str:  # noqa: D102 (Change has it, here and below)
        return self.name.replace("/", ".")

    @property
    def by_hand(self) -> str:  # noqa: D102
        return f"sysctl -w {self.name}={self.before}"

    def is_lost(self) -> bool:  # noqa: D102
        return value_of(self.name) not in ("", self.ours)

    def original(self, setting: str) -> str | None:  # noqa: D102
        return self.before if setting == self.name else None


class Sysctl(Setting, frozen=True, tag="sysctl"):
    """One that is undone whatever else there is."""

    def is_same(self, other: Change) -> bool:  # noqa: D102
        return isinstance(other, Sysctl) and (other.name, other.ours) == (self.name, self.ours)

    def taking_over(self, known: Change) -> Change:  # noqa: D102
        # What is not as we have set it, was set since: by another program, or by a gateway with
        # another state directory that has ended, and knows what was before it.
        return known if self.before == self.ours else self

    def undo(self, limit_s: float, *, owner_died: bool) -> None:  # noqa: ARG002, D102
        if self.name == SRC_VALID_MARK:
            # Gateways with another state directory are not in our journals, but their rules are
            # visible; ours are removed by now. Leaving it set is harmless, resetting it could break
            # another tunnel.
            with IPRoute() as netlink:
                if routing_rules.leads_any(netlink):
                    return
        _restore(self.name, self.before, self.ours)


class ForwardingSetting(Setting, frozen=True, tag="forwarding"):
    """One by which this host forwards, as a gateway with this interface needs it.

    ``unless`` is one of ``all`` interfaces: once that is on, it is not undone.
    """

    interface: _InterfaceName
    unless: _SysctlNameOrNone = ""

    @property
    def changes_nothing(self) -> bool:  # noqa: D102
        return self.before == self.ours

    def is_same(self, other: Change) -> bool:  # noqa: D102
        return isinstance(other, ForwardingSetting) and other.name == self.name

    def taking_over(self, known: Change) -> Change:  # noqa: D102
        assert isinstance(known, ForwardingSetting)  # noqa: S101 (it is the same)
        return structs.replace(self, before=known.before, unless=known.unless)

    def undo(self, limit_s: float, *, owner_died: bool) -> None:  # noqa: ARG002, D102
        is_for_all = bool(self.unless) and value_of(self.unless) not in ("", "0")
        is_own = f"/{self.interface}/" in self.name
        if not is_for_all and (is_own or not forwards_elsewhere(self.interface)):
            _restore(self.name, self.before, self.ours)


class Ipv6Forwarding(Change, frozen=True, tag="ipv6-forwarding"):
    """IPv6 forwarding of the whole host, as Linux before 6.17 has it: it was 0 or 1 before.

    Writing it sets the setting of every interface as well; ``on`` are those that had it before.
    """

    before: Literal["0", "1"]
    interface: _InterfaceName  # of the gateway that needs it
    on: Annotated[tuple[_InterfaceName, ...], Meta(max_length=4096)] = ()
    rank: ClassVar[int] = 1
    is_shared: ClassVar[bool] = True

    @property
    def what(self) -> str:  # noqa: D102
        return "net.ipv6.conf.all.forwarding"

    @property
    def by_hand(self) -> str:  # noqa: D102
        return f"sysctl -w {self.what}={self.before}"

    @property
    def changes_nothing(self) -> bool:  # noqa: D102
        return self.before == "1"

    @classmethod
    def now(cls, interface: str) -> Ipv6Forwarding:
        """Return what is to be restored, before it is turned on. Raises OSError."""
        before = read(FORWARDING_IPV6.format("all"))
        names = [*(name for _, name in socket.if_nameindex()), "default"]
        on = tuple(name for name in names if value_of(FORWARDING_IPV6.format(name)) == "1")
        return cls("1" if before != "0" else "0", interface, on if before == "0" else ())

    def taking_over(self, known: Change) -> Change:  # noqa: D102
        assert isinstance(known, Ipv6Forwarding)  # noqa: S101 (it is the same)
        return structs.replace(self, before=known.before, on=known.on)

    def is_same(self, other: Change) -> bool:  # noqa: D102
        return isinstance(other, Ipv6Forwarding)

    def is_lost(self) -> bool:  # noqa: D102
        return value_of(FORWARDING_IPV6.format("all")) == "0"

    def original(self, setting: str) -> str | None:  # noqa: D102
        if setting == FORWARDING_IPV6.format("all"):
            return self.before
        found = _FORWARDING_IPV6_OF.fullmatch(setting)
        if found is None:
            return None
        return "1" if self.before == "1" or found[1] in self.on else "0"

    def undo(self, limit_s: float, *, owner_died: bool) -> None:  # noqa: ARG002, D102
        of_all = FORWARDING_IPV6.format("all")
        if self.before == "1" or read(of_all) != "1" or forwards_elsewhere(self.interface):
            return
        write(of_all, "0")
        for name in self.on:
            with contextlib.suppress(FileNotFoundError):
                write(FORWARDING_IPV6.format(name), "1")


def read(name: str) -> str:
    """Return a setting without its newline. Raises OSError."""
    return (_PROC_SYS / name).read_text(encoding="ascii").strip()


def write(name: str, value: str) -> None:
    """Change a setting. Raises OSError."""
    (_PROC_SYS / name).write_text(f"{value}\n", encoding="ascii")


def where_started(error: OSError, *settings: str) -> str:
    """Return what to do about one that this place cannot write, NAME=VALUE each; empty if it can.

    In a container /proc/sys is read-only; what starts it sets what a new device begins with, and on
    the host's network, the host does.
    """
    if error.errno != errno.EROFS:
        return ""
    options = " ".join(f"--sysctl {each}" for each in settings)
    return f"start the container with {options}, or set it on the host whose network it has"


def _restore(name: str, before: str, ours: str) -> None:
    """Set a setting back, if it is still as we have set it. Raises OSError.

    One that was so before is not written: in a container that would fail, though nothing is wrong.
    """
    try:
        if before != ours and read(name) == ours:
            write(name, before)
    except FileNotFoundError:  # that of an interface which is gone
        pass


def exists(name: str) -> bool:
    """Return whether this kernel has a setting."""
    return (_PROC_SYS / name).exists()


def forwards_elsewhere(interface: str) -> bool:
    """Return whether another gateway of ours forwards than that of this interface."""
    devices = [
        name for name, is_open in link_state.tun_devices().items() if is_open and name != interface
    ]
    try:
        tables = nft.names(is_undo=True) if devices else ()
    except RuntimeFailure:
        return False
    return any(nft.table_name(name, FORWARD_TABLE) in tables for name in devices)


def value_of(name: str) -> str:
    """Return a setting, empty where it is missing."""
    try:
        return read(name)
    except OSError:  # that of an interface which is gone
        return ""
