"""Both ends of a stream's handshake, on a socket pair."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING, Any

import msgspec

from fastun.config.push import Push
from fastun.lane.messages import LinkFormat
from fastun.link import hello
from fastun.link.hello import Hello, HelloError
from fastun.link.key_exchange import KeyExchange
from fastun.link.peer_slots import PeerSlots, SlottedPeer
from fastun.link.stream import framing
from fastun.link.stream.handshake import SealedHandshaker
from fastun.peers.peer import Peer
from fastun.session import noise, transport
from fastun.session.protocol import NO_PRESHARED_KEY
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.parties import CLIENT, SERVER
from tests.support.recording_lane import RecordingLane

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from fastun.session.keys import KeyPair

HELLO = Hello(
    version=hello.PROTOCOL_VERSION,
    software="fastun test",
    mode="tun",
    offload=("tcp",),
    message_max=60000,
    aeads=(hello.CHACHA,),
)


def pushed_to(slotted: SlottedPeer) -> Push:
    return Push(addresses=(f"10.9.0.{slotted.slot + 2}/24",))


def peer_slots_of(*peers: Peer) -> PeerSlots:
    peer_slots = PeerSlots(RecordingLane().as_lane())
    peer_slots.replace(peers)
    return peer_slots


def peer(name: str, pair: KeyPair, preshared_key: bytes | None = None) -> Peer:
    return Peer(name=name, public_key=pair.public, preshared_key=preshared_key)


def server(*peers: Peer, plain_format: LinkFormat | None = None) -> SealedHandshaker:
    def hello_for(slotted: SlottedPeer) -> Hello:
        assert slotted.peer in peers
        return msgspec.structs.replace(HELLO, push=pushed_to(slotted))

    return SealedHandshaker(KeyExchange(peer_slots_of(*peers), SERVER, hello_for), plain_format)


def client(
    own: KeyPair = CLIENT,
    preshared_key: bytes | None = None,
    plain_format: LinkFormat | None = None,
) -> SealedHandshaker:
    peer_slots = peer_slots_of(peer("server", SERVER, preshared_key))
    return SealedHandshaker(KeyExchange(peer_slots, own, lambda _: HELLO), plain_format)


def together(
    listening: Callable[[socket.socket], Awaitable[Any]],
    dialling: Callable[[socket.socket], Awaitable[Any]],
) -> tuple[Any, Any]:
    """Run both ends to their end; each gives its result or what it raised. Failing closes."""

    async def to_its_end(work: Awaitable[Any], end: socket.socket) -> Any:
        try:
            return await work
        except (HelloError, HandshakeError, OSError) as error:
            return error
        finally:
            end.shutdown(socket.SHUT_WR)

    async def both() -> tuple[Any, Any]:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            theirs.setblocking(False)
            return await asyncio.gather(
                to_its_end(listening(ours), ours), to_its_end(dialling(theirs), theirs)
            )

    return asyncio.run(asyncio.wait_for(both(), 10))


async def rest_of(connection: socket.socket) -> bytes:
    """All that the other side says until it ends the stream."""
    received = b""
    while piece := await asyncio.get_running_loop().sock_recv(connection, 65536):
        received += piece
    return received


def reason_of(result: object) -> Refusal | None:
    return result.reason if isinstance(result, HandshakeError) else None


async def say_as_client(
    connection: socket.socket, counter: int, content: bytes, *, is_tampered: bool = False
) -> bytes:
    """Shake hands as the client, then seal `content` where the hello belongs; what comes back."""
    initiation, state = noise.initiate(CLIENT, SERVER.public)
    await framing.send(connection, initiation)
    response = await framing.receive(connection, 92)
    keys = noise.consume_response(CLIENT, state, response, NO_PRESHARED_KEY)
    message = transport.seal_data(keys.send, keys.remote_index, counter, content)
    if is_tampered:
        message = message[:-1] + bytes([message[-1] ^ 1])
    await framing.send(connection, message)
    return await rest_of(connection)


def opening_of(initiation: bytes) -> bytes:
    return len(initiation).to_bytes(2, "big") + initiation
