"""A handshake tried over UDP and over TCP: what came back, and what that means.

A trial ends with the server's response: no session is confirmed, so a session that the server has
with this key goes on. Timestamps are those of the gateway's own handshakes (Timestamps), which
only increase, so a gateway that starts afterwards is not refused.
"""

from __future__ import annotations

import errno
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

from fastun.doctor.finding import Finding, finding
from fastun.doctor.way import family_of, mark, sockaddr
from fastun.link.stream import framing
from fastun.session import clock, noise
from fastun.session.cookies import CookieJar
from fastun.session.keys import KeyPair, format_key
from fastun.session.messages import COOKIE_REPLY_BYTES, RESPONSE_BYTES, MessageType, type_of
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal

if TYPE_CHECKING:
    from fastun.host.sockets.address import EndpointAddress
    from fastun.peers.peer import Peer
    from fastun.session.timestamps import Timestamps

# Servers refuse initiations of one peer that come closer together than 20 ms.
_GAP_S: Final = 0.1
_N_SENT: Final = 3
_ANSWER_S: Final = 1.2
_TCP_S: Final = 3.5

# linux/in.h, in6.h, errqueue.h
_IP_RECVERR, _IPV6_RECVERR = 11, 25
_EXTENDED_ERROR = struct.Struct("=IBBBBII")  # errno, origin, type, code, padding, info, data
_FROM_ICMP = (2, 3)

# What the kernel makes of ICMP (icmp_err_convert in net/ipv4/icmp.c; net/ipv6/icmp.c).
_SAID: Final = {
    errno.ECONNREFUSED: "port unreachable",
    errno.EHOSTUNREACH: "host unreachable",
    errno.ENETUNREACH: "network unreachable",
    errno.EACCES: "prohibited by a firewall",
    errno.EMSGSIZE: "packet too big",
}
_PROHIBITED: Final = {(2, 3, 9), (2, 3, 10), (2, 3, 13), (3, 1, 1)}  # origin, ICMP type, code


class Trial:
    """Handshakes with one server. Any thread, and several at once."""

    def __init__(self, own: KeyPair, peer: Peer, timestamps: Timestamps, fwmark: int) -> None:
        """Be ``own``, as the gateway would be."""
        self._own = own
        self._peer = peer
        self._timestamps = timestamps
        self._fwmark = fwmark
        self._lock = threading.Lock()

    def _initiation(self, cookie: bytes | None = None) -> tuple[bytes, noise.InitiatorState]:
        with self._lock:  # the server sees them in the order of their timestamps
            time.sleep(_GAP_S)
            timestamp = self._timestamps.next()
            return noise.initiate(
                self._own, self._peer.public_key, cookie=cookie, timestamp=timestamp
            )

    # -- UDP ----------------------------------------------------------------------------------

    def over_udp(self, address: EndpointAddress) -> Finding:
        """Try it at one address, for some seconds at most."""
        to = f"udp {sockaddr(address)[0]} port {address.port}"
        with socket.socket(family_of(address), socket.SOCK_DGRAM) as opened:
            mark(opened, self._fwmark)
            is_ipv4 = family_of(address) == socket.AF_INET
            level = socket.IPPROTO_IP if is_ipv4 else socket.IPPROTO_IPV6
            opened.setsockopt(level, _IP_RECVERR if is_ipv4 else _IPV6_RECVERR, 1)
            try:
                opened.connect(sockaddr(address))
                return self._ask(opened, to)
            except PermissionError:
                return _blocked_here(to)
            except OSError as error:
                return finding("FAIL", f"{to}: {error.strerror or error}", "see the line 'route'")

    def _ask(self, opened: socket.socket, to: str) -> Finding:
        jar, refusal = CookieJar(self._peer.public_key), ""
        for _ in range(_N_SENT):
            initiation, state = self._initiation(jar.current(clock.boottime_s()))
            jar.remember_sent(initiation)
            try:
                opened.send(initiation)
                found, refusal = self._read(opened, jar, state, to), ""
            except OSError as error:
                by_icmp = _icmp(opened)
                if not by_icmp and isinstance(error, PermissionError):
                    raise
                found, refusal = None, by_icmp or f"{error.strerror}"
                time.sleep(_GAP_S)  # what a firewall rejects once, it rejects again
            if found is not None:
                return found
        if refusal:
            return finding("FAIL", f"{to}: refused, {refusal}", _why_refused(refusal, "UDP"))
        asked = " but a cookie, although it was given" if jar.current(clock.boottime_s()) else ""
        return finding("FAIL", f"{to}: no answer{asked}", self._why_silent("UDP", "drop"))

    def _read(
        self, opened: socket.socket, jar: CookieJar, state: noise.InitiatorState, to: str
    ) -> Finding | None:
        deadline = time.monotonic() + _ANSWER_S
        while (left := deadline - time.monotonic()) > 0:
            opened.settimeout(left)
            try:
                message = opened.recv(RESPONSE_BYTES + 1)
                if len(message) == COOKIE_REPLY_BYTES:
                    jar.consume_reply(message, clock.boottime_s())
                    return None
                if type_of(message) is MessageType.RESPONSE:
                    return self._conclude(state, message, to)
            except TimeoutError:
                return None
            except HandshakeError:  # another host's datagram
                continue
        return None

    # -- TCP ----------------------------------------------------------------------------------

    def over_tcp(self, address: EndpointAddress) -> Finding:
        """Try it at one address, for some seconds at most."""
        to = f"tcp {sockaddr(address)[0]} port {address.port}"
        with socket.socket(family_of(address), socket.SOCK_STREAM) as opened:
            failure = connect(opened, address, self._fwmark, to)
            if failure is not None:
                return failure
            initiation, state = self._initiation()
            try:
                opened.sendall(framing.framed(initiation))
                frame = opened.recv(len(framing.framed(bytes(RESPONSE_BYTES))), socket.MSG_WAITALL)
            except TimeoutError:
                fix = f"is fastun what listens there? {self._why_silent('TCP', 'hold back')}"
                return finding("FAIL", f"{to}: connected, but no answer", fix)
            except OSError:  # reset
                frame = b""
            if not frame:
                message = f"{to}: connected, and closed without an answer"
                return finding("FAIL", message, self._why_silent("TCP", ""))
            return self._conclude(state, framing.message_of(frame), to)

    # -- what it means ------------------------------------------------------------------------

    def _conclude(self, state: noise.InitiatorState, response: bytes, to: str) -> Finding:
        psk = self._peer.preshared_key
        try:
            noise.consume_response(self._own, state, response, psk or NO_PRESHARED_KEY)
        except HandshakeError as error:
            if error.reason is not Refusal.BAD_PSK_OR_KEY:
                return finding("FAIL", f"{to}: not WireGuard's answer ({error.reason})")
            ours = "another than ours" if psk else "one, and we have none"
            message = f"{to}: answers and knows our key, but its pre-shared key is {ours}"
            return finding("FAIL", message, "use the file of 'fastun peer add' as it is")
        return finding("ok", f"{to}: answers, and knows our key")

    def _why_silent(self, transport: str, verb: str) -> str:
        """Return the likely causes; a server does not answer unknown keys."""
        firewall = f"does a firewall {verb} {transport}? " if verb else ""
        return (
            f"is the server running? {firewall}"
            f"is {format_key(self._peer.public_key)} its key ('fastun key' there)? is ours,"
            f" {format_key(self._own.public)}, registered there ('fastun doctor --peer NAME')? is"
            " this host's clock right?"
        )


