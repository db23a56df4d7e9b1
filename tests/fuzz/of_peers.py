"""What peers, servers and strangers send to the gateway."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import dns.message
import dns.nameserver
import dns.resolver

from fastun import codec
from fastun.config.push import Push
from fastun.host.dns import marked_dns
from fastun.host.dns.resolved import NoSuchNameError, NotYetError
from fastun.link import drain_messages, hello, push_updates
from fastun.link.datagram import goodbye, hints, probe, unreachable
from fastun.link.drain_messages import Drain, DrainTaken
from fastun.link.hello import Ability, Hello, HelloError
from fastun.link.push_updates import PushUpdates
from fastun.link.stream import framing
from fastun.link.stream.handshake import SealedHandshaker
from fastun.log import limits
from fastun.metrics import server as metrics
from fastun.native import Wire
from fastun.native.secrets import Secret
from fastun.session import cookies, messages, noise, tai64n, transport
from fastun.session.cookies import CookieJar
from fastun.session.keys import pair_of
from fastun.session.refusal import HandshakeError
from tests.fuzz.target import Source, fields, target
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from fastun.link.key_exchange import KeyExchange
    from fastun.link.table import LinkTable

OURS, THEIRS = pair_of(bytes(range(32))), pair_of(bytes(range(1, 33)))
OUR_HELLO = Hello(
    version=hello.PROTOCOL_VERSION,
    software="fastun",
    mode="tun",
    offload=("tcp", "udp"),
    message_max=hello.SEALED_MESSAGE_MAX,
    aeads=(hello.CHACHA, hello.AES),
)
WORDS = (
    *Hello.__struct_fields__,
    *map(str, Ability),
    *Push.__struct_fields__,
    *("push_update", "push_taken", "number", "goodbye", "probe", "probed", "padding"),
    *("elsewhere", "drain", "drain_taken"),
    *("tun", "tap", "tcp", "udp", hello.CHACHA, hello.AES, "10.0.0.1/24", "0.0.0.0/0", "fd00::/8"),
    *("10.1.0.0/16", "::/0", "10.0.0.53", "example.net", "~example.net", "fe80::1%eth0", "\x1b[2J"),
)


def _message(data: bytes) -> bytes:
    """A control message: of any bytes, or of a map with keys that mean something."""
    source = Source(data)
    if source.byte() % 4 == 0:
        return hello.TYPE + source.rest()
    said = fields(source, WORDS)
    if source.byte() % 2:  # one that would pass, but for what is said instead
        said = {**codec.unpack(hello.encode(OUR_HELLO)[4:], dict, 4096), **said}
    return hello.TYPE + codec.pack(said)


@target
def hello_of_a_peer(data: bytes) -> None:
    """What is taken is short and printable, and says the same when it is said again."""
    with contextlib.suppress(HelloError):
        theirs = hello.decode(_message(data))
        assert theirs.software.isprintable()
        assert len(theirs.software) <= hello.SOFTWARE_CHARS_MAX
        assert hello.decode(hello.encode(theirs)) == theirs
        link_format, _ = hello.agree(OUR_HELLO, theirs, Wire.WIREGUARD)
        assert 1280 <= link_format.message_max <= OUR_HELLO.message_max


@target
def control_message(data: bytes) -> None:
    """It is of one kind at most; a probe has the length that it says."""
    message = _message(data)
    heard = probe.decode(message)
    said = [
        heard is not None,
        goodbye._read(message) is not None,
        drain_messages.decode(message, Drain) is not None,
        drain_messages.decode(message, DrainTaken) is not None,
        push_updates._decoded(message, push_updates._Update) is not None,
    ]
    if isinstance(heard, probe.Probe):
        assert heard.probe == len(message) + probe._SEAL_BYTES
    assert "probed" in str(message) or sum(said) <= 2


@target
def push_update(data: bytes) -> None:
    """A client answers every update that it may take, and takes only newer ones."""
    lane, taken = RecordingLane(), cast("list[Push]", [])
    link = SimpleNamespace(
        id=7, abilities=frozenset(Ability), peer_name="server", slotted=None, lane=lane
    )
    links = cast("LinkTable", SimpleNamespace(by_slot={3: link}))
    updates = PushUpdates(links, None, lambda _, push: taken.append(push))
    message = _message(data)
    updates.receive(3, message)
    updates.receive(3, message)
    assert len(taken) <= 1
    assert len(lane.sent) in (0, 2)


@functools.cache
def _key() -> Secret:
    """Made where it is used: a process that is forked has no secret of its parent's."""
    return Secret.of(bytes(32))


@target
def handshake_message(data: bytes) -> None:
    """Refused with a reason, or from the one who holds the other key."""
    source = Source(data)
    kind, body = source.byte(), source.rest()
    for read in (messages.type_of, messages.receiver_of, messages.Data.unpack):
        with contextlib.suppress(HandshakeError):
            read(body)
    with contextlib.suppress(HandshakeError):
        transport.open_data(_key(), 1, body)
    if kind % 4 == 1:
        _initiation(body)
    elif kind % 4 == 2:
        _response(body)
    elif kind % 4 == 3:
        _cookie_reply(body)


