"""What `fastun top` makes of what a gateway says: rates, the bottleneck, and frames that fit."""

from __future__ import annotations

import msgspec
import pytest
from rich.text import Text

from fastun.native import ROLES
from fastun.status.reply import (
    Direction,
    LaneStatus,
    Links,
    LinkStatus,
    PeerStatus,
    Stage,
    Status,
)
from fastun.top.frame import bit_rate, count, frame, shortened
from fastun.top.rates import BOTTLENECK_FROM, WINDOW_S, History, Snapshot

COLUMNS, ROWS = 80, 24
STARTED = 1_000_000.0
LONGEST_REMOTE = "[2001:db8:1234:5678:9abc:def0:1234:5678]:55555"


def stage(role: str, **changes: object) -> Stage:
    plain = Stage(
        role=role,  # type: ignore[arg-type]
        pid=1,
        up=True,
        state="idle",
        restarts=0,
        cpu_seconds=0.0,
        packets=0,
        frames=0,
        bytes=0,
        drops={},
    )
    return msgspec.structs.replace(plain, **changes)


def peer(name: str, **changes: object) -> PeerStatus:
    plain = PeerStatus(
        name=name,
        inner_addresses=[],
        up=False,
        remote=None,
        since_unix_seconds=None,
        last_handshake_unix_seconds=None,
        receive_packets=0,
        receive_bytes=0,
        transmit_packets=0,
        transmit_bytes=0,
        dropped_packets=0,
        link=None,
    )
    return msgspec.structs.replace(plain, **changes)


def connected(name: str, remote: str = "192.0.2.7:51820", **changes: object) -> PeerStatus:
    link = LinkStatus(
        software="fastun",
        transport="udp",
        super_packets_outbound=True,
        super_packets_inbound=True,
        tcp=None,
    )
    up = peer(name, up=True, remote=remote, link=link, last_handshake_unix_seconds=STARTED)
    return msgspec.structs.replace(up, **changes)


def status(
    peers: list[PeerStatus] | None = None, ring_used_bytes: int = 0, **stages: dict[str, object]
) -> Status:
    """A gateway whose stages (with _ for -) differ from idle ones by what is given."""
    found = {role: stage(role, **stages.get(role.replace("-", "_"), {})) for role in ROLES}

    def direction(reader: str, writer: str) -> Direction:
        return Direction(
            reader=found[reader],
            ring_used_bytes=ring_used_bytes,
            ring_capacity_bytes=2**21,
            writer=found[writer],
        )

    return Status(
        version="0.1.0",
        pid=1,
        role="serve",
        interface="ft0",
        mode="tun",
        wire="wireguard",
        addresses=[],
        mtu_bytes=1420,
        started_unix_seconds=STARTED,
        listen=[],
        endpoint=None,
        metrics=None,
        peers=[connected("ant")] if peers is None else peers,
        links=Links(established=1, reconnects=0, refused=0, hello_failures=0),
        lanes=[
            LaneStatus(
                lane=0,
                outbound=direction("tun-reader", "link-writer"),
                inbound=direction("link-reader", "tun-writer"),
            )
        ],
    )


def history(*statuses: Status, interval_s: float = 1.0) -> History:
    made = History(Snapshot(0.0, statuses[0]))
    for number, each in enumerate(statuses[1:], start=1):
        made.add(Snapshot(number * interval_s, each))
    return made


def shown(made: History, rows: int | None = ROWS, columns: int = COLUMNS) -> list[str]:
    lines: list[Text] = frame(made, columns, rows, STARTED + 100)
    return [line.plain for line in lines]


def line_of(lines: list[str], start: str) -> str:
    (found,) = (line for line in lines if line.strip().startswith(start))
    return found


# -- rates ------------------------------------------------------------------------------------


def test_rates_are_differences_by_the_time_between_two_looks() -> None:
    before = status(tun_reader={"packets": 1000, "frames": 100, "bytes": 10**6, "cpu_seconds": 5.0})
    after = status(
        tun_reader={"packets": 3000, "frames": 300, "bytes": 3 * 10**6, "cpu_seconds": 6}
    )
    rates = history(before, after, interval_s=2.0).stages()["tun-reader"]
    assert (rates.packets, rates.frames, rates.bits) == (1000, 100, 8e6)
    assert rates.cpu_share == 0.5


def test_rates_are_those_since_the_last_frame() -> None:
    made = history(status(), status(tun_writer={"packets": 500}))
    made.mark_shown()
    made.add(Snapshot(3.0, status(tun_writer={"packets": 700})))
    assert made.stages()["tun-writer"].packets == 100


