"""What differs between two settings: in words, what can change live, and what needs a restart."""

from __future__ import annotations

import dataclasses
import re
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastun.config.data_path import PLACES, DataPath
from fastun.config.host import DevicePlace
from fastun.config.observing import LogSettings
from fastun.config.push_settings import Pushed
from fastun.config.settings import ConnectSettings, Options, ServeSettings, Settings, load
from fastun.endpoint import Endpoint
from fastun.gateway.settings_change import LIVE, RESTART, plan
from fastun.peers.peer import Peer

SERVE = load("serve", None, Options())
ANT = Peer(name="ant", public_key=bytes([1] * 32), allowed_ips=(ip_network("10.1.0.0/16"),))
BEE = Peer(name="bee", public_key=bytes([2] * 32), preshared_key=bytes([7] * 32))
TCP, UDP = Endpoint("tcp", "192.0.2.1", 1), Endpoint("udp", "192.0.2.1", 1)


def serving(**fields: Any) -> Settings:
    return dataclasses.replace(SERVE, **fields)


def connecting(*endpoints: Endpoint, **fields: Any) -> Settings:
    plain = load("connect", "tcp://192.0.2.1", Options(wire="plain", insecure=True))
    peer = dataclasses.replace(ANT, endpoints=endpoints)
    fields = {"wire": "wireguard", "peers": (peer,), "endpoints": endpoints} | fields
    return dataclasses.replace(plain, **fields)


def test_every_field_is_in_one_of_the_two_tables() -> None:
    """But for those that other parts add: they need a restart until they are listed."""
    fields = {
        field.name
        for kind in (ServeSettings, ConnectSettings)
        for field in dataclasses.fields(kind)
    }
    assert set(LIVE) | set(RESTART) <= fields
    assert not set(LIVE) & set(RESTART)


def test_what_is_in_neither_table_needs_a_restart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(RESTART, "fwmark")
    planned = plan(SERVE, serving(fwmark=7))
    assert (planned.settings, planned.needs_restart) == (SERVE, ("fwmark",))


@pytest.mark.parametrize(
    ("before", "now", "changes"),
    [
        (serving(), serving(), ()),
        (serving(mtu=1420), serving(mtu=1380), ("interface.mtu: 1420 -> 1380",)),
        (serving(metrics=("::1", 9)), serving(metrics=None), ("metrics.listen: [::1]:9 -> off",)),
        (
            serving(),
            serving(log=LogSettings(verbosity=1)),
            ("log: console from info up -> console from debug up",),
        ),
        (serving(listen=(TCP, UDP)), serving(listen=(UDP,)), ("listen: -tcp://192.0.2.1:1",)),
        (
            serving(),
            serving(push=Pushed(routes=(ip_network("10.7.0.0/16"),), keepalive_s=25)),
            ("push.routes: +10.7.0.0/16", "push.keepalive: 0 -> 25"),
        ),
        (serving(peers=(ANT,)), serving(peers=(BEE,)), ("peer ant: removed", "peer bee: added")),
        (serving(peers=(ANT, BEE)), serving(peers=(BEE, ANT)), ("peer: another order",)),
        (
            serving(peers=(ANT, BEE)),
            serving(
                peers=(
                    dataclasses.replace(ANT, name="fox", allowed_ips=(ip_network("fd00::/64"),)),
                    dataclasses.replace(BEE, preshared_key=None, keepalive_s=5),
                )
            ),
            (
                "peer fox: was ant, allowed IPs +fd00::/64 -10.1.0.0/16",
                "peer bee: keepalive 0 -> 5, another pre-shared key, its session ends",
            ),
        ),
        (
            connecting(UDP),
            connecting(Endpoint("udp", "192.0.2.2", 1)),
            ("peer ant: endpoints +udp://192.0.2.2:1 -udp://192.0.2.1:1",),
        ),
    ],
)
def test_changes_are_said_in_words(
    before: Settings, now: Settings, changes: tuple[str, ...]
) -> None:
    planned = plan(before, now)
    assert (planned.changes, planned.needs_restart) == (changes, ())
    assert planned.settings == now


def test_what_needs_a_restart_stays_as_it_is_and_the_rest_changes() -> None:
    place = DevicePlace(strong_host=True, bridge="br0")
    data_path = DataPath(gso=False, hand_over=False)
    planned = plan(
        SERVE,
        serving(data_path=data_path, mtu=1400, place=place, private_key=bytes(range(32))),
    )
    assert planned.settings == serving(mtu=1400)
    assert planned.fields == {"mtu"}
    assert set(planned.needs_restart) == {
        "interface.gso",
        "workers.hand_over",
        "interface.private_key",
        "interface.bridge or strong_host",
    }
    assert "0102" not in repr(planned)


