"""Hellos on UDP: the initiator's first message under new keys, and the responder's answer.

The initiator says its own until it is answered, a few times; the responder answers each. The first
that comes settles the cipher; what it pushes is taken once a session, in place of the last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from fastun import log
from fastun.config.push import Push
from fastun.config.settings import Settings
from fastun.link import hello
from fastun.link.datagram.peer import HELLOS_MAX, UdpPeer
from fastun.link.datagram.peers import UdpPeers
from fastun.link.hello import HelloError
from fastun.link.key_installer import KeyInstaller
from fastun.link.stream.handshake import SealedHandshaker
from fastun.native import GATEWAY_COUNTERS, Aead, Wire
from fastun.session import clock
from fastun.session.transport import SessionKeys


class DatagramHellos:
    """Says and hears hellos. Event loop only."""

    def __init__(
        self,
        settings: Settings,
        handshaker: SealedHandshaker,
        known: UdpPeers,
        installer: KeyInstaller,
        on_push: Callable[[str, Push], None],
    ) -> None:
        """Send the hellos of ``handshaker``. ``on_push`` gets the peer's name and its push."""
        self._settings = settings
        self._handshaker = handshaker
        self._known = known
        self._installer = installer
        self._on_push = on_push
        self._log = log.get("session")

    def say(self, udp_peer: UdpPeer) -> None:
        """Send our hello under the keys in use."""
        exchange = udp_peer.hello
        message = udp_peer.seal_control(hello.encode(self._own_hello(udp_peer)))
        if message is None:
            return
        exchange.n_sent += 1
        exchange.sent_s = clock.boottime_s()
        with contextlib.suppress(OSError):  # lost, as any datagram may be
            self._known.send(udp_peer, message)

    def hear(self, udp_peer: UdpPeer, keys: SessionKeys, message: bytes) -> None:
        """Take the peer's hello, which came under ``keys``; answer an initiator's."""
        try:
            theirs = hello.decode(message)
            _, aead = hello.agree(self._own_hello(udp_peer), theirs, Wire.WIREGUARD)
        except HelloError as error:
            self._log.debug("hello refused", peer=udp_peer.slotted.peer.name, error=str(error))
            return
        # Answered only a limited number of times: ours may be long, and a peer could ask endlessly.
        if not keys.is_initiator and udp_peer.hello.n_sent < HELLOS_MAX:
            self.say(udp_peer)
        if udp_peer.hello.theirs is None:
            self._agree(udp_peer, keys, theirs, aead)

    def _agree(self, udp_peer: UdpPeer, keys: SessionKeys, theirs: hello.Hello, aead: Aead) -> None:
        udp_peer.hello.theirs = theirs
        link = udp_peer.link
        is_new = link is not None and link.peer_software != theirs.software
        if link is not None and is_new:
            link.peer_software = theirs.software
            self._log.info("hello", peer=link.peer_name, software=theirs.software)
        if aead is not udp_peer.aead and self._known.is_carried(udp_peer):
            udp_peer.aead = aead
            self._installer.use_for_sending(udp_peer.slotted.slot, keys, aead, GATEWAY_COUNTERS)
        if theirs.push is not None and self._settings.role == "connect":
            if not udp_peer.slotted.peer.keepalive_s:
                udp_peer.timers.set_persistent_keepalive(
                    theirs.push.keepalive or None, clock.boottime_s()
                )
            self._on_push(udp_peer.slotted.peer.name, theirs.push)

    def _own_hello(self, udp_peer: UdpPeer) -> hello.Hello:
        return self._handshaker.hello_for(udp_peer.slotted)
