"""What other programs do to a tunnel's host is noticed: made again, or said.

client                         internet
192.0.2.2, fd01::2  ==veth==   192.0.2.1, fd01::1   (the client's default gateway)
wg0 10.9.0.2, fd00:9::2        198.51.100.1 is a server out there that never answers
"""

from __future__ import annotations

import shlex
import sys
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import LabError, wait_until
from fastun.lab.tunnel import GatewayProcess
from tests.support.host_state import differences, host_state
from tests.support.promised import promised_s
from tests.support.serve_and_dial import connect_alone, log_of

if TYPE_CHECKING:
    from pathlib import Path

    from fastun.lab.host import Host
    from tests.support.figures import Figures

AGAIN_S = promised_s(5.0)


@pytest.fixture
def gateway(client: Host, tmp_path: Path) -> GatewayProcess:
    """One that runs, with its default route."""
    return connect_alone(client, tmp_path)


def wait_for_all(before: dict[str, str], host: Host) -> None:
    """Wait until the host is as before; what is not is in the error."""
    try:
        wait_until(lambda: not differences(before, host_state(host)), "again", timeout_s=AGAIN_S)
    except LabError:
        assert differences(before, host_state(host)) == []


def warnings(gateway: GatewayProcess) -> list[str]:
    return [line for line in log_of(gateway).splitlines() if " warning " in line]


REMOVALS = {
    "the link set down and up": (["ip link set wg0 down", "ip link set wg0 up"], "3 routes"),
    "all addresses": (["ip addr flush dev wg0"], "2 addresses"),
    "the routes": (["ip route flush table 51820", "ip route del 10.7.0.0/16"], "2 routes"),
    "IPv6 routes": (["ip -6 route flush table 51820"], "route ::/0"),
    "the rules": (["ip rule del priority 32765", "ip -6 rule del priority 32764"], "rules"),
    "nft flushed": (["nft flush ruleset"], "nft table fastun_wg0"),
    "nft rules flushed": (["nft flush table inet fastun_wg0"], "nft table fastun_wg0"),
    "a setting": (
        ["sysctl -w net.ipv4.conf.all.src_valid_mark=0"],
        "setting net.ipv4.conf.all.src_valid_mark",
    ),
}


@pytest.mark.promise(
    "An address, route, rule, nft table or setting that others remove is back within 5 s"
)
@pytest.mark.parametrize("what", REMOVALS)
def test_what_others_remove_is_there_again_within_5_s_and_said_once(
    client: Host, gateway: GatewayProcess, what: str, figures: Figures
) -> None:
    commands, said = REMOVALS[what]
    before = host_state(client)
    for command in commands:
        client.run(*shlex.split(command))
    started = time.monotonic()
    wait_for_all(before, client)
    figures.worst("back after", time.monotonic() - started, "s")
    wait_until(lambda: "made again" in log_of(gateway), "the line")
    time.sleep(1)
    lines = warnings(gateway)
    assert all("removed by another program; made again" in line for line in lines)
    # Each command may come so late that it is a removal of its own.
    assert said in lines[0] or 1 < len(lines) <= len(commands), lines
    assert gateway.stop() == 0


def readiness(gateway: GatewayProcess) -> str:
    gateway.check_alive()
    return gateway.get("/readyz")[1].strip()


def test_a_route_that_was_replaced_is_said_and_missing(
    client: Host, gateway: GatewayProcess
) -> None:
    client.ip("route", "replace", "default", "via", "192.0.2.1", "table", "51820")
    missing = "route 0.0.0.0/0 of wg0 cannot be made again"
    wait_until(lambda: readiness(gateway) == missing, "not ready", timeout_s=AGAIN_S)
    (line,) = warnings(gateway)
    assert "route refused" in line
    client.ip("route", "del", "default", "via", "192.0.2.1", "table", "51820")
    wait_until(lambda: readiness(gateway) == "no link", "made again", timeout_s=20)