def connect(
    opened: socket.socket, address: EndpointAddress, fwmark: int, to: str
) -> Finding | None:
    """Connect; return what is wrong, None for nothing."""
    mark(opened, fwmark)
    opened.settimeout(_TCP_S)
    try:
        opened.connect(sockaddr(address))
    except TimeoutError:
        fix = "is the server running? does a firewall drop TCP?"
        return finding("FAIL", f"{to}: no answer to connect", fix)
    except PermissionError:
        return _blocked_here(to)
    except ConnectionRefusedError:
        fix = _why_refused(_SAID[errno.ECONNREFUSED], "TCP")
        return finding("FAIL", f"{to}: connection refused", fix)
    except OSError as error:
        said = _SAID.get(error.errno or 0, error.strerror or str(error))
        return finding("FAIL", f"{to}: {said}", "is the address right? does a firewall reject TCP?")
    return None


def _why_refused(refusal: str, transport: str) -> str:
    if refusal.startswith(_SAID[errno.ECONNREFUSED]):
        return (
            f"does the server listen on that {transport} port ('fastun status' there), and is the"
            " address right?"
        )
    return f"is the address right? does a firewall reject {transport}?"


def _blocked_here(to: str) -> Finding:
    fix = "look for it in the output hook of 'nft list ruleset'"
    return finding("FAIL", f"{to}: this host's own firewall does not let it out", fix)


def _icmp(opened: socket.socket) -> str:
    """Return what an ICMP error said and by which host, empty where there is none."""
    try:
        _, ancillary, _, _ = opened.recvmsg(2048, 512, socket.MSG_ERRQUEUE | socket.MSG_DONTWAIT)
    except OSError:
        return ""
    for level, _, content in ancillary:
        if len(content) < _EXTENDED_ERROR.size:
            continue
        number, origin, kind, code, *_ = _EXTENDED_ERROR.unpack_from(content)
        if origin not in _FROM_ICMP:
            continue
        said = _SAID.get(number, "unreachable")
        if (origin, kind, code) in _PROHIBITED:
            said = _SAID[errno.EACCES]
        offender = content[_EXTENDED_ERROR.size :]
        if level == socket.IPPROTO_IP and len(offender) >= 8:  # noqa: PLR2004 (sockaddr_in)
            return f"{said} (ICMP from {socket.inet_ntop(socket.AF_INET, offender[4:8])})"
        if len(offender) >= 24:  # noqa: PLR2004 (sockaddr_in6 up to its address)
            return f"{said} (ICMP from {socket.inet_ntop(socket.AF_INET6, offender[8:24])})"
        return f"{said} (ICMP)"
    return ""
