"""When a kill switch is set, changed, put back and said; the rules are kill_switch_rules.py's."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from dataclasses import replace
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING, Any

import pytest

from fastun import log
from fastun.config.settings import ConnectSettings, Options, load
from fastun.errors import RuntimeFailure
from fastun.host import programs
from fastun.host.firewall import kill_switch as module
from fastun.host.firewall import kill_switch_found, local_networks
from fastun.host.firewall.kill_switch import KillSwitch
from fastun.host.firewall.kill_switch_rules import LocalNetwork
from fastun.host.journal.journal import Journal
from fastun.host.netlink.notices import Concern
from fastun.host.programs import ProgramRefused
from fastun.host.routing.outer_addresses import OuterEndpoint
from fastun.host.wanted import Wanted

if TYPE_CHECKING:
    from pathlib import Path

TABLE = "fastun_fastun0_kill_switch"
LAN = LocalNetwork("wlan0", ip_network("192.168.1.0/24"), is_within=False)
BRIDGE = LocalNetwork("br0", ip_network("10.88.0.0/24"), is_within=True)


class Host:
    """What a kill switch sees of a host, and the tables that nft has."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tables: dict[str, str] = {}
        self.networks: tuple[LocalNetwork, ...] = (BRIDGE, LAN)
        self.refusal = ""
        self.n_runs = 0
        monkeypatch.setattr(programs, "find", lambda _: "/usr/sbin/nft")
        monkeypatch.setattr(programs, "run", self.run)
        monkeypatch.setattr(local_networks, "read", lambda *_: self.networks)
        monkeypatch.setattr(kill_switch_found, "interfaces", self.interfaces)

    def interfaces(self) -> tuple[str, ...]:
        return tuple(name.split("_")[1] for name in self.tables)

    def run(self, command: tuple[str, ...], stdin: str, **_: object) -> str:
        self.n_runs += 1
        if self.refusal:
            raise ProgramRefused(self.refusal)
        if "list" in command:
            if command[-1] not in self.tables:
                raise ProgramRefused("nft: No such file or directory")
            return json.dumps({"nftables": [{"rule": self.tables[command[-1]]}]})
        commands: list[dict[str, Any]] = json.loads(stdin)["nftables"]
        if "-c" not in command:
            name = commands[0]["add"]["table"]["name"]
            self.tables.pop(name, None)
            if len(commands) > 2:
                self.tables[name] = stdin
        return ""


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    log.configure("console", 0)
    return Host(monkeypatch)


def settings_for(mode: str, endpoint: str = "tcp://192.0.2.1:443") -> ConnectSettings:
    options = Options(wire="plain", insecure=True, address=("10.9.0.2/24",))
    settings = load("connect", endpoint, options)
    assert isinstance(settings, ConnectSettings)
    wanted: Any = {"kill_switch": mode != "off", "allow_lan": mode == "lan", "fwmark": 7}
    return replace(settings, **wanted)


def kill_switch(mode: str, directory: Path, endpoint: str = "tcp://192.0.2.1:443") -> KillSwitch:
    return KillSwitch(settings_for(mode, endpoint), Journal(directory, "fastun0"))