@pytest.mark.promise(
    "A device that is set down is said within 5 s, and has all routes again when it is up"
)
def test_a_device_that_was_set_down_is_said_and_not_ready_until_it_is_up(
    client: Host, gateway: GatewayProcess
) -> None:
    before = host_state(client)
    client.ip("link", "set", "wg0", "down")
    down = "wg0 is down; run 'ip link set wg0 up'"
    wait_until(lambda: readiness(gateway) == down, "not ready", timeout_s=AGAIN_S)
    assert gateway.scrape().total("fastun_device_up") == 0
    assert down in status_of(gateway)
    (line,) = warnings(gateway)
    assert "run 'ip link set wg0 up'" in line
    assert "DOWN" in client.ip("-brief", "link", "show", "wg0"), "set down by a person"
    client.ip("link", "set", "wg0", "up")
    wait_for_all(before, client)
    wait_until(lambda: readiness(gateway) == "no link", "as before", timeout_s=AGAIN_S)
    assert len(warnings(gateway)) == 1
    assert "wg0 is up again; " in log_of(gateway)
    assert gateway.scrape().total("fastun_host_repairs_total", kind="route") == 3


def status_of(gateway: GatewayProcess) -> str:
    home = str(gateway.log_file.parent)
    command = [sys.executable, "-m", "fastun", "status", "--run-dir", home]
    return gateway.host.run(*command).stdout


def test_a_program_that_keeps_removing_the_rules_wins_after_three_times(
    client: Host, gateway: GatewayProcess
) -> None:
    rules = client.ip("rule")
    for _ in range(3):
        client.ip("rule", "del", "priority", "32765")
        wait_until(lambda: client.ip("rule") == rules, "made again", timeout_s=AGAIN_S)
    client.ip("rule", "del", "priority", "32765")
    keeps = "another program keeps removing what wg0 needs of this host"
    wait_until(lambda: readiness(gateway) == keeps, "not ready", timeout_s=AGAIN_S)
    assert client.ip("rule") != rules
    said = warnings(gateway)
    assert ["made again" in line for line in said] == [True, True, True, True]
    assert "not any more until a minute has been quiet" in said[-1]
    assert keeps in status_of(gateway)


@pytest.mark.promise(
    "A device that is deleted ends the gateway in one line, and leaves nothing behind"
)
def test_a_device_that_another_program_deletes_ends_the_gateway_with_nothing_left(
    client: Host, gateway: GatewayProcess
) -> None:
    client.ip("link", "del", "wg0")
    assert gateway.process.wait(10) == 1
    last = gateway.log_tail(1)[0]
    assert last.startswith("fastun: interface wg0 was deleted by another program")
    assert last.endswith("start fastun again")
    assert len(client.ip("rule").splitlines()) == 3


@pytest.mark.promise("A device that is renamed keeps routes, rules and filters")
def test_a_renamed_device_keeps_all_it_has_under_its_new_name(
    client: Host, gateway: GatewayProcess
) -> None:
    before = host_state(client)
    for words in ("down", "name vpn", "up"):
        client.ip("link", "set", "wg0" if words != "up" else "vpn", *words.split())

    def has_all() -> bool:
        return routes(host_state(client), "vpn") == routes(before, "wg0")

    wait_until(has_all, "routes", timeout_s=AGAIN_S)
    assert client.ip("-brief", "address", "show", "vpn").split()[2:] == [
        "10.9.0.2/24",
        "fd00:9::2/64",
    ]
    wait_until(lambda: 'iifname != "vpn"' in host_state(client)["nft"], "nft", timeout_s=AGAIN_S)
    assert 'wg0"' not in host_state(client)["nft"]
    assert gateway.scrape().total("fastun_device_up", device="wg0") == 1
    assert gateway.stop() == 0
    assert host_state(client)["nft"] == ""


def routes(state: dict[str, str], device: str) -> list[str]:
    lines = (state["routes -4"] + "\n" + state["routes -6"]).splitlines()
    return [line.replace(device, "DEV") for line in lines if f"dev {device}" in line]
