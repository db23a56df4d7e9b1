"""The primitives: RFC 7693, RFC 7748 and Wycheproof, all of what is carried."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from fastun.session import primitives
from fastun.session.primitives import NotAuthenticError
from fastun.session.refusal import HandshakeError, Refusal
from tests.support.parties import LOW_ORDER_POINTS, load_vectors, refusal_of

Tests = list[dict[str, Any]]


def bytes_of(vector: dict[str, Any], *names: str) -> list[bytes]:
    return [bytes.fromhex(vector[name]) for name in names]


# BLAKE2s


def test_hash_of_abc_is_that_of_rfc_7693_appendix_b() -> None:
    assert primitives.blake2s(b"abc").hex() == (
        "508c5e8c327c14e2e1a72ba34eeb452f37458b209ed63a294d999b4c86675982"
    )


def fibonacci_bytes(length: int, seed: int) -> bytes:
    """Return the deterministic input of RFC 7693 appendix E."""
    a, b = (0xDEAD4BAD * seed) % 2**32, 1
    sequence = bytearray()
    for _ in range(length):
        a, b = b, (a + b) % 2**32
        sequence.append(b >> 24)
    return bytes(sequence)


def test_hashes_and_macs_of_all_sizes_are_those_of_rfc_7693_appendix_e() -> None:
    whole = hashlib.blake2s()
    for out_length in (16, 20, 28, 32):
        for in_length in (0, 3, 64, 65, 255, 1024):
            data = fibonacci_bytes(in_length, in_length)
            key = fibonacci_bytes(out_length, out_length)
            plain = hashlib.blake2s(data, digest_size=out_length).digest()
            keyed = hashlib.blake2s(data, digest_size=out_length, key=key).digest()
            if out_length == 32:
                assert primitives.blake2s(data) == plain
            if out_length == 16:
                assert primitives.mac(key, data) == keyed
            whole.update(plain)
            whole.update(keyed)
    assert whole.hexdigest() == "6a411f08ce25adcdfb02aba641451cec53c598b24f4fc787fbdc88797f4c1dfe"


# The AEADs of handshakes and data are C's


def test_wycheproof_xchacha20_poly1305() -> None:
    tests: Tests = load_vectors("wycheproof_xchacha20_poly1305.json")["tests"]
    assert len(tests) == 170
    for test in tests:
        key, iv, aad, message, sealed, tag = bytes_of(test, "key", "iv", "aad", "msg", "ct", "tag")
        if test["result"] == "valid":
            assert primitives.xopen(key, iv, sealed + tag, aad) == message, test["tcId"]
        else:
            with pytest.raises(NotAuthenticError):
                primitives.xopen(key, iv, sealed + tag, aad)


def test_a_ciphertext_shorter_than_its_tag_does_not_open() -> None:
    with pytest.raises(NotAuthenticError):
        primitives.xopen(bytes(32), bytes(24), bytes(15), b"")


# X25519


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_not_read(wrong: bytes) -> None:
    good = bytes(range(32))
    for call in (
        lambda: primitives.public_key(wrong),
        lambda: primitives.dh(wrong, good),
        lambda: primitives.dh(good, wrong),
    ):
        with pytest.raises(ValueError, match=f"a key of {len(wrong)} bytes"):
            call()


@pytest.mark.parametrize(
    ("scalar", "point", "product"),
    [
        (
            "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
            "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
            "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
        ),
        (
            "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
            "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
            "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
        ),
    ],
)
def test_dh_is_that_of_rfc_7748_section_5_2(scalar: str, point: str, product: str) -> None:
    assert primitives.dh(bytes.fromhex(scalar), bytes.fromhex(point)).hex() == product


def test_dh_a_thousand_times_is_that_of_rfc_7748_section_5_2() -> None:
    k = u = (9).to_bytes(32, "little")
    for _ in range(1000):
        k, u = primitives.dh(k, u), k
    assert k.hex() == "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"


def test_keys_and_secret_are_those_of_rfc_7748_section_6_1() -> None:
    alice = bytes.fromhex("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a")
    bob = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
    alice_public = primitives.public_key(alice)
    bob_public = primitives.public_key(bob)
    assert alice_public.hex() == "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
    assert bob_public.hex() == "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"
    secret = primitives.dh(alice, bob_public)
    assert secret == primitives.dh(bob, alice_public)
    assert secret.hex() == "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742"


def test_wycheproof_x25519() -> None:
    tests: Tests = load_vectors("wycheproof_x25519.json")["tests"]
    assert len(tests) == 173
    n_zero = 0
    for test in tests:
        private, public, shared = bytes_of(test, "private", "public", "shared")
        if any(shared):
            assert primitives.dh(private, public) == shared, test["tcId"]
        else:
            n_zero += 1
            with pytest.raises(HandshakeError) as caught:
                primitives.dh(private, public)
            assert caught.value.reason is Refusal.LOW_ORDER_POINT
    assert n_zero == 31


@pytest.mark.parametrize("point", LOW_ORDER_POINTS, ids=bytes.hex)
def test_a_low_order_point_is_refused(point: bytes) -> None:
    assert refusal_of(lambda: primitives.dh(bytes(range(32)), point)) is Refusal.LOW_ORDER_POINT
