"""The first message of a sealed stream, in pieces of any size and of any content."""

from __future__ import annotations

import itertools
from types import SimpleNamespace
from typing import Any, cast

from hypothesis import given
from hypothesis import strategies as st

from fastun.link.key_exchange import KeyExchange
from fastun.link.stream import framing
from fastun.link.stream.handshake import SealedHandshaker
from fastun.session import cookies, noise
from fastun.session.refusal import HandshakeError
from tests.support.parties import CLIENT, SERVER

NO_PEERS = cast("Any", SimpleNamespace(why_barred=lambda _: None))
GOOD = framing.framed(noise.initiate(CLIENT, SERVER.public)[0])


def verdicts(said: bytes, ends: list[int]) -> list[bool]:
    """Whether each beginning of what was said may go on, up to the first that may not."""
    handshaker = SealedHandshaker(KeyExchange(NO_PEERS, SERVER, cast("Any", None)))
    found = []
    for end in ends:
        try:
            handshaker.check_opening(said[:end])
        except HandshakeError:
            found.append(False)
            break
        found.append(True)
    assert sum(handshaker.exchange.results.values()) == found.count(False)
    return found


pieces = st.lists(st.integers(1, 150), min_size=1, max_size=8).map(
    lambda steps: [min(end, 150) for end in itertools.accumulate(steps)]
)


@given(pieces)
def test_an_initiation_for_us_passes_in_any_pieces(ends: list[int]) -> None:
    assert all(verdicts(GOOD, ends))


@given(st.integers(0, 149), st.integers(1, 255), pieces)
def test_one_with_a_wrong_byte_before_its_mac2_never_passes_whole(
    place: int, flip: int, ends: list[int]
) -> None:
    said = bytearray(GOOD)
    said[place] ^= flip
    found = verdicts(bytes(said), [*ends, 150])
    assert found[-1] == (place >= 150 - 16)
    if place < framing.HEAD_BYTES:  # it shows with the first piece that has the byte
        assert found.index(False) == next(n for n, end in enumerate([*ends, 150]) if end > place)


@given(st.binary(min_size=1, max_size=150))
def test_what_passes_whole_has_length_type_and_mac1(said: bytes) -> None:
    if verdicts(said, [len(said)]) == [True]:
        head = b"\x00\x94\x01\x00\x00\x00"
        assert said[:6] == head[: len(said)]
        assert len(said) < 150 or cookies.has_valid_mac1(said[2:], SERVER.public)