def test_only_reasons_with_drops_count_and_those_that_grow_come_first() -> None:
    before = status(tun_reader={"drops": {"no_peer": 90, "not_ip": 0, "exceeds_path_mtu": 5}})
    after = status(tun_reader={"drops": {"no_peer": 90, "not_ip": 0, "exceeds_path_mtu": 15}})
    drops = [(drop.reason, drop.total, drop.packets) for drop in history(before, after).drops()]
    assert drops == [("exceeds_path_mtu", 15, 10), ("no_peer", 90, 0)]


def test_peers_are_in_the_order_of_their_traffic_the_connected_first() -> None:
    before = [peer("gone"), connected("calm"), connected("busy"), connected("also")]
    after = [
        peer("gone", transmit_bytes=10**9),
        connected("calm", receive_bytes=1000),
        connected("busy", transmit_bytes=3000),
        connected("also", receive_bytes=1000),
    ]
    rates = history(status(before), status(after)).peers()
    assert [each.peer.name for each in rates] == ["busy", "also", "calm", "gone"]
    assert (rates[0].receive_bits, rates[0].transmit_bits) == (0, 24000)


def test_a_peer_that_is_new_or_was_counted_anew_has_no_rate() -> None:
    before = [connected("changed", receive_bytes=10**6)]
    after = [connected("changed", receive_bytes=10), connected("new", receive_bytes=10**6)]
    assert {each.receive_bits for each in history(status(before), status(after)).peers()} == {0}


def test_what_is_older_than_the_window_is_forgotten_but_two_looks() -> None:
    looks = [status(tun_reader={"state": "busy"}), *(status() for _ in range(int(WINDOW_S) + 1))]
    assert history(*looks).stages()["tun-reader"].busy_share == 0
    slept = history(status(), status(), interval_s=10 * WINDOW_S)
    assert slept.bottleneck() is None
    assert slept.stages()["tun-reader"].packets == 0


# -- the bottleneck ---------------------------------------------------------------------------


@pytest.mark.parametrize("role", ROLES)
def test_the_stage_that_is_always_busy_is_the_bottleneck_and_its_words_say_why(role: str) -> None:
    slow = status(**{role.replace("-", "_"): {"state": "busy"}})
    made = history(*[slow] * 4)
    found = made.bottleneck()
    assert found is not None
    assert (found.name, found.share) == (role, 1)
    (_, said, *_) = shown(made)
    assert said.startswith(f"bottleneck  {role}, 100 % of the last 3 s: ")
    assert len(said) < COLUMNS


def test_a_stage_that_takes_a_whole_processor_is_it_whatever_its_state() -> None:
    looks = [status(link_reader={"cpu_seconds": seconds}) for seconds in (0.0, 0.9, 1.8)]
    found = history(*looks).bottleneck()
    assert found is not None
    assert (found.name, found.share) == ("link-reader", pytest.approx(0.9))


@pytest.mark.parametrize(
    ("peers", "words"),
    [([connected("ant")], "the link is full"), ([peer("ant")], "no peer is connected")],
)
def test_a_link_writer_that_is_blocked_means_the_network(
    peers: list[PeerStatus], words: str
) -> None:
    stages = {"link_writer": {"state": "blocked"}, "tun_reader": {"state": "blocked"}}
    made = history(*[status(peers, **stages)] * 3)  # type: ignore[arg-type]
    assert shown(made)[1] == f"bottleneck  network, 100 % of the last 2 s: {words}"


def test_a_stage_that_is_busy_now_and_then_is_not_a_bottleneck() -> None:
    busy, idle = status(tun_writer={"state": "busy"}), status()
    made = history(busy, idle, busy, idle, busy)
    assert made.stages()["tun-writer"].busy_share == 0.6 < BOTTLENECK_FROM
    assert made.bottleneck() is None
    assert shown(made)[1] == "bottleneck  none (every stage keeps up)"


# -- frames -----------------------------------------------------------------------------------


def widest() -> Status:
    """All numbers and names as long as they get."""
    huge = {
        "packets": 10**7,
        "frames": 10**7,
        "bytes": 10**10,
        "cpu_seconds": 1.0,
        "restarts": 99_999,
        "state": "busy",
    }
    drops = {f"reason_of_17chars{n}"[-17:]: 10**12 for n in range(9)}
    stages = {role.replace("-", "_"): huge | {"drops": drops} for role in ROLES}
    peers = [
        connected(
            f"{n:04}" + 60 * "n",
            LONGEST_REMOTE,
            receive_bytes=10**10,
            transmit_bytes=10**10,
            dropped_packets=10**10 - 1,
        )
        for n in range(40)
    ]
    made = status(peers, 2**21, **stages)  # type: ignore[arg-type]
    return msgspec.structs.replace(made, interface="i" * 15, started_unix_seconds=0.0)