def test_beside_another_mode_or_wire_nothing_changes() -> None:
    """An MTU or addresses that are right for TAP would be wrong for TUN."""
    planned = plan(SERVE, serving(mode="tap", mtu=1398))
    assert planned.settings == SERVE
    assert set(planned.needs_restart) == {"interface.mode", "interface.mtu"}
    assert planned.changes == ()


@pytest.mark.parametrize(
    ("before", "now", "needs"),
    [
        (serving(listen=(UDP,)), serving(listen=(UDP, TCP)), ("listen",)),
        (connecting(UDP), connecting(UDP, TCP), ("peer", "peer.endpoints")),
        (connecting(UDP, TCP), connecting(TCP), ("peer", "peer.endpoints")),
    ],
)
def test_a_transport_of_which_there_was_none_needs_a_restart(
    before: Settings, now: Settings, needs: tuple[str, ...]
) -> None:
    planned = plan(before, now)
    assert (planned.settings, planned.needs_restart, planned.changes) == (before, needs, ())


CHANGES: dict[str, list[Any]] = {
    "mtu": [1300, 1420],
    "fwmark": [0, 7],
    "log": [LogSettings(), LogSettings(verbosity=1)],
    "peers": [(), (ANT,), (BEE,), (ANT, BEE)],
    "push": [Pushed(), Pushed(keepalive_s=5)],
    "state_dir": [Path("/a"), Path("/b")],
    "mode": ["tun", "tun", "tun", "tap"],
}
SETTINGS = st.fixed_dictionaries({k: st.sampled_from(v) for k, v in CHANGES.items()}).map(
    lambda fields: serving(**fields)
)


@given(SETTINGS, SETTINGS)
def test_a_plan_leaves_either_side_of_each_field(before: Settings, now: Settings) -> None:
    planned = plan(before, now)
    is_decisive = before.mode != now.mode
    for field in CHANGES:
        was, wanted = getattr(before, field), getattr(now, field)
        is_live = field in LIVE and not is_decisive
        assert getattr(planned.settings, field) == (wanted if is_live else was)
        assert (field in planned.fields) == (is_live and was != wanted)
        assert ({**RESTART, **LIVE}[field] in planned.needs_restart) == (
            not is_live and was != wanted
        )
    again = plan(planned.settings, now)
    assert (again.changes, again.needs_restart) == ((), planned.needs_restart)


def test_a_kill_switch_needs_the_mark_that_sockets_have_from_the_start() -> None:
    with_mark, without = (connecting(UDP, fwmark=mark) for mark in (7, 0))
    wanted = {"kill_switch": True, "allow_lan": True}
    planned = plan(with_mark, dataclasses.replace(with_mark, **wanted))
    assert set(planned.changes) == {
        "interface.kill_switch: off -> on",
        "interface.allow_lan: off -> on",
    }
    planned = plan(without, dataclasses.replace(without, **wanted))
    assert (planned.settings, planned.changes) == (without, ())
    assert set(planned.needs_restart) == {"interface.kill_switch", "interface.allow_lan"}
    on = dataclasses.replace(without, kill_switch=True)
    assert plan(on, without).changes == ("interface.kill_switch: on -> off",)


def test_the_documentation_says_of_each_field_what_a_reload_does() -> None:
    page = (Path(__file__).parents[3] / "docs" / "configuration.md").read_text(encoding="utf-8")
    section = page.partition("### Changes while it runs")[2].partition("\n## ")[0]
    rows = [line for line in section.splitlines() if line.startswith("| ")]
    live = "\n".join(row for row in rows if "at once" in row)
    late = "\n".join(
        row for row in rows if "needs a restart |" in row or "needs a restart, " in row
    )
    not_in_the_file = {
        "--run-dir",
        "--state",
        "peer.name",
    }  # on a wire without keys it is no peer's
    for table, said in ((LIVE, live), (RESTART, late), (PLACES, late)):
        for place in set(table.values()) - not_in_the_file:
            for word in re.findall(r"[\w.]+", place.replace(" or ", " ")):
                assert re.search(rf"`(\w+\.|\[+)?{word.split('.')[-1]}(\]+)?`", said), place
