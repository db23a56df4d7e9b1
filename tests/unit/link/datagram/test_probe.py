"""The search for a path's MTU, with a clock of our own and paths that swallow what is too long."""

from __future__ import annotations

from dataclasses import dataclass, field
from ipaddress import ip_address

import msgpack
import pytest

from fastun.link import hello
from fastun.link.datagram import probe
from fastun.link.datagram.probe import AGAIN_S, SILENT_AGAIN_S, PathSearch, Probe, Probed
from fastun.native import UdpAddress

HERE = UdpAddress(ip_address("192.0.2.1"), 51820)
THERE = UdpAddress(ip_address("192.0.2.1"), 51821)
TICK_S = 0.5


@dataclass
class Path:
    """A path of some MTU to a peer that answers at once, and what it was asked."""

    mtu: int
    search: PathSearch = field(default_factory=PathSearch)
    now_s: float = 1000.0
    asked: list[int] = field(default_factory=list)
    n_lost: int = 0  # of the next questions, whatever their size

    def tick(self) -> None:
        """One turn of the event loop: ask until a question is not answered."""
        while size := self.search.due(self.now_s):
            self.asked.append(size)
            self.search.on_asked(self.now_s)
            self.n_lost -= 1
            if size > self.mtu or self.n_lost >= 0:
                break
            self.search.on_answer(size, self.now_s)
        self.now_s += TICK_S

    def run(self, seconds: float) -> None:
        until_s = self.now_s + seconds
        while self.now_s < until_s:
            self.tick()

    def take_asked(self) -> list[int]:
        asked, self.asked = self.asked, []
        return asked


def path(mtu: int, longest: int = 1500) -> Path:
    made = Path(mtu)
    made.search.follow(HERE, longest)
    return made


# -- what is asked ----------------------------------------------------------------------------


def test_a_wide_path_costs_one_question_in_ten_minutes() -> None:
    wide = path(1500)
    wide.run(AGAIN_S - 1)
    assert wide.take_asked() == [1500]
    assert wide.search.limit == 0
    wide.run(2)
    assert wide.take_asked() == [1500]


@pytest.mark.parametrize(
    ("mtu", "limit"),
    [(1280, 1280), (1281, 1280), (1399, 1380), (1400, 1400), (1492, 1492), (1499, 1492)],
)
def test_a_narrow_path_is_found_within_seven_seconds(mtu: int, limit: int) -> None:
    narrow = path(mtu)
    narrow.run(7)
    assert narrow.search.limit == limit
    narrow.take_asked()
    narrow.run(AGAIN_S - 10)
    assert narrow.asked == []


def test_each_size_is_asked_for_three_times_a_second_apart() -> None:
    narrow = path(1300)
    times: list[tuple[float, int]] = []
    for _ in range(40):
        n_before = len(narrow.asked)
        narrow.tick()
        times += [(narrow.now_s - TICK_S - 1000, size) for size in narrow.asked[n_before:]]
    assert times == [
        *((0, 1500), (1, 1500), (2, 1500)),
        (3, 1280),
        *((3, 1340), (4, 1340), (5, 1340)),
    ]


def test_senders_inside_learn_nothing_before_the_search_has_ended() -> None:
    narrow = path(1460)
    while not narrow.search.limit:
        narrow.tick()
        assert narrow.search.limit in (0, 1460)


@pytest.mark.parametrize("longest", [1480, 1440, 1300])
def test_nothing_longer_is_asked_for_than_data_can_be(longest: int) -> None:
    narrow = path(1280, longest)
    narrow.run(30)
    assert max(narrow.asked) == longest
    assert narrow.search.limit == 1280


# -- losses and changes -----------------------------------------------------------------------


@pytest.mark.parametrize("n_lost", [1, 2, 3, 4, 5])
def test_a_pause_of_the_network_does_not_narrow_a_wide_path(n_lost: int) -> None:
    wide = path(1500)
    wide.n_lost = n_lost
    wide.run(20)
    assert wide.asked[-1] == 1500
    assert wide.search.limit == 0


def test_a_silent_path_is_left_as_it_is_and_tried_again_after_a_minute() -> None:
    silent = path(0)
    silent.run(SILENT_AGAIN_S)
    assert silent.take_asked() == [1500] * 3 + [1280] * 3
    assert silent.search.limit == 0
    silent.mtu = 1400
    silent.run(20)
    assert silent.search.limit == 1400


def test_a_path_of_the_least_mtu_is_asked_for_that_only() -> None:
    least = path(1279, 1280)
    least.run(30)
    assert least.asked == [1280] * 3
    assert least.search.limit == 0