def _bent(message: bytes, by: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(message, by.ljust(len(message), b"\0"), strict=False))


def _initiation(bend: bytes) -> None:
    made, _ = noise.initiate(THEIRS, OURS.public, ephemeral=THEIRS, local_index=5)
    bent = _bent(made[: -messages.MACS_BYTES], bend)
    with contextlib.suppress(HandshakeError):
        consumed = noise.consume_initiation(OURS, cookies.append_macs(bent, OURS.public))
        assert consumed.peer_public == THEIRS.public
        tai64n.to_unix_s(consumed.timestamp)


def _response(bend: bytes) -> None:
    made, state = noise.initiate(OURS, THEIRS.public, ephemeral=OURS, local_index=5)
    answer, _ = noise.respond(noise.consume_initiation(THEIRS, made), ephemeral=THEIRS)
    bent = cookies.append_macs(_bent(answer[: -messages.MACS_BYTES], bend), OURS.public)
    with contextlib.suppress(HandshakeError):
        keys = noise.consume_response(OURS, state, bent)
        assert keys.local_index == 5


def _cookie_reply(body: bytes) -> None:
    jar = CookieJar(THEIRS.public)
    jar.remember_sent(bytes(messages.INITIATION_BYTES))
    with contextlib.suppress(HandshakeError):
        jar.consume_reply(body.ljust(messages.COOKIE_REPLY_BYTES, b"\0"), 0.0)
        raise AssertionError("a cookie that was not sealed for us")


@target
def data_message(data: bytes) -> None:
    """What is trimmed is a beginning of the plaintext, as long as its header says."""
    packet = transport.trim(data)
    assert packet is None or (data.startswith(packet) and len(packet) >= 20)
    sealed = transport.seal_data(_key(), 1, 0, data)
    assert transport.open_data(_key(), 1, sealed) == (0, data)


_handshaker = SealedHandshaker(
    cast(
        "KeyExchange",
        SimpleNamespace(peer_slots=None, own=OURS, counting=contextlib.nullcontext),
    )
)
_loop = asyncio.new_event_loop()


@target
def stream(data: bytes) -> None:
    """The first message is judged as it comes, byte for byte; a frame is taken to its end only."""
    for n in (*range(1, framing.HEAD_BYTES + 1), len(data)):
        with contextlib.suppress(HandshakeError):
            _handshaker.check_opening(data[:n])
    reader, writer = socket.socketpair()
    with reader, writer, contextlib.suppress(HelloError):
        reader.setblocking(False)
        writer.send(data)
        writer.close()
        message = _loop.run_until_complete(framing.receive(reader, 1024))
        assert framing.message_of(data).startswith(message)
        assert 0 < len(message) <= 1024


@target
def icmp_message(data: bytes) -> None:
    """A hint is about a datagram that is longer than what it says fits."""
    for hint in (hints.read_ipv4(data), hints.read_ipv6(data)):
        assert hint is None or hint.mtu < hint.length
    for said in (unreachable.read_ipv4(data), unreachable.read_ipv6(data, "fe80::1%eth0")):
        assert str(said).isprintable()


class _Answering(dns.nameserver.Nameserver):
    def __init__(self, wire: bytes) -> None:
        self._wire = wire.ljust(6, b"\0")

    def __str__(self) -> str:
        return "Do53:203.0.113.53"

    def kind(self) -> str:
        return "Do53"

    def is_always_max_size(self) -> bool:
        return False

    def answer_nameserver(self) -> str:
        return "203.0.113.53"

    def answer_port(self) -> int:
        return 53

    def query(self, request: dns.message.QueryMessage, *_: Any, **__: Any) -> dns.message.Message:
        question = request.to_wire()
        # Its number, that it is an answer, and its question: else none would be taken.
        wire = question[:2] + b"\x81\x80\0\1" + self._wire[:6] + question[12:] + self._wire[6:]
        return dns.message.from_wire(wire)


@target
def dns_answer(data: bytes) -> None:
    """Addresses, or one of two errors."""
    resolver = dns.resolver.Resolver(configure=False)
    resolver.nameservers = [_Answering(data)]
    with contextlib.suppress(NotYetError, NoSuchNameError):
        for address in marked_dns.addresses(resolver, "a.example", 0.001):
            assert str(address)


@target
def metrics_request(data: bytes) -> None:
    """Any header chooses a format, and says nothing back that is no header."""
    text = data.decode("latin-1")
    _, content_type = metrics._encoder(text)
    assert "\n" not in content_type
    assert "\r" not in content_type
    metrics.gzip_accepted(text)


@target
def source_of_a_line(data: bytes) -> None:
    """Any text that names a remote end counts as one source, for the limits of the log."""
    assert isinstance(limits.source_of(data.decode(errors="replace")), str)
