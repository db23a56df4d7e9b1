"""With a kill switch nothing leaves a laptop beside the tunnel, whatever happens to it.

The hosts are drawn in tests/support/cut_off.py. While each thing happens, a capture on the uplink
looks at every packet, and programs on the laptop and in a virtual machine try all ways around.
"""

from __future__ import annotations

import dataclasses
import os
import re
import socket
import struct
import sys
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest

from fastun.host.firewall import local_networks
from fastun.lab.host import wait_until
from fastun.lab.traffic import answers_ping
from tests.support import cut_off_events as events
from tests.support.cut_off import (
    AWAY,
    PERMITTED,
    ROUTER,
    ROUTER_V6,
    SERVER,
    SERVER_V6,
    TABLE,
    UPLINK,
    Scene,
    running,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from fastun.lab.tunnel import Transport

OF_THE_LINK = re.compile("^protocol (2|0) from .* to (224.0.0.22|ff02::16)$")  # IGMP and MLD


@pytest.fixture(scope="module")
def cut_off(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    with running(tmp_path_factory.mktemp("cut_off"), "udp") as made:
        yield made


@pytest.mark.parametrize(
    "event",
    [*events.ALL, pytest.param(events.cut_for_half_a_minute, marks=pytest.mark.soak)],
    ids=lambda event: event.__name__,
)
def test_nothing_leaves_beside_the_tunnel_and_traffic_is_back_soon(
    cut_off: Scene, event: Callable[[Scene], None]
) -> None:
    with cut_off.watched() as capture, cut_off.attempts() as attempts:
        event(cut_off)
        took_s = cut_off.wait_up()
    print(f"{event.__name__}: traffic after {took_s:.1f} s; {attempts.n_sent} attempts")  # noqa: T201
    assert capture.leaks == []
    assert took_s < (5 if os.environ.get("FASTUN_SOAK") == "1" else 30)
    assert capture.n_permitted > 0, "the tunnel's own packets are seen"
    assert attempts.n_sent > 0


def test_a_server_that_moves_is_followed(cut_off: Scene) -> None:
    moved, moved_v6 = "198.51.100.77", "fd02::77"
    nat = "table inet moved { chain post { type nat hook postrouting priority srcnat; "
    nat += f"ip saddr {SERVER} udp sport 51820 snat ip to {moved}; "
    nat += f"ip6 saddr {SERVER_V6} udp sport 51820 snat ip6 to {moved_v6}; }}; }}"
    places = {("udp", moved, 51820), ("udp", moved_v6, 51820)}
    permitted = dataclasses.replace(PERMITTED, endpoints=PERMITTED.endpoints | places)
    cut_off.wait_up()
    with cut_off.watched(permitted) as capture:
        cut_off.internet.run("nft", nat)
        answers_ping(cut_off.server, "10.99.0.2")  # a packet from where it is now
        wait_until(lambda: moved in cut_off.log() or moved_v6 in cut_off.log(), "a move")
        took_s = cut_off.wait_up()
        with cut_off.attempts():
            time.sleep(0.3)
    print(f"traffic after {took_s:.1f} s")  # noqa: T201
    assert capture.leaks == []
    assert f"{moved} . 51820" in cut_off.rules() or f"{moved_v6} . 51820" in cut_off.rules()
    cut_off.internet.run("nft", "delete table inet moved")
    cut_off.wait_up()


def test_rules_that_others_flush_are_put_back_before_anything_has_left(cut_off: Scene) -> None:
    nat = cut_off.laptop.run("nft", "list", "table", "ip", "nat").stdout
    with cut_off.watched() as capture, cut_off.ordinary() as attempts:
        cut_off.laptop.run("nft", "flush", "ruleset")
        wait_until(lambda: TABLE in cut_off.rules(), "put back")
        wait_until(lambda: "put back" in cut_off.log(), "the line")
    cut_off.laptop.run("sh", "-c", f"nft -f - <<'END'\n{nat}\nEND")
    assert [each for each in capture.leaks if not OF_THE_LINK.search(each)] == []
    assert attempts.n_sent > 0
    assert "host         " in cut_off.fastun("status").stdout
    assert "nothing leaves this host beside the tunnel" in cut_off.fastun("status").stdout


def test_what_goes_around_all_routes_gets_out_for_a_moment_only_when_rules_are_flushed(
    cut_off: Scene,
) -> None:
    nat = cut_off.laptop.run("nft", "list", "table", "ip", "nat").stdout
    with cut_off.watched() as capture, cut_off.attempts():
        cut_off.laptop.run("nft", "flush", "ruleset")
        time.sleep(1)
    cut_off.laptop.run("sh", "-c", f"nft -f - <<'END'\n{nat}\nEND")
    leaking_s = capture.times[-1] - capture.times[0] if capture.times else 0.0
    print(f"{len(capture.leaks)} packets in {leaking_s:.3f} s")  # noqa: T201
    assert leaking_s < 1


def test_a_packet_that_others_have_routed_anew_does_not_leave_either(cut_off: Scene) -> None:
    rules = "table inet others { chain output { type route hook output priority mangle; "
    rules += f"ip daddr {AWAY} meta mark set 0x77; }}; }}"
    cut_off.laptop.run("nft", rules)
    for command in ("add", "del"):
        cut_off.laptop.ip("rule", command, "fwmark", "0x77", "priority", "1", "table", "77")
        if command == "add":
            cut_off.laptop.ip("route", "add", "default", "via", ROUTER, "table", "77")
            with cut_off.watched() as capture, cut_off.ordinary():
                time.sleep(0.5)
    cut_off.laptop.run("nft", "delete table inet others")
    assert capture.leaks == []


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [(("", 68), ("255.255.255.255", 67)), (("::", 546), ("ff02::1:2", 547))],
)
def test_the_uplink_can_get_an_address(
    cut_off: Scene, ours: tuple[str, int], theirs: tuple[str, int]
) -> None:
    family = socket.AF_INET6 if ":" in ours[0] else socket.AF_INET
    device = next(each for each in cut_off.internet.devices() if each.startswith("to-laptop"))
    with (
        cut_off.internet.socket(family, socket.SOCK_DGRAM) as server,
        cut_off.laptop.socket(family, socket.SOCK_DGRAM) as client,
    ):
        server.bind((ours[0], theirs[1]))
        server.settimeout(5)
        if family == socket.AF_INET6:
            index = cut_off.internet.inside(lambda: socket.if_nametoindex(device))
            group = socket.inet_pton(family, theirs[0]) + struct.pack("@i", index)
            server.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, UPLINK.encode())
        client.bind(ours)
        client.sendto(b"discover", theirs)
        assert server.recv(100) == b"discover"


