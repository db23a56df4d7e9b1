"""Keys on their way to the workers: by name, in a region from which they go with their session."""

from __future__ import annotations

import gc

import pytest

from fastun.lane.messages import AddReceivingKey, SetSendingKey
from fastun.link.key_installer import KeyInstaller
from fastun.native import Aead, KeyName
from fastun.session.refusal import HandshakeError, Refusal
from fastun.session.timer_constants import TimerConstants
from tests.support.parties import shake_hands
from tests.support.recording_lane import RecordingLane, key_in_region

NONE = bytes(32)


def test_messages_name_keys_that_the_region_has_until_the_session_ends() -> None:
    lane = RecordingLane()
    installer, done = KeyInstaller(lane.as_lane(), TimerConstants()), shake_hands()
    keys, theirs = done.client, done.server
    gc.collect()  # what other tests have left
    n_used, counter = lane.keys.n_used(), lane.sending.begin(3)
    installer.add_receiving(3, keys, counter=0)
    installer.use_for_sending(3, keys, Aead.CHACHA20_POLY1305, counter)
    installer.use_for_sending(3, keys, Aead.AES_256_GCM, counter)
    (_, adding), *sending = lane.take()
    assert isinstance(adding, AddReceivingKey)
    names = {adding.key, *(each.key for _, each in sending if isinstance(each, SetSendingKey))}
    assert len(names) == 1, "a session has one name"
    assert lane.keys.n_used() == n_used + 1
    (name,) = names
    found = {role: key_in_region(lane.keys, role, name) for role in ("tun-reader", "link-reader")}
    installer.add_receiving(3, theirs, counter=0)
    (_, other), *_ = lane.take()
    assert isinstance(other, AddReceivingKey)
    assert key_in_region(lane.keys, "link-reader", other.key) == found["tun-reader"]
    assert key_in_region(lane.keys, "tun-reader", other.key) == found["link-reader"]
    assert NONE not in found.values()
    assert found["tun-reader"] != found["link-reader"]
    del keys, theirs, done
    gc.collect()
    assert lane.keys.n_used() == n_used
    assert {key_in_region(lane.keys, role, name) for role in found} == {NONE}


def test_a_region_without_room_refuses_the_handshake(monkeypatch: pytest.MonkeyPatch) -> None:
    lane = RecordingLane()

    def full(*_: object) -> KeyName:
        raise OSError

    monkeypatch.setattr(lane.keys, "put", full)
    installer = KeyInstaller(lane.as_lane(), TimerConstants())
    with pytest.raises(HandshakeError) as refused:
        installer.add_receiving(3, shake_hands().client, counter=0)
    assert refused.value.reason is Refusal.TOO_MANY
    assert lane.take() == []
