"""A stranger who keeps a responder busy with initiations from many addresses.

stranger  10.66.0.0/16 (all of it)
  to-VICTIM 10.2.0.2  ===veth===  10.2.0.1  to-stranger  VICTIM

The initiations are for the responder's public key, so their mac1 is valid and each costs it
Curve25519, until it asks for cookies. Nobody knows the stranger's own key.
"""

from __future__ import annotations

import base64
import contextlib
import selectors
import socket
import threading
from typing import TYPE_CHECKING

from fastun.session import keys, noise
from fastun.session.messages import MessageType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

N_SOURCES = 250
SILENCE_S = 0.1  # without load there is no answer to a stranger
_VICTIM, _STRANGER, _SOURCES = "10.2.0.1", "10.2.0.2", "10.66.0.0/16"


class Flood:
    """Initiations, `burst` at once, and more when most were answered or nothing came for a while.

    So there are always about as many under way, on a slow machine and on a fast one.
    """

    def __init__(self, stranger: Host, message: bytes, port: int, burst: int) -> None:
        self.n_cookies = 0  # cookie replies that came back
        self._message = message
        self._victim = (_VICTIM, port)
        self._burst = burst
        self._sockets = stranger.inside(lambda: [_bound(n) for n in range(N_SOURCES)])
        self._selector = selectors.DefaultSelector()
        for each in self._sockets:
            self._selector.register(each, selectors.EVENT_READ)
        self._stopped = threading.Event()

    def run(self) -> None:
        while not self._stopped.is_set():
            for n in range(self._burst):
                with contextlib.suppress(OSError):
                    self._sockets[n % N_SOURCES].sendto(self._message, self._victim)
            self._await_answers(self.n_cookies + self._burst * 2 // 3)

    def _await_answers(self, n_cookies: int) -> None:
        while self.n_cookies < n_cookies:
            ready = self._selector.select(SILENCE_S)
            if not ready or self._stopped.is_set():
                return
            for key, _ in ready:
                self.n_cookies += key.fileobj.recv(256)[0] == MessageType.COOKIE_REPLY

    def stop(self) -> None:
        self._stopped.set()

    def close(self) -> None:
        self._selector.close()
        for each in self._sockets:
            each.close()


def _bound(n: int) -> socket.socket:
    bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    bound.setblocking(False)
    bound.bind((f"10.66.{n // 250}.{n % 250 + 1}", 5000))
    return bound


@contextlib.contextmanager
def flooding(lab: Lab, victim: Host, public_key: str, port: int, *, burst: int) -> Iterator[Flood]:
    """Flood the responder on `victim` that has `public_key` in the ``with`` block."""
    stranger = lab.host("stranger")
    lab.wire(victim, stranger, [f"{_VICTIM}/24"], [f"{_STRANGER}/24"])
    stranger.ip("route", "add", "local", _SOURCES, "dev", "lo")
    victim.ip("route", "add", _SOURCES, "via", _STRANGER)
    nobody = keys.pair_of(keys.generate_private())
    message, _ = noise.initiate(nobody, base64.b64decode(public_key))
    flood = Flood(stranger, message, port, burst)
    thread = threading.Thread(target=flood.run)
    thread.start()
    try:
        yield flood
    finally:
        flood.stop()
        thread.join()
        flood.close()
