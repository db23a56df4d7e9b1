"""Noise's symmetric state in C against a model in Python, with libraries that it does not use."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from hypothesis import given
from hypothesis import strategies as st

from fastun.native.secrets import NotAuthenticError, Secret, public_key, use_x25519
from fastun.session import symmetric_state
from fastun.session.protocol import CONSTRUCTION
from fastun.session.refusal import Refusal
from fastun.session.symmetric_state import SymmetricState
from tests.support.parties import LOW_ORDER_POINTS, load_vectors, refusal_of

if TYPE_CHECKING:
    from collections.abc import Iterator

BEGIN = SymmetricState.initial(CONSTRUCTION)
DATA = st.binary(max_size=200)
KEY = st.binary(min_size=32, max_size=32)


def kdf(n_keys: int, chaining_key: bytes, material: bytes) -> list[bytes]:
    whole = HKDF(hashes.BLAKE2s(32), 32 * n_keys, salt=chaining_key, info=b"").derive(material)
    return [whole[32 * i : 32 * (i + 1)] for i in range(n_keys)]


@dataclass(frozen=True)
class Model:
    """What the specification says (Noise section 5.2)."""

    chaining_key: bytes
    hash: bytes
    key: bytes = bytes(32)

    def mix_hash(self, data: bytes) -> Model:
        return replace(self, hash=hashlib.blake2s(self.hash + data).digest())

    def mix_key(self, material: bytes) -> Model:
        chaining_key, key = kdf(2, self.chaining_key, material)
        return replace(self, chaining_key=chaining_key, key=key)

    def mix_key_and_hash(self, material: bytes) -> Model:
        chaining_key, tau, key = kdf(3, self.chaining_key, material)
        return replace(self, chaining_key=chaining_key, key=key).mix_hash(tau)

    def encrypt(self, plaintext: bytes) -> tuple[bytes, Model]:
        sealed = ChaCha20Poly1305(self.key).encrypt(bytes(12), plaintext, self.hash)
        return sealed, self.mix_hash(sealed)


NAME_HASH = hashlib.blake2s(CONSTRUCTION).digest()
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("mix_hash"), DATA),
        st.tuples(st.just("mix_key"), DATA.filter(bool)),
        st.tuples(st.just("mix_key_and_hash"), KEY),
        st.tuples(st.just("encrypt"), DATA),
    ),
    max_size=12,
)


@given(STEPS)
def test_any_steps_give_what_the_specification_says(steps: list[tuple[str, bytes]]) -> None:
    state, model = BEGIN, Model(NAME_HASH, NAME_HASH)
    for name, data in steps:
        if name != "encrypt":
            state, model = getattr(state, name)(data), getattr(model, name)(data)
        elif model.key != bytes(32):
            before = state
            sealed, state = state.encrypt(data)
            expected, model = model.encrypt(data)
            assert sealed == expected
            opened, following = before.decrypt(sealed)
            assert (opened, following.hash) == (data, state.hash)
        assert state.hash == model.hash
    expected_keys = kdf(2, model.chaining_key, b"")
    assert list(state.split()) == [Secret.of(key) for key in expected_keys]


@given(DATA, st.integers(0, 2**16))
def test_what_was_changed_does_not_open_and_changes_nothing(data: bytes, bit: int) -> None:
    state = BEGIN.mix_key(b"key")
    sealed, _ = state.encrypt(data)
    changed = bytearray(sealed)
    changed[bit // 8 % len(sealed)] ^= 1 << bit % 8
    for wrong in (bytes(changed), sealed[:-1], sealed[:15], b""):
        with pytest.raises(NotAuthenticError):
            state.decrypt(wrong)
        assert refusal_of(lambda wrong=wrong: state.decrypt_and_hash(wrong, Refusal.BAD_TAG))
    assert state.decrypt(sealed)[0] == data


@pytest.fixture(params=["libsodium", "libgcrypt"])
def x25519(request: pytest.FixtureRequest) -> Iterator[None]:
    """Each of the two functions."""
    if request.param == "libgcrypt":
        use_x25519(0)
    yield
    use_x25519(symmetric_state.LIBSODIUM_X25519)


def of_product(state: SymmetricState) -> bytes:
    """Return what depends on all that was mixed in."""
    return state.encrypt(b"")[0]


@pytest.mark.usefixtures("x25519")
def test_wycheproof_x25519_straight_into_the_state() -> None:
    assert symmetric_state.LIBSODIUM_X25519 != 0
    tests: list[dict[str, Any]] = load_vectors("wycheproof_x25519.json")["tests"]
    for test in tests:
        private, public, shared = (
            bytes.fromhex(test[name]) for name in ("private", "public", "shared")
        )
        if not any(shared):
            reason = refusal_of(lambda key=private, point=public: BEGIN.mix_dh(key, point))
            assert reason is Refusal.LOW_ORDER_POINT
            continue
        expected = of_product(BEGIN.mix_key(shared))
        assert of_product(BEGIN.mix_dh(private, public)) == expected, test["tcId"]
        assert of_product(BEGIN.mix_dh(Secret.of(private), public)) == expected


@pytest.mark.usefixtures("x25519")
def test_ephemeral_keys_agree_and_low_order_points_are_refused() -> None:
    one, other = Secret.new_private(), Secret.new_private()
    assert one != other
    ours, theirs = BEGIN.mix_dh(one, public_key(other)), BEGIN.mix_dh(other, public_key(one))
    assert of_product(ours) == of_product(theirs)
    for point in LOW_ORDER_POINTS:
        assert refusal_of(lambda point=point: BEGIN.mix_dh(one, point)) is Refusal.LOW_ORDER_POINT


@pytest.mark.parametrize("wrong", [b"", bytes(31), bytes(33)])
def test_a_key_of_another_length_is_not_read(wrong: bytes) -> None:
    for call in (
        lambda: Secret.of(wrong),
        lambda: public_key(wrong),
        lambda: BEGIN.mix_dh(wrong, bytes(32)),
        lambda: BEGIN.mix_dh(bytes(32), wrong),
        lambda: BEGIN.mix_key_and_hash(wrong),
    ):
        with pytest.raises(ValueError, match=f"a key of {len(wrong)} bytes"):
            call()


def test_secrets_are_compared_and_shown_without_their_bytes() -> None:
    one = Secret.of(bytes(range(32)))
    assert one == Secret.of(bytes(range(32)))
    assert one != Secret.of(bytes(range(1, 33)))
    assert one != bytes(range(32))
    assert repr(one) == str(one) == "Secret()"
