"""What the host process makes, opens, starts and keeps for the gateway, which may not.

Each method with a request is called on a thread of its own.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import socket
import threading
from dataclasses import replace
from ipaddress import ip_network
from typing import TYPE_CHECKING, Any

from msgspec import structs

from fastun.bounded_server import CLIENTS_MAX
from fastun.config.settings import ServeSettings
from fastun.ending import AskedToStop
from fastun.host import run_directory, template_start
from fastun.host.process import supply_checks as checks
from fastun.host.process import supply_messages as messages
from fastun.host.process.behind import Behind
from fastun.host.process.channel import Unasked
from fastun.host.process.fleet_start import FleetStart
from fastun.host.process.server import Answered
from fastun.host.process.supply_messages import (
    ChangesRead,
    FileRead,
    Made,
    PeersRead,
    Started,
    UsageRead,
    Version,
)
from fastun.host.run_directory import ControlSocket
from fastun.host.sockets import syn_filter
from fastun.host.sockets.maker import OwnSockets
from fastun.host.sockets.syn_filter import IPV4_SOURCE_BYTES, IPV6_SOURCE_BYTES
from fastun.host.state_claim import StateClaim
from fastun.peers.terms import Usage
from fastun.state_file import OwnFiles

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastun.config.settings import Settings
    from fastun.host.process.messages import Message
    from fastun.host.process.work import HostWork
    from fastun.host.served_peers import OwnPeers
    from fastun.host.users import Users
    from fastun.peers.peer import Network

_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}


class Supply:
    """That of one gateway."""

    def __init__(self, work: HostWork, users: Users) -> None:
        """Go by the settings that ``work`` has; workers are of ``users``."""
        self._work = work
        self._users = users
        self._gateway_pid = os.getppid()
        self._ports: dict[int, None] = {}  # of UDP, that the gateway has got; the newest last
        self._control: ControlSocket | None = None
        self._peers: OwnPeers | None = None
        self._claim: StateClaim | None = None
        self._behind = Behind()
        self._had_peers = False
        self._mutex = threading.Lock()  # of the control socket
        self._peers_mutex = threading.Lock()
        self._fleet = FleetStart()
        self._fleet_mutex = threading.Lock()
        self._files = OwnFiles(work.settings.state_dir)
        self._files_mutex = threading.Lock()

    @property
    def handlers(self) -> Mapping[type[Message], Callable[[Any], Answered | Message | None]]:
        """What does each request."""
        return {
            messages.MakeListener: self.listener,
            messages.TurnAway: self.turn_away,
            messages.MakeDatagrams: self.datagrams,
            messages.MakeOutgoing: self.outgoing,
            messages.MakeIcmp: self.icmp,
            messages.MakeChannel: self.channel,
            messages.MakeControl: self.control,
            messages.RemoveControl: self.remove_control,
            messages.StartTemplate: self.start_template,
            messages.StartFleet: self.start_fleet,
            messages.ReadFile: self.read_file,
            messages.ReplaceFile: self.replace_file,
            messages.CheckServerKey: self.check_server_key,
            messages.OpenPeers: self.open_peers,
            messages.PeersVersion: self.peers_version,
            messages.ReadChanges: self.read_changes,
            messages.ReadPeers: self.read_peers,
            messages.ReadUsage: self.read_usage,
            messages.RememberUsage: self.remember_usage,
            messages.ClosePeers: self.close_peers,
        }

    def close(self) -> None:
        """Remove the control socket, end the fleet's process, and let the peer directory go."""
        self.remove_control()
        with self._fleet_mutex:
            self._fleet.close()
        self.close_peers()
        with self._peers_mutex:
            claim, self._claim = self._claim, None
        if claim is not None:
            claim.close()

    # -- sockets --------------------------------------------------------------------------------

    @property
    def _own(self) -> OwnSockets:
        return OwnSockets(self._work.settings.fwmark)

    def listener(self, asked: messages.MakeListener) -> Answered:
        """Make one where the settings say."""
        at = checks.listener(asked, self._work.known())
        return _made(self._own.listener(at, asked.purpose, is_beside=asked.is_beside))

    def datagrams(self, asked: messages.MakeDatagrams) -> Answered:
        """Make one where the settings say."""
        at = checks.datagrams(asked, self._work.known())
        made = self._own.datagrams(at, is_beside=asked.is_beside)
        port = made.getsockname()[1]
        self._ports.pop(port, None)
        self._ports[port] = None
        if len(self._ports) > messages.PORTS_MAX:  # as a client that changes its port for days
            del self._ports[next(iter(self._ports))]
        return _made(made)

    def turn_away(self, asked: messages.TurnAway) -> None:
        """Have the kernel drop what comes from some sources to a listener of the gateway.

        Where the kernel does not let us (it has no memory, or this process lacks CAP_SYS_PTRACE),
        the gateway goes on refusing them by itself. It may have closed the listener meanwhile, and
        opened something else by its number: that gets no filter.
        """
        if any(len(each) not in (IPV4_SOURCE_BYTES, IPV6_SOURCE_BYTES) for each in asked.sources):
            raise Unasked("a source that cannot be an address")
        with contextlib.suppress(OSError):
            syn_filter.attach_in(self._gateway_pid, asked.descriptor, asked.sources)

    def outgoing(self, asked: messages.MakeOutgoing) -> Answered:
        """Make one that has the mark."""
        return _made(self._own.outgoing(_FAMILIES[asked.family], _KINDS[asked.kind]))

    def icmp(self, asked: messages.MakeIcmp) -> Answered:
        """Make one that hears of the gateway's own ports."""
        if not {*asked.ports} <= self._ports.keys():
            raise Unasked("ICMP about ports that are not the gateway's")
        return _made(self._own.icmp(asked.kind, _FAMILIES[asked.family], [*asked.ports]))

    def channel(self, _: messages.MakeChannel) -> Answered:
        """Make a pair."""
        return _made(*self._own.channel())

    # -- the control socket, the template -------------------------------------------------------

    def control(self, _: messages.MakeControl) -> Answered:
        """Make the control socket."""
        settings = self._work.settings
        with self._mutex:
            if self._control is not None:
                raise Unasked("a second control socket")
            path = run_directory.socket_path(settings.run_dir, settings.interface)
            self._control = ControlSocket(path, CLIENTS_MAX)
            return Answered(Made(), (os.dup(self._control.listener.fileno()),))

    def remove_control(self, _: messages.RemoveControl | None = None) -> None:
        """Remove it, if it is there."""
        with self._mutex:
            control, self._control = self._control, None
        if control is not None:
            with contextlib.suppress(OSError):
                control.close()

    def start_template(self, _: messages.StartTemplate) -> Answered:
        """Start a template, the gateway's child."""
        pid, channel = template_start.started(self._users, self._gateway_pid)
        return Answered(Started(pid=pid), (channel.detach(),))

    def start_fleet(self, _: messages.StartFleet) -> Answered:
        """Start it, in place of the one before."""
        with self._fleet_mutex:
            pid, channel = self._fleet.start(self._work.settings)
        return Answered(Started(pid=pid), (channel,))

    # -- the state directory --------------------------------------------------------------------

    def read_file(self, asked: messages.ReadFile) -> FileRead:
        """Read one of the gateway's own files."""
        return FileRead(content=self._files.read(asked.name, asked.bytes_max))

    def replace_file(self, asked: messages.ReplaceFile) -> None:
        """Write one of the gateway's own files."""
        with self._files_mutex:
            self._files.replace(asked.name, asked.content, is_durable=asked.is_durable)

    def check_server_key(self, asked: messages.CheckServerKey) -> None:
        """Look whether the peers know the server by that key."""
        from fastun.host.served_peers import OwnSource  # noqa: PLC0415 (as in open_peers)

        OwnSource().check_key(self._of_server(), asked.public or None)

    def open_peers(self, asked: messages.OpenPeers) -> None:
        """Open the peer directory, or announce what has changed."""
        from fastun.host.served_peers import OwnPeers  # noqa: PLC0415 (SQLite, for a server alone)

        settings = self._announced(asked)
        with self._peers_mutex:
            if self._claim is None:
                self._claim = StateClaim(settings.state_dir)
            if self._peers is None:
                self._peers = OwnPeers(settings, _public_key(settings), any_thread=True)
                self._had_peers = True
            else:
                self._peers.announce(settings)

    def _announced(self, asked: messages.OpenPeers) -> ServeSettings:
        """Return the settings with those of the asked routes that the host has or the file says."""
        settings = self._of_server()
        try:
            routes = [ip_network(text) for text in asked.routes]
        except ValueError:
            raise Unasked("a route that is not a network") from None
        own = {*settings.push.routes, *self._work.networks()}
        pushed = structs.replace(
            settings.push, routes=tuple(each for each in routes if each in own)
        )
        return replace(settings, push=pushed)

    def _of_server(self) -> ServeSettings:
        settings = self._work.settings
        if not isinstance(settings, ServeSettings):
            raise Unasked("a peer directory, which a client does not have")
        return settings

    @property
    def _opened(self) -> OwnPeers:
        if self._peers is None:
            if self._had_peers:  # what it did not wait for comes after what it asked last
                raise AskedToStop
            raise Unasked("peers of a directory that is not open")
        return self._peers

    def peers_version(self, _: messages.PeersVersion) -> Version:
        """Look at it."""
        with self._peers_mutex:
            return Version(version=self._opened.version())

    def read_changes(self, asked: messages.ReadChanges) -> ChangesRead:
        """Read what is new."""
        with self._peers_mutex:
            found = self._opened.changes_since(asked.since)
        return ChangesRead(changes=b"" if found is None else pickle.dumps(found))

    def read_peers(self, _: messages.ReadPeers) -> PeersRead:
        """Read all."""
        with self._peers_mutex:
            return PeersRead(peers=pickle.dumps(self._opened.peers()))

    def behind(self) -> frozenset[Network]:
        """Return all networks of its peers; none where it is not open. Raises FastunError."""
        with self._peers_mutex:
            if self._peers is None:
                return frozenset()
            return self._behind.of(self._peers)

    def read_usage(self, _: messages.ReadUsage) -> UsageRead:
        """Read what was used."""
        with self._peers_mutex:
            used = self._opened.usage()
        return UsageRead(usage={name: (each.month, each.n_bytes) for name, each in used.items()})

    def remember_usage(self, asked: messages.RememberUsage) -> None:
        """Keep what was used."""
        usage = {name: Usage(*used) for name, used in asked.usage.items()}
        with self._peers_mutex:
            self._opened.remember_usage(usage)

    def close_peers(self, _: messages.ClosePeers | None = None) -> None:
        """Let it go."""
        with self._peers_mutex:
            peers, self._peers = self._peers, None
            if peers is not None:
                peers.close()


def _made(*sockets: socket.socket) -> Answered:
    return Answered(Made(), tuple(each.detach() for each in sockets))


def _public_key(settings: Settings) -> bytes:
    from fastun.session import keys  # noqa: PLC0415 (libsodium, 2 MiB, for a server alone)

    private = settings.private_key or keys.load_private(settings.private_key_file)
    return keys.pair_of(private).public
