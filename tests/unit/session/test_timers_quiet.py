"""More of a peer's timers by a fake clock."""

from __future__ import annotations

import pytest

from fastun.session.timer_constants import TimerConstants
from fastun.session.timers import PeerTimers
from tests.support.peer_timers import (
    EXPIRE,
    GIVE_UP,
    INITIATE,
    KEEPALIVE,
    START,
    ZERO,
    answer,
    kinds,
    quiet,
    run,
    with_session,
)


def test_a_session_that_is_used_up_is_none() -> None:
    timers = with_session()
    timers.on_data_sent(START + 6, counter=2**64 - 2**13 - 2)
    assert timers.has_session(START + 6)
    timers.on_data_sent(START + 6, counter=2**64 - 2**13 - 1)
    assert not timers.has_session(START + 6)


def test_a_rekeyed_session_is_young_again() -> None:
    timers = with_session()
    assert answer(timers, START + 120) == [INITIATE]
    timers.on_handshake_complete(START + 121, is_initiator=True)
    assert answer(timers, START + 240.9) == []
    assert answer(timers, START + 241) == [INITIATE]


def test_a_rekeyed_session_rekeys_on_receive_again() -> None:
    timers = with_session()
    timers.on_keepalive_received(START + 165)
    assert timers.due(START + 165) == [INITIATE]
    timers.on_handshake_complete(START + 166, is_initiator=True)
    timers.on_keepalive_sent(START + 166)
    timers.on_keepalive_received(START + 166 + 165)
    assert timers.due(START + 166 + 165) == [INITIATE]


def test_the_responders_session_is_as_old_as_its_response() -> None:
    timers = quiet()
    timers.on_response_sent(START)
    assert not timers.has_session(START)
    timers.on_handshake_complete(START + 50, is_initiator=False)
    assert timers.has_session(START + 179.9)
    assert not timers.has_session(START + 180)
    assert (180.0, EXPIRE) in run(timers, START + 180)


# Ends


def test_a_session_may_not_be_used_after_180_s_and_its_keys_are_wiped_after_540() -> None:
    for is_initiator in (True, False):
        timers = with_session(is_initiator=is_initiator)
        assert timers.has_session(START + 179.9)
        assert not timers.has_session(START + 180)
        assert run(timers, START + 10_000) == [(180.0, EXPIRE), (540.0, ZERO)]
        assert not timers.has_session(START + 180)
        assert timers.next_deadline() is None


def test_a_session_that_has_ended_is_not_rekeyed() -> None:
    timers = with_session()
    run(timers, START + 180)
    timers.on_keepalive_received(START + 181)
    assert timers.due(START + 181) == []


def test_a_new_session_puts_off_the_wiping() -> None:
    timers = with_session()
    timers.on_response_sent(START + 100)
    timers.on_handshake_complete(START + 100, is_initiator=False)
    assert run(timers, START + 10_000) == [(280.0, EXPIRE), (640.0, ZERO)]


def test_keys_that_were_never_confirmed_are_wiped_too() -> None:
    timers = quiet()
    timers.on_response_sent(START)
    assert run(timers, START + 10_000) == [(540.0, ZERO)]


def test_a_handshake_that_was_given_up_is_wiped_too() -> None:
    timers = quiet()
    timers.on_data_queued(START)
    assert run(timers, START + 10_000)[-2:] == [(90.0, GIVE_UP), (630.0, ZERO)]


def test_a_packet_after_180_s_asks_for_a_handshake_from_either_side() -> None:
    for is_initiator in (True, False):
        timers = with_session(is_initiator=is_initiator)
        run(timers, START + 180)
        timers.on_data_queued(START + 200)
        assert timers.due(START + 200) == [INITIATE]


def test_dropped_sessions_leave_nothing_to_do() -> None:
    timers = with_session()
    timers.on_data_sent(START + 1)
    timers.on_data_received(START + 2)
    timers.on_data_sent(START + 121)
    timers.on_sessions_dropped()
    assert not timers.has_session(START + 121)
    assert timers.next_deadline() is None
    assert timers.due(START + 10_000) == []


def test_keys_that_were_lost_are_made_anew_at_once_and_tried_for_at_the_usual_pace() -> None:
    timers = with_session()
    timers.on_keys_lost()
    assert not timers.has_session(START + 1)
    timers.on_data_queued(START + 1)
    assert run(timers, START + 7) == [(1.0, INITIATE), (6.0, INITIATE)]


# Silence


def test_data_that_nothing_answers_for_12_s_asks_for_a_handshake() -> None:
    timers = with_session()
    timers.on_data_sent(START + 10)
    timers.on_data_sent(START + 20)  # does not put it off
    assert timers.due(START + 21.9) == []
    assert timers.due(START + 22) == [INITIATE]


def test_an_initiation_that_arrives_does_not_show_that_data_does() -> None:
    timers = with_session()
    timers.on_data_sent(START + 10)
    timers.on_response_sent(START + 16)
    assert timers.due(START + 22) == [INITIATE]


