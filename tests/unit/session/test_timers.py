"""One peer's timers by a fake clock: each rule of the whitepaper's section 6, at its second."""

from __future__ import annotations

import pytest

from fastun.session.timer_constants import TimerConstants
from fastun.session.timers import Action, PeerTimers

INITIATE, KEEPALIVE, GIVE_UP = Action.INITIATE, Action.KEEPALIVE, Action.GIVE_UP
EXPIRE, ZERO = Action.EXPIRE_SESSION, Action.ZERO_KEYS

START = 1000.0  # the clock counts from boot, not from 0


def quiet(*, persistent_s: float | None = None) -> PeerTimers:
    """Timers without jitter."""
    return PeerTimers(persistent_keepalive_s=persistent_s, jitter=lambda: 0.0)


def with_session(*, is_initiator: bool = True, persistent_s: float | None = None) -> PeerTimers:
    """Timers with a session since START that both sides have confirmed."""
    timers = quiet(persistent_s=persistent_s)
    if is_initiator:
        timers.on_initiation_sent(START)
    else:
        timers.on_response_sent(START)
    timers.on_handshake_complete(START, is_initiator=is_initiator)
    timers.on_keepalive_sent(START)
    timers.on_keepalive_received(START)
    return timers


def run(timers: PeerTimers, until_s: float) -> list[tuple[float, Action]]:
    """Sleep from deadline to deadline; return what was due when, counted from START."""
    done = []
    previous_s = 0.0
    while (deadline := timers.next_deadline()) is not None and deadline <= until_s:
        assert deadline > previous_s, "the gateway would spin"
        previous_s = deadline
        actions = timers.due(deadline)
        done += [(round(deadline - START, 6), action) for action in actions]
        for action in actions:
            if action is KEEPALIVE:
                timers.on_keepalive_sent(deadline)
    return done


def kinds(done: list[tuple[float, Action]]) -> list[Action]:
    return [action for _, action in done]


def answer(timers: PeerTimers, at_s: float) -> list[Action]:
    """Return what a data message sent at `at_s` asks for."""
    timers.on_data_sent(at_s)
    return timers.due(at_s)


def test_the_constants_are_the_whitepapers() -> None:
    constants = TimerConstants()
    assert constants.rekey_after_time_s == 120
    assert constants.reject_after_time_s == 180
    assert constants.rekey_attempt_time_s == 90
    assert constants.rekey_timeout_s == 5
    assert constants.keepalive_timeout_s == 10
    assert constants.rekey_after_messages == 2**60
    assert constants.reject_after_messages == 2**64 - 2**13 - 1
    assert constants.rekey_after_blocks == 0.75 * 2**34  # ours: AES-256-GCM's are 2^34
    assert constants.rekey_on_receive_s == 165
    assert constants.dead_after_s == 15
    assert constants.zero_keys_after_s == 540


def test_a_peer_that_nothing_happens_to_has_nothing_to_do() -> None:
    timers = quiet()
    assert timers.next_deadline() is None
    assert timers.due(START) == []
    timers.on_start(START)
    assert timers.next_deadline() is None


# Handshakes


def test_a_packet_without_a_session_asks_for_a_handshake_at_once() -> None:
    timers = quiet()
    timers.on_data_queued(START)
    assert timers.due(START) == [INITIATE]
    assert timers.due(START) == []


def test_a_packet_that_was_queued_just_before_the_session_came_asks_for_none() -> None:
    timers = with_session()
    timers.on_data_queued(START + 10)
    assert timers.due(START + 10) == []


def test_an_initiation_without_response_is_sent_again_each_5_s_and_given_up_after_90() -> None:
    timers = quiet()
    timers.on_data_queued(START)
    assert run(timers, START + 500) == [
        *((5.0 * number, INITIATE) for number in range(18)),
        (90.0, GIVE_UP),
    ]


def test_retries_have_jitter_so_that_two_peers_do_not_meet_for_ever() -> None:
    timers = PeerTimers(jitter=lambda: 0.25)
    timers.on_data_queued(START)
    assert run(timers, START + 11) == [(0.0, INITIATE), (5.25, INITIATE), (10.5, INITIATE)]


def test_the_default_jitter_is_between_0_and_a_third_of_a_second() -> None:
    retries = []
    for _ in range(300):
        timers = PeerTimers()
        timers.on_initiation_sent(START)
        retries.append((timers.next_deadline() or 0) - START)
    assert 5 <= min(retries) < 5.05
    assert 5.28 < max(retries) <= 5.3334


def test_packets_that_go_on_coming_keep_the_attempts_going() -> None:
    timers = quiet()
    done = []
    for second in range(200):
        timers.on_data_queued(START + second)
        done += timers.due(START + second)
    assert GIVE_UP not in done
    assert done.count(INITIATE) == 40


def test_the_90_s_count_from_the_last_packet_that_waits() -> None:
    timers = quiet()
    timers.on_data_queued(START)
    run(timers, START + 82)
    timers.on_data_queued(START + 82)
    assert (175.0, GIVE_UP) in run(timers, START + 500)


