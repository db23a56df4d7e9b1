"""One peer's timers by a fake clock: each rule of the whitepaper's section 6, at its second."""

from __future__ import annotations

import pytest

from fastun.session.timer_constants import TimerConstants
from fastun.session.timers import PAUSE_MIN_S, PeerTimers
from tests.support.peer_timers import (
    GIVE_UP,
    INITIATE,
    START,
    answer,
    kinds,
    quiet,
    run,
    with_session,
)


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
    assert constants.dead_after_s == 12  # ours: the whitepaper waits for 15
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
        assert timers.due(START + 1.9) == []


def test_on_a_path_in_doubt_the_first_handshakes_follow_sooner_until_one_is_answered() -> None:
    timers = with_session()
    timers.on_path_doubted(START + 10)
    assert run(timers, START + 24) == [(at, INITIATE) for at in (10, 11, 13, 18, 23)]
    timers.on_path_doubted(START + 30)
    assert timers.due(START + 30) == [INITIATE]
    timers.on_handshake_complete(START + 31, is_initiator=True)
    timers.on_keepalive_sent(START + 31)
    timers.on_initiation_sent(START + 40)
    assert timers.due(START + 44) == []


def test_workers_that_die_in_one_instant_ask_for_initiations_that_a_responder_takes() -> None:
    timers = with_session()
    done = []
    for at_s in (START + 10, START + 10.001, START + 10.002):
        timers.on_keys_lost()
        timers.on_data_queued(at_s)
        done += [(at_s, action) for action in timers.due(at_s)]
    assert done == [(START + 10, INITIATE)]
    assert run(timers, START + 12) == [(10.0 + PAUSE_MIN_S, INITIATE)]


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
    timers.on_handshake_complete(START + 8.999, is_initiator=False)
    assert run(timers, START + 100) == []


def test_responses_that_the_peer_does_not_get_put_an_initiation_off_only_once() -> None:
    timers = quiet()
    timers.on_initiation_sent(START)
    for second in (4, 8.5, 13, 17.5):
        timers.on_response_sent(START + second)
    assert run(timers, START + 20) == [(9.0, INITIATE), (14.0, INITIATE), (19.0, INITIATE)]


def test_a_peer_that_asks_again_did_not_get_our_response_so_we_ask_as_well() -> None:
    timers = with_session(is_initiator=False)
    timers.on_response_sent(START + 100)
    assert timers.due(START + 105.2) == []
    timers.on_response_sent(START + 105.2)
    assert timers.due(START + 105.2) == [INITIATE]
    timers.on_response_sent(START + 110.4)
    assert timers.due(START + 110.2) == [INITIATE]


def test_a_response_of_long_ago_says_nothing_about_the_path() -> None:
    timers = with_session(is_initiator=False)
    timers.on_response_sent(START + 100)
    timers.on_response_sent(START + 115)
    assert run(timers, START + 130) == []


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