@pytest.mark.parametrize("later", [1500, 1450, 1280])
def test_a_path_that_has_changed_is_known_ten_minutes_later(later: int) -> None:
    changing = path(1400)
    changing.run(10)
    changing.mtu = later
    changing.run(AGAIN_S - 10)
    assert changing.search.limit == 1400
    changing.run(15)
    assert changing.search.limit == (0 if later == 1500 else later)


def test_a_narrow_path_that_falls_silent_stays_narrow() -> None:
    narrow = path(1400)
    narrow.run(10)
    narrow.mtu = 0
    narrow.run(2 * AGAIN_S)
    assert narrow.search.limit == 1400


def test_a_peer_that_moves_is_searched_for_anew() -> None:
    moving = path(1400)
    moving.run(10)
    moving.mtu = 1500
    moving.search.follow(HERE, 1500)  # no news
    moving.run(10)
    assert moving.search.limit == 1400
    moving.search.follow(THERE, 1500)
    assert moving.search.limit == 0
    moving.take_asked()
    moving.run(10)
    assert moving.asked == [1500]


def test_what_the_kernel_learns_begins_a_search_and_undoes_nothing() -> None:
    narrow = path(1400)
    narrow.run(10)
    narrow.search.follow(HERE, 1480)
    assert narrow.search.limit == 1400
    narrow.take_asked()
    narrow.run(10)
    assert narrow.asked[0] == 1480
    assert narrow.search.limit == 1400


# -- hints ------------------------------------------------------------------------------------


@dataclass
class HintedPath(Path):
    """Asked as by the gateway: a companion behind each question, and at its own pace if quick."""

    n_companions_lost: int = 0

    def tick(self) -> None:
        size = self.search.due(self.now_s)
        if size:
            sizes = [size, *filter(None, [self.search.companion])]
            self.asked += sizes
            self.search.on_asked(self.now_s)
            for each in sizes:
                is_lost = each > self.mtu or self.n_lost > 0
                self.n_lost -= 1
                if len(sizes) > 1 and each == sizes[1] and self.n_companions_lost > 0:
                    self.n_companions_lost -= 1
                    is_lost = True
                if not is_lost:
                    self.search.on_answer(each, self.now_s + 0.001)
        wait_s = self.search.wait_s(self.now_s)
        self.now_s += TICK_S if wait_s is None else max(wait_s, 0.001)


def hinted(mtu: int, hint: int, *, is_verified: bool = True) -> HintedPath:
    """A path that was wide, has got narrower, and of which a hint says so."""
    made = HintedPath(1500)
    made.search.follow(HERE, 1500)
    made.run(2)
    made.take_asked()
    made.mtu = mtu
    made.is_begun = made.search.on_hint(hint, made.now_s, is_verified=is_verified)  # type: ignore[attr-defined]
    return made


@pytest.mark.parametrize("mtu", [576, 1000, 1280, 1300, 1399, 1400, 1492, 1499])
def test_a_verified_hint_that_is_true_is_followed_within_half_a_second(mtu: int) -> None:
    narrow = hinted(mtu, mtu)
    began_s = last_s = narrow.now_s
    while not narrow.search.limit:
        last_s = narrow.now_s
        narrow.tick()
    assert narrow.search.limit == mtu
    assert last_s - began_s < 0.5
    assert narrow.asked[0] == mtu, "the size of the hint is asked for first"


@pytest.mark.parametrize("is_verified", [False, True])
@pytest.mark.parametrize("hint", [0, 1, 552, 576, 1280, 1400, 1499])
def test_a_hint_that_is_false_costs_three_questions_and_changes_nothing(
    hint: int, is_verified: bool
) -> None:
    wide = hinted(1500, hint, is_verified=is_verified)
    for _ in range(100):
        wide.tick()
        wide.search.on_hint(hint, wide.now_s, is_verified=is_verified)
        assert wide.search.limit == 0
    n_searches = 1 + 50 // probe.DEAF_S
    assert len(wide.asked) <= 3 * n_searches


def test_a_hint_that_says_less_than_is_true_does_not_decide() -> None:
    narrow = hinted(1400, 1000)
    narrow.run(3)
    assert narrow.search.limit == 1400


def test_a_hint_that_says_more_than_is_true_is_followed_by_a_search_from_the_top() -> None:
    narrow = hinted(1300, 1450)
    narrow.run(10)
    assert narrow.search.limit == 1280


def test_a_second_router_may_say_less_while_the_first_hint_is_searched() -> None:
    narrow = hinted(1300, 1450)
    narrow.tick()
    assert narrow.search.on_hint(1300, narrow.now_s, is_verified=True)
    narrow.run(1)
    assert narrow.search.limit == 1300


def test_a_verified_hint_does_not_wait_for_the_search_of_one_that_is_not() -> None:
    narrow = hinted(1400, 600, is_verified=False)
    narrow.tick()
    assert narrow.search.on_hint(1400, narrow.now_s, is_verified=True)
    narrow.run(1)
    assert narrow.search.limit == 1400


