"""Hellos on UDP: the initiator's first message under new keys, and the responder's answer.

The initiator sends its own until it is answered, a few times; the responder answers each. The first
that comes decides the cipher; what it pushes is taken once a session, in place of the last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from fastun import log
from fastun.config.push import Push
from fastun.link import hello
from fastun.link.datagram.peer import HELLOS_MAX, UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.hello import Hello, HelloError
from fastun.link.key_installer import KeyInstaller
from fastun.link.local_end import LocalEnd
from fastun.native import Aead, Wire
from fastun.session import clock
from fastun.session.transport import SessionKeys

if TYPE_CHECKING:
    from fastun.link.datagram.socket_passing import SocketPassing
    from fastun.link.datagram.ways import Ways


class OneLane:
    """Takes the place of ``Ways`` where this side has one lane: there is nothing to do."""

    def new_indices(self, _: int) -> tuple[int, ...]:
        """Return none."""
        return ()

    def nothing(self, *_: object) -> None:
        """Do nothing."""

    agree = on_key_added = on_key_confirmed = tick = forget = tell_keys = follow_sockets = nothing


def ways_of(end: LocalEnd, peers: UdpPeers, passing: SocketPassing) -> Ways | OneLane:
    """Return what has further lanes of peers, by what their hellos say."""
    if len(end.links.lanes.all) == 1:
        return OneLane()
    from fastun.link.datagram.ways import Ways  # noqa: PLC0415 (of several lanes alone)

    return Ways(end, peers, passing)


class DatagramHellos:
    """Sends and receives hellos. Event loop only."""

    def __init__(
        self,
        end: LocalEnd,
        peers: UdpPeers,
        installer: KeyInstaller,
        ways: Ways | OneLane,
        on_push: Callable[[str, Push], None],
    ) -> None:
        """Send the hellos of ``end``. ``on_push`` gets the peer's name and its push."""
        self._role = end.settings.role
        self._exchange = end.exchange
        self._peers = peers
        self._installer = installer
        self._ways = ways
        self._on_push = on_push
        self._log = log.get("session")

    def send(self, udp_peer: UdpPeer, theirs: Hello | None = None) -> None:
        """Send our hello under the keys in use; ``theirs`` is the one that it answers."""
        exchange = udp_peer.hello
        ours = hello.for_peer(self._own_hello(udp_peer), theirs)
        message = udp_peer.seal_control(hello.encode(ours))
        if message is None:
            return
        udp_peer.slotted.pushed = ours.push
        exchange.n_sent += 1
        exchange.sent_s = clock.boottime_s()
        with contextlib.suppress(OSError):  # lost, as any datagram may be
            self._peers.send(udp_peer, message)

    def receive(self, udp_peer: UdpPeer, keys: SessionKeys, message: bytes) -> None:
        """Take the peer's hello, which came under ``keys``; answer an initiator's."""
        try:
            theirs = hello.decode(message)
            _, aead = hello.agree(self._own_hello(udp_peer), theirs, Wire.WIREGUARD)
        except HelloError as error:
            self._refuse(udp_peer, keys, message, error)
            return
        # Answered only a limited number of times: ours may be long, and a peer could ask endlessly.
        if not keys.is_initiator and udp_peer.hello.n_sent < HELLOS_MAX:
            self.send(udp_peer, theirs)
        if udp_peer.hello.theirs is None:
            self._agree(udp_peer, keys, theirs, aead)

    def _refuse(
        self, udp_peer: UdpPeer, keys: SessionKeys, message: bytes, error: HelloError
    ) -> None:
        """Say it once a session; the peer says it as well when it has ours."""
        exchange = udp_peer.hello
        if exchange.is_refused or message[: len(hello.TYPE)] != hello.TYPE:
            return
        exchange.is_refused = True
        self._log.warning(
            "cannot agree with the peer on what the tunnel carries",
            peer=udp_peer.slotted.peer.name,
            error=str(error),
        )
        if not keys.is_initiator and exchange.theirs is None:
            self.send(udp_peer)

    def _agree(self, udp_peer: UdpPeer, keys: SessionKeys, theirs: Hello, aead: Aead) -> None:
        udp_peer.hello.theirs = theirs
        link = udp_peer.link
        if link is not None:
            link.abilities = theirs.abilities
        is_new = link is not None and link.peer_software != theirs.software
        if link is not None and is_new:
            link.peer_software = theirs.software
            self._log.info("hello", peer=link.peer_name, software=theirs.software)
        session = udp_peer.hello
        counter = session.counter
        if aead is not session.aead and counter is not None and self._peers.is_carried(udp_peer):
            session.aead = aead
            self._installer.use_for_sending(udp_peer.slotted.slot, keys, aead, counter)
        self._ways.agree(udp_peer, keys, aead, (self._own_hello(udp_peer), theirs))
        if theirs.push is not None and self._role == "connect":
            self._on_push(udp_peer.slotted.peer.name, theirs.push)
        self._explain(udp_peer)

    def _explain(self, udp_peer: UdpPeer) -> None:
        """Say what may be the cause when a server is silent after handshake after handshake."""
        if self._role == "connect" and udp_peer.liveness.is_to_be_explained(clock.boottime_s()):
            self._log.warning(
                "the server falls silent soon after each handshake, as it does when the same peer "
                "connects from elsewhere; is this host's private key used on another host too?",
                peer=udp_peer.slotted.peer.name,
                remote=str(udp_peer.address),
            )

    def _own_hello(self, udp_peer: UdpPeer) -> Hello:
        ours = self._exchange.hello_for(udp_peer.slotted)
        return hello.on_datagrams(ours, udp_peer.hello.ways)