@pytest.mark.parametrize("is_data", [True, False])
def test_anything_authentic_shows_that_the_peer_lives(is_data: bool) -> None:
    timers = with_session()
    timers.on_data_sent(START + 10)
    (timers.on_data_received if is_data else timers.on_keepalive_received)(START + 24)
    assert INITIATE not in kinds(run(timers, START + 100))


def test_a_keepalive_sent_needs_no_answer() -> None:
    timers = with_session()
    timers.on_keepalive_sent(START + 10)
    assert run(timers, START + 100) == []


def test_the_dead_peers_timer_has_jitter() -> None:
    timers = PeerTimers(jitter=lambda: 0.25)
    timers.on_handshake_complete(START, is_initiator=True)
    timers.on_data_sent(START)
    assert timers.next_deadline() == START + 12.25


# Keepalives


def test_the_responder_is_given_the_proof_it_waits_for_at_once() -> None:
    timers = quiet()
    timers.on_initiation_sent(START)
    timers.on_handshake_complete(START + 1, is_initiator=True)
    assert timers.due(START + 1) == [KEEPALIVE]
    assert timers.due(START + 1) == []


def test_data_is_proof_enough() -> None:
    timers = quiet()
    timers.on_handshake_complete(START, is_initiator=True)
    timers.on_data_sent(START)
    assert timers.due(START) == []


def test_the_responder_owes_no_proof() -> None:
    timers = quiet()
    timers.on_response_sent(START)
    timers.on_handshake_complete(START, is_initiator=False)
    assert timers.due(START) == []


def test_data_received_is_answered_within_10_s_by_a_keepalive() -> None:
    timers = with_session()
    timers.on_data_received(START + 20)
    timers.on_data_received(START + 25)  # does not put it off
    assert run(timers, START + 100) == [(30.0, KEEPALIVE)]


@pytest.mark.parametrize("is_data", [True, False])
def test_what_is_sent_anyway_is_answer_enough(is_data: bool) -> None:
    timers = with_session()
    timers.on_data_received(START + 20)
    (timers.on_data_sent if is_data else timers.on_keepalive_sent)(START + 21)
    assert KEEPALIVE not in kinds(run(timers, START + 100))


def test_a_keepalive_is_not_answered() -> None:
    timers = with_session()
    timers.on_keepalive_received(START + 20)
    assert run(timers, START + 100) == []


def test_a_keepalive_without_a_session_asks_for_a_handshake_instead() -> None:
    timers = with_session()
    timers.on_data_received(START + 175)
    done = run(timers, START + 184)
    assert done == [(175.0, INITIATE), (180.0, EXPIRE), (180.0, INITIATE)]
    timers = with_session(is_initiator=False)
    timers.on_data_received(START + 175)
    assert run(timers, START + 186) == [(180.0, EXPIRE), (185.0, INITIATE)]


def test_a_persistent_keepalive_wants_its_session_from_the_start() -> None:
    timers = quiet(persistent_s=25)
    timers.on_start(START)
    assert timers.due(START) == [INITIATE]


def test_a_persistent_keepalive_is_sent_when_nothing_was_sent_or_received_that_long() -> None:
    timers = with_session(persistent_s=25)
    assert run(timers, START + 60) == [(25.0, KEEPALIVE), (50.0, KEEPALIVE)]
    timers.on_keepalive_received(START + 60)
    assert timers.next_deadline() == START + 85
    timers.on_keepalive_sent(START + 70)
    assert timers.next_deadline() == START + 95


def test_a_persistent_keepalive_keeps_a_session_alive_for_ever() -> None:
    timers = with_session(persistent_s=25)
    n_handshakes = 0
    now_s = START
    while now_s < START + 3600:
        now_s = timers.next_deadline() or START + 3600
        for action in timers.due(now_s):
            if action is KEEPALIVE:
                timers.on_keepalive_sent(now_s)
            else:
                assert action is INITIATE
                n_handshakes += 1
                timers.on_handshake_complete(now_s, is_initiator=True)
        assert timers.has_session(now_s)
    assert 20 <= n_handshakes <= 30


def test_a_persistent_keepalive_tries_again_after_giving_up() -> None:
    timers = quiet(persistent_s=25)
    timers.on_start(START)
    done = run(timers, START + 114)
    assert done[-2:] == [(90.0, GIVE_UP), (110.0, INITIATE)]


# Compressed time


def test_time_can_be_compressed() -> None:
    fast = TimerConstants(
        rekey_after_time_s=1.2,
        reject_after_time_s=1.8,
        rekey_attempt_time_s=0.9,
        rekey_timeout_s=0.05,
        keepalive_timeout_s=0.1,
        jitter_s=0.0,
    )
    timers = PeerTimers(fast)
    timers.on_handshake_complete(START, is_initiator=True)
    assert answer(timers, START + 1.19) == []
    assert answer(timers, START + 1.2) == [INITIATE]
    done = run(timers, START + 10)
    assert (1.8, EXPIRE) in done
    assert (5.4, ZERO) in done
    assert GIVE_UP in kinds(done)