def test_a_response_ends_the_attempts() -> None:
    timers = quiet()
    timers.on_data_queued(START)
    timers.due(START)
    timers.on_handshake_complete(START + 1, is_initiator=True)
    timers.on_keepalive_sent(START + 1)
    assert INITIATE not in kinds(run(timers, START + 170))


def test_after_giving_up_a_new_packet_begins_anew() -> None:
    timers = quiet()
    timers.on_data_queued(START)
    run(timers, START + 95)
    timers.on_data_queued(START + 95)
    assert timers.due(START + 95) == [INITIATE]
    assert run(timers, START + 180)[-1] == (180.0, INITIATE)
    assert run(timers, START + 186) == [(185.0, GIVE_UP)]


def test_there_is_one_initiation_in_5_s_whoever_asks() -> None:
    timers = quiet()
    timers.on_initiation_sent(START)
    timers.on_data_queued(START + 1)
    assert timers.due(START + 4.999) == []
    assert timers.next_deadline() == START + 5
    assert timers.due(START + 5) == [INITIATE]


def test_a_path_in_doubt_or_keys_that_are_lost_do_not_wait() -> None:
    for learn in (
        lambda timers: timers.on_path_doubted(START + 1),
        lambda timers: (timers.on_keys_lost(), timers.on_data_queued(START + 1)),
    ):
        timers = quiet()
        timers.on_initiation_sent(START)
        learn(timers)
        assert timers.due(START + 1) == [INITIATE]
        assert timers.due(START + 2) == []


def test_a_response_sent_counts_as_an_initiation_sent() -> None:
    timers = quiet()
    timers.on_response_sent(START)
    timers.on_data_queued(START + 1)
    assert timers.due(START + 4.999) == []
    assert timers.due(START + 5) == [INITIATE]


def test_a_response_sent_puts_off_an_initiation_and_its_session_makes_it_needless() -> None:
    timers = quiet()
    timers.on_initiation_sent(START)
    timers.on_response_sent(START + 4)
    assert timers.next_deadline() == START + 9  # the retry
    timers.on_data_queued(START + 4.5)
    timers.on_response_sent(START + 5)
    assert timers.due(START + 9.999) == []
    assert timers.next_deadline() == START + 10
    timers.on_handshake_complete(START + 8.999, is_initiator=False)
    assert run(timers, START + 100) == []


# Rekeying


def test_the_initiator_rekeys_when_it_sends_at_120_s() -> None:
    assert answer(with_session(), START + 119.9) == []
    assert answer(with_session(), START + 120) == [INITIATE]


def test_a_keepalive_sent_at_120_s_rekeys_as_well() -> None:
    timers = with_session()
    timers.on_keepalive_sent(START + 119.9)
    assert timers.due(START + 119.9) == []
    timers.on_keepalive_sent(START + 120)
    assert timers.due(START + 120) == [INITIATE]


def test_the_responder_does_not_rekey_by_age() -> None:
    timers = with_session(is_initiator=False)
    assert answer(timers, START + 120) == []
    timers.on_data_received(START + 170)
    assert INITIATE not in timers.due(START + 170)


@pytest.mark.parametrize("is_data", [True, False])
def test_the_initiator_rekeys_when_it_receives_at_165_s_once(is_data: bool) -> None:
    timers = with_session()
    receive = timers.on_data_received if is_data else timers.on_keepalive_received
    receive(START + 164.9)
    assert timers.due(START + 164.9) == []
    receive(START + 165)
    assert timers.due(START + 165) == [INITIATE]
    receive(START + 171)
    assert run(timers, START + 170.5) == [(170.0, INITIATE)]  # the retry alone
    assert timers.due(START + 171) == []


def test_either_side_rekeys_after_2_to_the_60_messages() -> None:
    for is_initiator in (True, False):
        timers = with_session(is_initiator=is_initiator)
        timers.on_data_sent(START + 6, counter=2**60 - 1)
        assert timers.due(START + 6) == []
        timers.on_data_sent(START + 7, counter=2**60)
        assert timers.due(START + 7) == [INITIATE]


@pytest.mark.parametrize("is_initiator", [True, False])
def test_either_side_rekeys_when_three_quarters_of_its_blocks_are_sealed(
    is_initiator: bool,
) -> None:
    timers = with_session(is_initiator=is_initiator)
    timers.on_data_sent(START + 20, 9, 3 * 2**32 - 1)
    assert timers.due(START + 20) == []
    timers.on_data_sent(START + 21, 9, 3 * 2**32)
    assert timers.due(START + 21) == [INITIATE]


def test_the_last_sessions_blocks_do_not_rekey_the_new_one() -> None:
    timers = with_session()
    timers.on_data_sent(START + 4, 9, 3 * 2**32)
    assert timers.due(START + 4) == []
    timers.on_data_sent(START + 5, 9, 3)
    assert timers.due(START + 5) == []


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


def test_data_that_nothing_answers_for_15_s_asks_for_a_handshake() -> None:
    timers = with_session()
    timers.on_data_sent(START + 10)
    timers.on_data_sent(START + 20)  # does not put it off
    assert timers.due(START + 24.9) == []
    assert timers.due(START + 25) == [INITIATE]


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
    assert timers.next_deadline() == START + 15.25


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
