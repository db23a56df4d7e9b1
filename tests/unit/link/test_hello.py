"""The hello: what is no hello is refused with its reason, and two sides agree on what both can."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
import msgspec
import pytest

from fastun.config.push import Push
from fastun.config.settings import Options, Role, Settings, load
from fastun.link import hello
from fastun.link.hello import Ability, Hello, HelloError
from fastun.native import Aead, Mode, Offload, Wire

OURS = Hello(
    version=hello.PROTOCOL_VERSION,
    software="fastun test",
    mode="tun",
    offload=("tcp", "udp"),
    message_max=60000,
    aeads=(hello.CHACHA, hello.AES),
    push=Push(addresses=("10.9.0.2/24",), routes=("10.9.0.0/24", "fd00:9::/64"), mtu=1400),
)


def changed(**fields: Any) -> Hello:
    return msgspec.structs.replace(OURS, **fields)


def encoded(**fields: Any) -> bytes:
    """A hello whose map has other fields than a Hello could."""
    body: bytes = msgpack.packb({**msgpack.unpackb(hello.encode(OURS)[4:]), **fields})
    return hello.TYPE + body


def settings(wire: str) -> Settings:
    plain = load("serve", None, Options(wire="plain", insecure=True))
    return dataclasses.replace(plain, wire=wire)  # type: ignore[arg-type]


# -- reading ----------------------------------------------------------------------------------


def test_what_is_said_is_read() -> None:
    assert hello.decode(hello.encode(OURS)) == OURS


def test_a_field_of_a_newer_version_is_ignored() -> None:
    assert hello.decode(encoded(colour="blue")) == OURS


@pytest.mark.parametrize(
    ("said", "read"),
    [
        ("s" * 64, "s" * 64),
        ("s" * 65, "s" * 64),
        ("x\x1b[2J\nup", "x\\x1b[2J\\nup"),
        ("\x1b" * 64, "\\x1b" * 16),
    ],
)
def test_what_a_peer_calls_itself_is_short_and_printable(said: str, read: str) -> None:
    assert hello.decode(hello.encode(changed(software=said))).software == read


def test_a_complaint_shows_little_of_what_it_is_about() -> None:
    shown = "x\n\x1b" * 1000
    for message in (encoded(mode=shown), encoded(push={"addresses": [shown]})):
        with pytest.raises(HelloError, match="malformed") as caught:
            hello.decode(message)
        assert str(caught.value).isprintable()
        assert len(str(caught.value)) < 300


@pytest.mark.parametrize("place", range(4))
def test_another_type_is_another_wire(place: int) -> None:
    message = bytearray(hello.encode(OURS))
    message[place] ^= 1
    with pytest.raises(HelloError, match="same --wire"):
        hello.decode(bytes(message))


def test_a_hello_has_a_longest_length() -> None:
    padding = hello.HELLO_BYTES_MAX - len(encoded(padding="x" * 1000))
    longest = encoded(padding="x" * (1000 + padding))
    assert len(longest) == hello.HELLO_BYTES_MAX
    assert hello.decode(longest) == OURS
    with pytest.raises(HelloError, match="4097 bytes"):
        hello.decode(encoded(padding="x" * (1001 + padding)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xc1",
        msgpack.packb([1, 2]),
        msgpack.packb({}),
        b"\x91" * 3000,
        encoded(mode="tin")[4:],
        encoded(version="1")[4:],
        encoded(offload=[1])[4:],
        encoded(takes_push=1)[4:],
        encoded(answers_probes=None)[4:],
        hello.encode(OURS)[4:] + b"\x00",
    ],
)
def test_what_cannot_be_read_is_malformed(body: bytes) -> None:
    with pytest.raises(HelloError, match="malformed"):
        hello.decode(hello.TYPE + body)


@pytest.mark.parametrize(
    "push",
    [
        {"addresses": ["10.9.0.300/24"], "routes": [], "mtu": 0},
        {"addresses": ["; rm -rf"], "routes": [], "mtu": 0},
        {"addresses": [], "routes": ["10.9.0.0/33"], "mtu": 0},
        {"addresses": [], "routes": ["10.9.0.1/24"], "mtu": 0},
        {"addresses": [], "routes": [], "mtu": "big"},
    ],
)
def test_a_push_of_what_is_not_an_address_or_network_is_malformed(push: dict[str, Any]) -> None:
    with pytest.raises(HelloError, match="malformed"):
        hello.decode(encoded(push=push))


# -- abilities --------------------------------------------------------------------------------


@pytest.mark.parametrize("ability", Ability)
@pytest.mark.parametrize("has_it", [True, False])
def test_an_ability_is_a_key_of_the_hello(ability: Ability, has_it: bool) -> None:
    abilities = frozenset({ability} if has_it else set())
    message = hello.encode(changed(abilities=abilities))
    said = None if ability in (Ability.DIALS, Ability.GOES_ELSEWHERE) else False
    assert msgpack.unpackb(message[4:]).get(str(ability)) is (True if has_it else said)
    assert hello.decode(message).abilities == abilities


def test_a_peer_that_does_not_say_an_ability_has_what_it_had_before() -> None:
    fields = msgpack.unpackb(hello.encode(OURS)[4:])
    for ability in Ability:
        fields.pop(str(ability), None)
    older = hello.decode(hello.TYPE + msgpack.packb(fields))
    assert older.abilities == {Ability.TAKES_PUSH}


def test_abilities_are_read_from_their_own_keys_only() -> None:
    said = encoded(abilities=["answers_probes"], answers_probes=False, takes_push=False)
    assert hello.decode(said).abilities == frozenset()


@pytest.mark.parametrize(
    ("theirs", "is_pushed"),
    [(None, True), (frozenset({Ability.TAKES_PUSH}), True), (frozenset(), False)],
)
def test_a_peer_is_pushed_to_unless_it_says_that_it_takes_none(
    theirs: frozenset[Ability] | None, is_pushed: bool
) -> None:
    said = None if theirs is None else changed(abilities=theirs)
    assert (hello.for_peer(OURS, said).push is not None) == is_pushed


@pytest.mark.parametrize(
    ("role", "accept", "takes"),
    [("connect", ("mtu",), True), ("connect", (), False), ("serve", None, False)],
)
def test_a_side_takes_pushes_that_connects_and_accepts_some(
    role: Role, accept: tuple[str, ...] | None, takes: bool
) -> None:
    target = "tcp://192.0.2.1" if role == "connect" else None
    side = load(role, target, Options(wire="plain", insecure=True))
    if accept is not None:
        side = dataclasses.replace(side, accept=accept)  # type: ignore[call-arg]
    side = dataclasses.replace(side, wire="wireguard")
    assert (Ability.TAKES_PUSH in hello.own(side, Offload.TCP).abilities) == takes


# -- agreeing ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"version": 0}, "protocol version 0"),
        ({"version": 2}, "protocol version 2"),
        ({"mode": "tap"}, "mode is tap"),
        ({"message_max": 1279}, "at most 1279 bytes"),
        ({"message_max": 65536}, "at most 65536 bytes"),
    ],
)
def test_what_cannot_work_together_is_refused(fields: dict[str, Any], why: str) -> None:
    with pytest.raises(HelloError, match=why):
        hello.agree(OURS, changed(**fields), Wire.WIREGUARD)


@pytest.mark.parametrize(("theirs", "agreed"), [(1280, 1280), (60001, 60000), (65535, 60000)])
def test_messages_are_as_long_as_both_take(theirs: int, agreed: int) -> None:
    link_format, _ = hello.agree(OURS, changed(message_max=theirs), Wire.WIREGUARD)
    assert link_format.message_max == agreed


@pytest.mark.parametrize(
    ("ours", "theirs", "goes_whole", "splits_udp"),
    [
        (("tcp", "udp"), ("tcp", "udp"), True, False),
        (("tcp", "udp"), ("tcp",), True, True),
        (("tcp",), ("tcp", "udp"), True, False),
        (("tcp", "udp"), ("udp",), False, False),
        (("tcp", "udp"), (), False, True),
        ((), ("tcp", "udp"), True, False),
        (("tcp",), ("tcp", "more"), True, True),
    ],
)
def test_super_packets_go_to_peers_that_take_them(
    ours: tuple[str, ...], theirs: tuple[str, ...], goes_whole: bool, splits_udp: bool
) -> None:
    link_format, _ = hello.agree(changed(offload=ours), changed(offload=theirs), Wire.WIREGUARD)
    assert (link_format.super_outbound, link_format.splits_udp) == (goes_whole, splits_udp)
    assert link_format.super_inbound == bool(ours)
    assert (link_format.wire, link_format.mode) == (Wire.WIREGUARD, Mode.TUN)


@pytest.mark.parametrize(
    ("ours", "theirs", "agreed"),
    [
        ((hello.CHACHA, hello.AES), (hello.CHACHA, hello.AES), Aead.AES_256_GCM),
        ((hello.CHACHA, hello.AES), (hello.CHACHA,), Aead.CHACHA20_POLY1305),
        ((hello.CHACHA,), (hello.CHACHA, hello.AES), Aead.CHACHA20_POLY1305),
        ((hello.CHACHA, hello.AES), (), Aead.CHACHA20_POLY1305),
    ],
)
def test_aes_seals_only_where_both_offer_it(
    ours: tuple[str, ...], theirs: tuple[str, ...], agreed: Aead
) -> None:
    _, aead = hello.agree(changed(aeads=ours), changed(aeads=theirs), Wire.WIREGUARD)
    assert aead is agreed


# -- what this side says ----------------------------------------------------------------------


def test_on_the_sealed_wire_a_message_leaves_room_for_its_seal() -> None:
    sealed = hello.own(settings("wireguard"), Offload.TCP)
    assert sealed.message_max == 65535 - 16 - 16 - 15  # data header, tag, padding
    assert hello.CHACHA in sealed.aeads
    plain = hello.own(settings("plain"), Offload.TCP)
    assert plain.message_max == 65535
    assert plain.aeads == ()
    assert (plain.offload, plain.push) == (("tcp",), None)


@pytest.mark.parametrize(
    ("has_instructions", "offered"),
    [(True, (hello.CHACHA, hello.AES)), (False, (hello.CHACHA,))],
)
def test_aes_is_offered_only_with_the_processors_instructions(
    monkeypatch: pytest.MonkeyPatch, has_instructions: bool, offered: tuple[str, ...]
) -> None:
    monkeypatch.setattr(hello, "has_aes_instructions", lambda: has_instructions)
    assert hello.own_aeads() == offered


@pytest.mark.parametrize(("wire", "longest"), [("simpletun", 2000), ("plain", 65535)])
def test_while_no_peer_has_spoken_there_are_no_super_packets(wire: str, longest: int) -> None:
    link_format = hello.format_without_peer(settings(wire))
    assert not link_format.super_outbound
    assert not link_format.super_inbound
    assert link_format.message_max == longest