def test_networks_within_this_host_are_those_of_bridges_without_a_way_out(cut_off: Scene) -> None:
    laptop = cut_off.laptop

    def within() -> set[str]:
        found = laptop.inside(lambda: local_networks.read("wg0", 0, ()))
        assert {each.interface for each in found} >= {UPLINK, "br0"}
        return {each.interface for each in found if each.is_within and each.network.version == 4}

    assert within() == {"br0"}
    for routes in (("0.0.0.0/1",), ("128.0.0.0/1",), ("::/0",)):
        version = "-6" if ":" in routes[0] else "-4"
        via = "fe80::1" if ":" in routes[0] else "10.88.0.2"
        laptop.ip(version, "route", "add", routes[0], "via", via, "dev", "br0", "metric", "9999")
        assert within() == set(), routes
        laptop.ip(version, "route", "del", routes[0], "via", via, "dev", "br0", "metric", "9999")
    laptop.ip("link", "add", "eth9", "type", "vxlan", "id", "9", "dstport", "4789")
    laptop.ip("link", "set", "eth9", "master", "br0")  # as hardware, not of this host
    assert within() == set()
    laptop.ip("link", "del", "eth9")
    assert within() == {"br0"}
    leading = laptop.inside(lambda: local_networks.read("wg0", 0, (ip_address("10.88.0.2"),)))
    assert not any(each.is_within for each in leading if each.interface == "br0"), (
        "our own packets leave by it"
    )


def test_a_second_kill_switch_is_refused_with_a_line(cut_off: Scene, tmp_path: Path) -> None:
    file = str(cut_off.home / "started.toml")
    done = cut_off.fastun("connect", file, "-i", "wg1", "--state", str(tmp_path), check=False)
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert last.startswith("fastun: kill_switch: that of wg0 is set on this host")
    assert "run 'fastun disconnect -i wg0', or set only one of them" in last
    assert "Traceback" not in done.stderr


def test_a_start_that_fails_does_not_remove_that_of_a_client_that_runs(
    cut_off: Scene, tmp_path: Path
) -> None:
    if cut_off.process is None or cut_off.process.poll() is not None:
        cut_off.start()
    cut_off.wait_up()
    n_lines = cut_off.log().count("\n")
    file = str(cut_off.home / "client.toml")  # the same interface, and no kill switch
    done = cut_off.fastun("connect", file, "--state", str(tmp_path), check=False)
    assert done.returncode == 1
    assert "wg0: in use by another program" in done.stderr
    assert "removed" not in done.stderr
    assert TABLE in cut_off.rules()
    assert "kill switch" not in "\n".join(cut_off.log().splitlines()[n_lines:]), "as it was"


def test_disconnect_does_not_say_that_it_is_gone_while_a_fastun_puts_it_back(
    cut_off: Scene, tmp_path: Path
) -> None:
    if cut_off.process is None or cut_off.process.poll() is not None:
        cut_off.start()
    cut_off.wait_up()
    command = (sys.executable, "-m", "fastun", "disconnect", "--run-dir", str(tmp_path))
    done = cut_off.laptop.run(*command, check=False)
    assert done.returncode == 1
    assert "the kill switch of wg0 was put back: its fastun runs" in done.stderr
    assert "give its --run-dir, or stop it first" in done.stderr
    assert TABLE in cut_off.rules()


