"""Hellos on UDP: the initiator's first message under new keys, and the responder's answer.

The initiator says its own until it is answered, a few times; the responder answers each. The first
that comes settles the cipher; what it pushes is taken once a session, in place of the last.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from fastun import log
from fastun._native import GATEWAY_COUNTERS, Aead, Wire
from fastun.config.settings import Settings
from fastun.link import hello
from fastun.link.correspondent import HELLOS_MAX, Correspondent
from fastun.link.correspondents import Correspondents
from fastun.link.greeting import SealedGreeter
from fastun.link.hello import HelloError
from fastun.link.key_installer import KeyInstaller
from fastun.link.push import Push
from fastun.session import clock
from fastun.session.transport import SessionKeys


class DatagramHellos:
    """Says and hears hellos. Event loop only."""

    def __init__(
        self,
        settings: Settings,
        greeter: SealedGreeter,
        known: Correspondents,
        installer: KeyInstaller,
        on_push: Callable[[str, Push], None],
    ) -> None:
        """Send the hellos of ``greeter``. ``on_push`` gets the peer's name and its push."""
        self._settings = settings
        self._greeter = greeter
        self._known = known
        self._installer = installer
        self._on_push = on_push
        self._log = log.get("session")

    def say(self, correspondent: Correspondent) -> None:
        """Send our hello under the keys in use."""
        exchange = correspondent.hello
        message = correspondent.seal_control(hello.encode(self._own_hello(correspondent)))
        if message is None:
            return
        exchange.n_sent += 1
        exchange.sent_s = clock.boottime_s()
        with contextlib.suppress(OSError):  # lost, as any datagram may be
            self._known.send(correspondent, message)

    def hear(self, correspondent: Correspondent, keys: SessionKeys, message: bytes) -> None:
        """Take the peer's hello, which came under ``keys``; answer an initiator's."""
        try:
            theirs = hello.decode(message)
            _, aead = hello.agree(self._own_hello(correspondent), theirs, Wire.WIREGUARD)
        except HelloError as error:
            self._log.debug("hello refused", peer=correspondent.member.peer.name, error=str(error))
            return
        # Answered only a limited number of times: ours may be long, and a peer could ask endlessly.
        if not keys.is_initiator and correspondent.hello.n_sent < HELLOS_MAX:
            self.say(correspondent)
        if correspondent.hello.theirs is None:
            self._agree(correspondent, keys, theirs, aead)

    def _agree(
        self, correspondent: Correspondent, keys: SessionKeys, theirs: hello.Hello, aead: Aead
    ) -> None:
        correspondent.hello.theirs = theirs
        link = correspondent.link
        is_new = link is not None and link.peer_software != theirs.software
        if link is not None and is_new:
            link.peer_software = theirs.software
            self._log.info("hello", peer=link.peer_name, software=theirs.software)
        if aead is not correspondent.aead and self._known.is_carried(correspondent):
            correspondent.aead = aead
            self._installer.use_for_sending(correspondent.member.slot, keys, aead, GATEWAY_COUNTERS)
        if theirs.push is not None and self._settings.role == "connect":
            if not correspondent.member.peer.keepalive_s:
                correspondent.timers.set_persistent_keepalive(
                    theirs.push.keepalive or None, clock.boottime_s()
                )
            self._on_push(correspondent.member.peer.name, theirs.push)

    def _own_hello(self, correspondent: Correspondent) -> hello.Hello:
        return self._greeter.hello_for(correspondent.member)