@pytest.mark.parametrize(("false_hint", "mtu"), [(600, 1500), (1450, 1300)])
def test_what_a_stranger_has_made_up_keeps_no_verified_hint_from_being_followed_at_once(
    false_hint: int, mtu: int
) -> None:
    changing = hinted(mtu, false_hint, is_verified=False)
    changing.run(4)
    changing.mtu = 1290
    assert changing.search.on_hint(1290, changing.now_s, is_verified=True)
    changing.run(0.5)
    assert changing.search.limit == 1290


def test_a_hint_that_is_not_verified_interrupts_no_search() -> None:
    wide = path(1500)
    assert not wide.search.on_hint(1400, wide.now_s, is_verified=False)
    wide.run(1)
    assert wide.take_asked() == [1500]


def test_a_path_that_is_narrower_without_its_hint_being_verified_is_found_all_the_same() -> None:
    narrow = hinted(1400, 1300, is_verified=False)
    narrow.run(10)
    assert narrow.search.limit == 1400


@pytest.mark.parametrize("n_lost", range(1, 12))
def test_a_pause_of_the_network_after_a_false_hint_narrows_nothing(n_lost: int) -> None:
    wide = hinted(1500, 1280)
    wide.tick()  # the hinted size arrives, and then nothing does
    wide.n_lost = n_lost
    wide.run(20)
    assert wide.search.limit == 0


def test_what_is_lost_together_with_its_companion_is_not_too_long() -> None:
    wide = hinted(1499, 1280)
    wide.tick()
    wide.n_companions_lost = 5
    for _ in range(5):
        wide.tick()
        assert wide.asked[-2:] == [1500, 1280]


def test_hints_of_what_is_known_are_not_searched_for() -> None:
    narrow = hinted(1400, 1400)
    narrow.run(1)
    for size in (1400, 1450, 1500, 4000):
        assert not narrow.search.on_hint(size, narrow.now_s, is_verified=True)
    narrow.mtu = 1300
    assert narrow.search.on_hint(1300, narrow.now_s, is_verified=True)
    narrow.run(1)
    assert narrow.search.limit == 1300


# -- answers ----------------------------------------------------------------------------------


def test_an_answer_that_comes_late_still_counts() -> None:
    late = path(0)
    late.run(4)
    assert late.asked[-1] == 1280
    late.search.on_answer(1500, late.now_s)
    late.take_asked()
    late.run(10)
    assert late.asked == []
    assert late.search.limit == 0


@pytest.mark.parametrize("size", [0, 1280, 1499, 1501, 4096, -1])
def test_an_answer_to_nothing_that_is_asked_changes_nothing(size: int) -> None:
    asking = path(0)
    asking.tick()
    asking.search.on_answer(size, asking.now_s)
    asking.run(1)
    assert asking.asked == [1500, 1500]
    ended = path(1500)
    ended.tick()
    ended.search.on_answer(size, ended.now_s)
    assert ended.search.limit == 0


# -- on the wire ------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [probe.LONGEST - 48, 1472, 1432, 1232, 576])
def test_a_question_makes_a_datagram_of_its_length_and_its_answer_is_short(size: int) -> None:
    message = probe.question(size)
    assert len(message) + 32 == size
    heard = probe.decode(message)
    assert isinstance(heard, Probe)
    answer = probe.answer(heard)
    assert probe.decode(answer) == Probed(size)
    assert len(answer) < 32


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"probe": 40, "padding": bytes(20)}, id="a short question"),
        pytest.param({"probe": 1472, "padding": b""}, id="a question that claims to be longer"),
        pytest.param({"probe": 600, "padding": bytes(900)}, id="or shorter"),
        pytest.param({"probe": 1472}, id="no padding"),
        pytest.param({"probe": "1472", "padding": bytes(1400)}, id="text"),
        pytest.param({"probed": "1472"}, id="an answer of text"),
        pytest.param({"probed": 1472, "probe": 1472}, id="both"),
        pytest.param({"probed": -(2**63)} | {"more": 1}, id="more"),
        pytest.param([1, 2], id="a list"),
        pytest.param(7, id="a number"),
    ],
)
def test_what_is_not_as_it_says_is_not_a_probe(body: object) -> None:
    assert probe.decode(hello.TYPE + msgpack.packb(body)) is None


def test_a_hello_is_not_a_probe_nor_a_probe_a_hello() -> None:
    said = hello.Hello(version=1, software="", mode="tun", offload=(), message_max=2000)
    assert probe.decode(hello.encode(said)) is None
    for message in (probe.question(1400), probe.answer(Probe(1400, b""))):
        with pytest.raises(hello.HelloError):
            hello.decode(message)
    assert probe.decode(hello.TYPE) is None
    assert probe.decode(hello.TYPE + b"\x91" * 2000) is None