def narrow_of(wide: Status) -> Status:
    peers = [connected(each.name) for each in wide.peers]
    return status(peers)


def test_the_fullest_frame_fits_a_terminal_of_80_columns_and_24_rows() -> None:
    lines = shown(history(narrow_of(widest()), widest()))
    assert len(lines) == ROWS
    assert max(map(len, lines)) <= COLUMNS
    assert all(line.isascii() for line in lines)
    assert line_of(lines, "... and 32 more reasons")
    assert lines[-1].startswith("... and ")
    # Nothing ran into its neighbour: every row has the cells of its heading.
    assert line_of(lines, "tun-reader 10,000,000").split()[1:] == [
        *("10,000,000", "80.0", "Gbit", "10,000,000", "100", "%", "50", "%", "0", "%", "99,999"),
    ]
    row = next(line for line in lines if line.startswith("0000")).split()
    assert row[0].startswith("0000n")
    assert row[0].endswith("n")
    assert row[1] == "udp"
    assert row[2].startswith("[2001:db8")
    assert row[2].endswith(":55555")
    assert row[3:] == ["80.0", "Gbit", "80.0", "Gbit", "100", "s", "10,000", "M"]


@pytest.mark.parametrize("n_down", [0, 1, 4, 5, 30, 1000])
def test_as_many_peers_as_fit_and_the_rest_is_counted(n_down: int) -> None:
    peers = [connected("ant"), *(peer(f"absent{n}") for n in range(n_down))]
    lines = shown(history(status(peers), status(peers)))
    assert len(lines) <= ROWS
    assert line_of(lines, f"peers, 1 of {n_down + 1} connected")
    n_shown = sum(line.startswith(("ant ", "absent")) for line in lines)
    if n_shown < n_down + 1:
        assert len(lines) == ROWS  # none is left out while there is a row for it
        assert lines[-1] == f"... and {n_down + 1 - n_shown} more, 0 connected"
    else:
        assert lines[-1].startswith(("ant", "absent"))


def test_without_a_terminals_height_all_are_there() -> None:
    wide = widest()
    lines = shown(history(narrow_of(wide), wide), rows=None)
    assert sum("[2001:db8" in line for line in lines) == 40
    assert not any("more" in line for line in lines)


@pytest.mark.parametrize(("columns", "rows"), [(40, 10), (10, 3), (1, 1), (300, 100)])
def test_a_terminal_of_another_size_is_not_a_failure(columns: int, rows: int) -> None:
    lines = shown(history(narrow_of(widest()), widest()), rows, columns)
    assert len(lines) <= rows
    assert max(map(len, lines)) <= columns


def test_a_stage_that_is_down_a_full_ring_and_a_restart_show() -> None:
    made = status(ring_used_bytes=2**21, tun_writer={"up": False, "restarts": 3})
    lines = shown(history(made, made))
    assert line_of(lines, "tun-writer").split() == ["tun-writer", "DOWN", "3"]
    rings = [line for line in lines if line.startswith("    ring ")]
    assert len(rings) == 2
    assert all(line.endswith(f"[{40 * '#'}] 100 % of 2 MiB") for line in rings)


def test_the_unsealed_wires_have_no_handshakes() -> None:
    made = msgspec.structs.replace(status(), wire="plain")
    assert not any("handshake" in line for line in shown(history(made, made)))


def test_a_remote_with_an_escape_in_it_stays_text() -> None:
    made = status([connected("ant", "tcp://a\x1b[2J:1")])
    assert "a\\x1b[2J:1" in line_of(shown(history(made, made)), "ant")


@pytest.mark.parametrize(
    ("text", "n_chars", "expected"),
    [("branch-0017", 11, "branch-0017"), ("branch-0017", 10, "bran..0017"), ("abcdef", 2, "..")],
)
def test_what_is_too_long_loses_its_middle(text: str, n_chars: int, expected: str) -> None:
    assert shortened(text, n_chars) == expected


def test_numbers_fit_their_columns() -> None:
    assert [bit_rate(bits) for bits in (0, 999.4, 999.6, 9994, 99.96e3, 9.71e9)] == [
        *("0 bit", "999 bit", "1.00 kbit", "9.99 kbit", "100 kbit", "9.71 Gbit"),
    ]
    assert max(len(bit_rate(9.994 * 10**n)) for n in range(15)) <= 10
    assert [count(number) for number in (0, 999_999, 10**6, 10**10)] == [
        *("0", "999,999", "1 M", "10 G"),
    ]
    assert max(len(count(10**n - 1)) for n in range(13)) <= 8