def test_disconnect_ends_the_client_and_its_kill_switch(cut_off: Scene) -> None:
    said: list[str] = []
    cut_off.ends(lambda: said.append(cut_off.fastun("disconnect").stdout), code=0)
    assert said == ["wg0: disconnected\nwg0: kill switch removed\n"]
    assert TABLE not in cut_off.rules()
    assert answers_ping(cut_off.laptop, ROUTER)
    with cut_off.watched() as capture, cut_off.attempts():  # what the other tests look for
        time.sleep(0.5)
    leaks = "\n".join(capture.leaks)
    away = (
        "203.0.113.9 port 9",
        "2001:db8::9 port 443",
        f"{SERVER} port 9",
        f"{SERVER} port 51820",
    )
    others = ("secret.example.org", "protocol 1 ", "protocol 44", "ff02::16", "203.0.113.88 port 9")
    assert [kind for kind in (*away, *others) if kind not in leaks] == []
    again = cut_off.fastun("disconnect", check=False)
    assert again.returncode == 1
    assert "no client is running" in again.stderr


def test_disconnect_is_the_way_out_when_nothing_runs_any_more(cut_off: Scene) -> None:
    cut_off.start()
    cut_off.wait_up()
    assert cut_off.process
    cut_off.ends(cut_off.process.kill)
    assert not answers_ping(cut_off.laptop, ROUTER)
    assert cut_off.fastun("disconnect").stdout == "wg0: kill switch removed\n"
    assert answers_ping(cut_off.laptop, ROUTER)


def test_the_lan_is_reachable_if_asked_for_but_no_dns_in_it(cut_off: Scene) -> None:
    cut_off.start("kill_switch = true\nallow_lan = true")
    cut_off.wait_up()
    assert answers_ping(cut_off.laptop, ROUTER)
    assert answers_ping(cut_off.laptop, ROUTER_V6)
    assert answers_ping(cut_off.vm, ROUTER)
    cut_off.laptop.ip("address", "add", "203.0.113.77/24", "dev", UPLINK)
    time.sleep(1.5)  # for the rules that follow the networks
    with cut_off.watched() as capture, cut_off.attempts():
        time.sleep(0.5)
    cut_off.laptop.ip("address", "del", "203.0.113.77/24", "dev", UPLINK)
    local = re.compile(f" to ({ROUTER}|{ROUTER_V6}|224[.]0[.]0[.].*|ff02::.*|255[.].*)( port .*|$)")
    assert {each for each in capture.leaks if not local.search(each)} == set()
    assert any("192.168.77.1 port 9" in each for each in capture.leaks)


def test_a_reload_turns_it_off_and_on_under_the_session(cut_off: Scene) -> None:
    def reload(old: str, new: str) -> str:
        file = cut_off.home / "started.toml"
        text = file.read_text()
        assert old in text
        file.write_text(text.replace(old, new))
        return cut_off.fastun("reload").stdout

    cut_off.start("kill_switch = true\nallow_lan = true")
    cut_off.wait_up()
    n_sessions = cut_off.log().count("transport=udp")
    assert reload("allow_lan = true\n", "") == "wg0: interface.allow_lan: on -> off\n"
    assert not answers_ping(cut_off.laptop, ROUTER)
    assert reload("kill_switch = true", "") == "wg0: interface.kill_switch: on -> off\n"
    assert TABLE not in cut_off.rules()
    assert "the kill switch is removed: kill_switch is not set any more" in cut_off.log()
    said = reload("[interface]\n", "[interface]\nlisten_port = 50123\n")
    assert "listen_port: any -> 50123" in said
    assert cut_off.laptop.listens(50123, udp=True)
    assert cut_off.answers()
    said = reload("[interface]\n", "[interface]\nkill_switch = true\n")
    assert said == "wg0: interface.kill_switch: off -> on\n"
    with cut_off.watched() as capture, cut_off.attempts():
        cut_off.laptop.run("nft", "delete", "table", "inet", TABLE)
        wait_until(lambda: TABLE in cut_off.rules(), "put back")
        capture.leaks.clear()  # of the moment without it
        time.sleep(0.5)
        assert cut_off.answers()
    assert capture.leaks == []
    assert cut_off.log().count("transport=udp") == n_sessions + 1, "but for 'listening'"


def test_a_start_without_the_option_removes_it(cut_off: Scene) -> None:
    assert cut_off.process
    cut_off.ends(cut_off.process.terminate, code=0)
    assert TABLE in cut_off.rules()
    cut_off.start("")
    cut_off.wait_up()
    assert TABLE not in cut_off.rules()
    assert "the kill switch of an earlier start is removed" in cut_off.log()
    cut_off.ends(cut_off.process.terminate, code=0)


@pytest.mark.soak
@pytest.mark.parametrize("transport", ["tcp", "both"])
def test_it_is_the_same_over_other_transports(tmp_path: Path, transport: Transport) -> None:
    with running(tmp_path, transport) as made, made.watched() as capture, made.attempts():
        few = (events.cut, events.kill_a_worker, events.kill, events.stop, events.hand_out_routes)
        for event in few:
            event(made)
            made.wait_up()
    assert capture.leaks == []
    assert capture.n_permitted > 0
