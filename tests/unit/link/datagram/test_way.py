"""When a further lane of a peer on UDP carries: by what was sent, what was heard, and the load."""

from __future__ import annotations

from fastun.link.datagram.way import (
    ASK_AFTER_S,
    ASK_EVERY_S,
    KEPT_FROM_PER_S,
    KEPT_S,
    OPENED_AT_PER_S,
    SILENT_S,
    UNANSWERED_S,
    UNHEARD_S,
    Load,
    Step,
    Traffic,
    WayLife,
)

LOOK_S = 0.5
N_MAX = 4


class Dialling:
    """A way of the dialling side that has just been proven, in a simulation of looks."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.life = WayLife()
        self.life.begin()
        self.sent_s = self.heard_s = self.now_s
        self.sent_data_s = 0.0
        self.is_wanted = True
        self.does_answer = True

    def look(self, *, sends: bool = False) -> Step | None:
        self.now_s += LOOK_S
        if sends:
            self.sent_s = self.sent_data_s = self.now_s - 0.1
        traffic = Traffic(self.sent_s, self.sent_data_s, self.heard_s, 0.0)
        steps = self.life.steps(self.now_s, traffic, dials=True, is_wanted=self.is_wanted)
        assert len(steps) <= 1
        for step in steps:
            if step is Step.ASK:
                self.sent_s = self.now_s
                self.heard_s = self.now_s + 0.1 if self.does_answer else self.heard_s
            elif step is Step.REST:
                self.life.rest(self.now_s)
            else:
                self.life.begin()
            return step
        return None

    def looks(self, seconds: float, *, sends: bool = False) -> list[Step | None]:
        return [self.look(sends=sends) for _ in range(round(seconds / LOOK_S))]


def test_an_idle_way_that_is_wanted_is_asked_so_often_that_it_stays_mapped() -> None:
    way = Dialling()
    steps = way.looks(60)
    assert steps.count(Step.ASK) >= 60 / (ASK_EVERY_S + LOOK_S) - 1
    assert set(steps) == {Step.ASK, None}
    assert way.life.is_carrying


def test_what_is_sent_without_an_answer_is_asked_about_and_an_answer_is_enough() -> None:
    way = Dialling()
    steps = way.looks(60, sends=True)
    assert Step.REST not in steps
    assert steps.count(Step.ASK) >= 60 / (ASK_AFTER_S + 3 * LOOK_S) - 1


def test_a_way_without_answers_rests_and_carries_again_when_it_is_answered() -> None:
    way = Dialling()
    way.does_answer = False
    steps = way.looks(UNANSWERED_S + 2 * LOOK_S, sends=True)
    assert Step.REST in steps
    assert not way.life.is_carrying
    assert set(way.looks(30, sends=False)) == {Step.ASK, None}
    way.does_answer = True
    assert Step.CARRY in way.looks(ASK_EVERY_S + 2 * LOOK_S)
    assert way.life.is_carrying


def test_an_idle_way_without_answers_rests_after_silence() -> None:
    way = Dialling()
    way.does_answer = False
    steps = way.looks(SILENT_S + LOOK_S)
    assert steps.index(Step.REST) >= (SILENT_S - LOOK_S) / LOOK_S - 1
    assert Step.CARRY not in way.looks(30)


def test_old_news_prove_nothing() -> None:
    """What was heard before the way rested, or before it was asked since, is no proof."""
    way = Dialling()
    way.is_wanted = False
    assert way.look() is Step.REST
    way.heard_s = way.now_s + 1  # what was under way still arrives
    way.now_s += 2
    way.is_wanted = True
    way.does_answer = False
    assert way.look() is Step.ASK
    assert way.look() is None
    way.heard_s = way.now_s
    assert way.look() is Step.CARRY


def test_a_way_that_is_not_wanted_rests_at_once_and_is_left_alone() -> None:
    way = Dialling()
    way.is_wanted = False
    assert way.looks(60) == [Step.REST, *[None] * 119]


def test_what_an_idle_way_is_asked_by_is_heard_also_where_one_is_lost() -> None:
    assert 2 * (ASK_EVERY_S + LOOK_S) < UNHEARD_S < SILENT_S


def test_the_serving_side_answers_what_got_no_answer_and_rests_after_silence() -> None:
    life = WayLife()

    def look(now_s: float, sent_s: float, heard_s: float, *, is_wanted: bool = True) -> list[Step]:
        traffic = Traffic(sent_s, 0.0, heard_s, 0.0)
        steps = life.steps(now_s, traffic, dials=False, is_wanted=is_wanted)
        for step in steps:
            if step is Step.CARRY:
                life.begin()
            elif step is Step.REST:
                life.rest(now_s)
        return list(steps)

    assert look(100, 0, 100) == [Step.CARRY, Step.ASK]
    assert look(101, 100.5, 100) == []
    assert look(101, 100.5, 100.9) == [Step.ASK]
    assert look(100.8 + UNHEARD_S, 101, 100.9) == []
    assert look(100.9 + UNHEARD_S, 101, 100.9) == [Step.REST]
    assert look(200, 101, 100.9) == []
    assert look(200, 101, 199.9) == [Step.CARRY, Step.ASK]
    assert look(201, 200, 199.9, is_wanted=False) == [Step.REST]
    assert look(202, 200, 201.9, is_wanted=False) == [Step.ASK]


# -- load -------------------------------------------------------------------------------------


def always() -> bool:
    return True


def test_no_lane_is_opened_that_is_not_worth_it_and_an_open_one_stays() -> None:
    load, is_idle, asked = Load(), [False], 0

    def is_worth() -> bool:
        nonlocal asked
        asked += 1
        return is_idle[0]

    load.look(0, 0.0, N_MAX, is_worth)
    per_look = round(100 * OPENED_AT_PER_S * LOOK_S)
    assert load.look(per_look, LOOK_S, N_MAX, is_worth) == 1
    is_idle[0] = True
    assert load.look(2 * per_look, 2 * LOOK_S, N_MAX, is_worth) == 2
    is_idle[0] = False
    assert load.look(3 * per_look, 3 * LOOK_S, N_MAX, is_worth) == 2
    assert asked == 3
    assert load.look(3 * per_look + 1, 4 * LOOK_S, N_MAX, is_worth) == 2
    assert asked == 3  # without load the cores are not looked at


def test_lanes_are_opened_one_at_a_time_by_load_and_let_go_together() -> None:
    load, now_s, n_packets = Load(), 100.0, 0

    def look(per_s: float) -> int:
        nonlocal now_s, n_packets
        now_s += LOOK_S
        n_packets += round(per_s * LOOK_S)
        return load.look(n_packets, now_s, N_MAX, always)

    assert load.look(n_packets, now_s, N_MAX, always) == 1
    assert [look(OPENED_AT_PER_S - 10) for _ in range(5)] == [1] * 5
    assert [look(1.5 * OPENED_AT_PER_S) for _ in range(5)] == [2] * 5
    assert [look(100 * OPENED_AT_PER_S) for _ in range(5)] == [3, 4, 4, 4, 4]
    assert {look(KEPT_FROM_PER_S) for _ in range(200)} == {4}
    n_kept = round(KEPT_S / LOOK_S)
    assert [look(0) for _ in range(n_kept)] == [*[4] * (n_kept - 1), 1]


def test_packets_from_before_the_first_look_are_no_load() -> None:
    assert Load().look(10**9, 5.0, N_MAX, always) == 1


def test_a_peer_with_fewer_lanes_from_now_on_has_no_more() -> None:
    load = Load(n_lanes=N_MAX)
    load.look(0, 100.0, N_MAX, always)
    load.n_lanes = N_MAX
    assert load.look(round(10 * OPENED_AT_PER_S), 110.0, 2, always) == 2