def test_it_is_set_with_the_endpoints_that_are_addresses_and_stays(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with kill_switch("on", tmp_path):
        assert '"192.0.2.1", 443' in host.tables[TABLE]
    assert TABLE in host.tables
    assert list(tmp_path.rglob("*.jsonl")) == [], "a journal would undo it"
    said = capsys.readouterr().err.splitlines()
    assert "it stays until 'fastun disconnect -i fastun0'" in said[0]
    assert "'fastun disconnect -i fastun0' removes it" in said[-1]


def test_a_name_lets_nothing_pass_before_it_is_looked_up(host: Host, tmp_path: Path) -> None:
    with kill_switch("on", tmp_path, "tcp://vpn.example.net:443") as switch:
        assert '"mark"' not in host.tables[TABLE]
        switch.allow_lookups(["192.168.1.1", "fe80::1%wlan0"])
        assert '["udp", "192.168.1.1", 53]' in host.tables[TABLE]
        assert '["tcp", "fe80::1", 53]' in host.tables[TABLE]


def test_what_is_as_before_runs_no_program(host: Host, tmp_path: Path) -> None:
    with kill_switch("on", tmp_path) as switch:
        endpoints, wanted = (
            frozenset((OuterEndpoint("tcp", ip_address("192.0.2.1"), 443),)),
            Wanted(mtu=1),
        )
        switch.follow(endpoints, wanted)
        n_runs = host.n_runs
        switch.follow(endpoints, wanted)
        assert switch.follows(endpoints, wanted)
        assert not switch.follows(frozenset(), wanted)
        assert host.n_runs == n_runs


def test_where_nft_refuses_it_nothing_is_started(host: Host, tmp_path: Path) -> None:
    host.refusal = "nft: Operation not permitted"
    with pytest.raises(RuntimeFailure, match=r"^kill_switch: nft: Operation not permitted"):
        kill_switch("on", tmp_path).__enter__()


def test_without_nft_it_says_what_to_install(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(programs, "find", lambda _: None)
    with pytest.raises(
        RuntimeFailure, match=r"kill_switch: nft is missing; install the package nft"
    ):
        kill_switch("on", tmp_path).__enter__()
    assert host.tables == {}


def test_that_of_another_interface_is_in_the_way(host: Host, tmp_path: Path) -> None:
    host.tables["fastun_wg7_kill_switch"] = ""
    with pytest.raises(
        RuntimeFailure, match=r"that of wg7 is set .* run 'fastun disconnect -i wg7'"
    ):
        kill_switch("on", tmp_path).__enter__()
    assert list(host.tables) == ["fastun_wg7_kill_switch"]


def test_a_change_that_nft_refuses_is_a_fault_until_it_is_taken(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with kill_switch("on", tmp_path) as switch:
        before = host.tables[TABLE]
        host.refusal = "nft: out of memory"
        switch.allow_lookups(["192.0.2.53"])
        assert switch.fault == "the kill switch cannot be changed: nft: out of memory"
        assert host.tables[TABLE] == before
        host.refusal = ""
        switch.allow_lookups(["192.0.2.53"])
        assert switch.fault == ""
        assert "192.0.2.53" in host.tables[TABLE]
    assert capsys.readouterr().err.count("the kill switch cannot be changed") == 1


def test_one_that_others_remove_just_before_it_changes_is_said_although_a_fault_was(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with kill_switch("on", tmp_path) as switch:
        host.refusal = "nft: no"
        switch.allow_lookups(["192.168.1.1"])
        host.refusal = ""
        host.tables.clear()
        switch.allow_lookups(["192.168.1.2"])
        assert '["udp", "192.168.1.2", 53]' in host.tables[TABLE]
        assert (switch.n_restored, switch.fault) == (1, "")
        switch.allow_lookups(["192.168.1.3"])
        assert switch.n_restored == 1
    said = capsys.readouterr().err
    assert "cannot be changed: nft: no" in said
    assert "removed or changed by another program" in said


@pytest.mark.parametrize(
    ("configured", "said"),
    [
        (("on", "192.168.0.0/16"), ""),  # the LAN was not asked for
        (("on", "10.88.0.0/25"), "10.88.0.0/24"),
        (("lan", "192.168.1.7/32"), "192.168.1.0/24"),
        (("lan", "0.0.0.0/0"), ""),
    ],
)
def test_a_network_that_the_tunnel_leads_to_is_out_of_reach_and_said_once(
    host: Host,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    configured: tuple[str, str],
    said: str,
) -> None:
    mode, inside = configured
    with kill_switch(mode, tmp_path) as switch:
        for _ in range(2):
            switch.follow(frozenset(), Wanted(mtu=1, routes=(ip_network(inside),)))
        lines = [line for line in capsys.readouterr().err.splitlines() if "out of reach" in line]
        assert len(lines) == bool(said)
        if said:
            assert said in lines[0]
            assert said.partition("/")[0] not in host.tables[TABLE]


def test_one_that_an_earlier_start_has_left_is_removed_only_where_none_is_wanted(
    host: Host, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    host.tables[TABLE] = ""
    with kill_switch("off", tmp_path) as switch:
        assert TABLE in host.tables, "the device may be another's until it is ours"
        switch.remove_left()
        assert host.tables == {}
        switch.allow_lookups(["192.0.2.53"])
    assert host.tables == {}
    assert capsys.readouterr().err.count("the kill switch of an earlier start is removed") == 1
    with kill_switch("on", tmp_path) as switch:
        switch.remove_left()
    assert TABLE in host.tables


def test_it_is_turned_on_and_off_and_the_lan_let_through(host: Host, tmp_path: Path) -> None:
    endpoints = frozenset((OuterEndpoint("tcp", ip_address("192.0.2.9"), 443),))

    def turn(mode: str) -> str:
        switch.turn(settings_for(mode), endpoints, Wanted(mtu=1))
        return host.tables.get(TABLE, "")

    with kill_switch("off", tmp_path) as switch:
        assert host.tables == {}
        assert '"192.0.2.9", 443' in turn("on")
        assert "wlan0" not in host.tables[TABLE]
        assert "wlan0" in turn("lan")
        assert "wlan0" not in turn("on")
        assert turn("off") == ""
        switch.follow(frozenset(), Wanted(mtu=2))
        assert (switch.is_on, host.tables) == (False, {}), "nothing puts it back"
        assert TABLE in turn("on")
    assert TABLE in host.tables, "as one that was set at the start"


def test_one_that_is_refused_is_not_on(host: Host, tmp_path: Path) -> None:
    with kill_switch("off", tmp_path) as switch:
        for refusal, said in (("nft: no", "kill_switch: nft: no"), ("", "that of wg9 is set")):
            host.refusal = refusal
            if not refusal:
                host.tables["fastun_wg9_kill_switch"] = ""
            with pytest.raises(RuntimeFailure, match=said):
                switch.turn(settings_for("on"), frozenset(), Wanted(mtu=1))
            assert not switch.is_on
            assert TABLE not in host.tables


class Reports(contextlib.nullcontext[None]):
    """One of no concern comes whenever somebody waits; how long he would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.left_s: list[float] = []
        self.are_many = asyncio.Event()

    async def wait(self, left_s: float) -> bool:
        self.left_s.append(left_s)
        if len(self.left_s) > 5:
            self.are_many.set()
        await asyncio.sleep(0.002)
        return True

    def read(self, _: object) -> Concern:
        return Concern.OTHERS


def test_reports_in_between_do_not_put_off_the_look_at_what_nothing_reports(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def claim() -> None:
        reports = Reports()
        monkeypatch.setattr(module, "Notices", lambda: reports)
        with kill_switch("on", tmp_path) as switch:
            task = asyncio.create_task(switch.run())
            await reports.are_many.wait()
            task.cancel()
        first, *rest = reports.left_s
        assert first == module.LOOK_S
        assert all(after < before for before, after in itertools.pairwise(rest)), rest

    monkeypatch.setattr(module, "GATHER_S", 0.0)
    monkeypatch.setattr(module, "PAUSE_S", 0.0)
    asyncio.run(claim())
    assert host.n_runs
