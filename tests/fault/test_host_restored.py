"""Whatever ends a tunnel, and whatever happened meanwhile: the host is as it was before.

server  10.1.0.1 ==up1== 10.1.0.2  client     the client's default route is by up1, then by up2
        10.2.0.1 ==up2== 10.2.0.2
wg0 10.99.0.1 ........tunnel.......  wg0 10.99.0.2     a default route, DNS, and what is pushed
"""

from __future__ import annotations

import contextlib
import os
import pty
import random
import re
import signal
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import psutil
import pytest

from fastun.lab.host import run_command, wait_until
from fastun.lab.traffic import answers_ping
from fastun.lab.tunnel import FASTUN, SERVER_ADDRESSES, add_peer, start_gateway
from fastun.native import ROLES
from tests.support.host_state import differences, host_state
from tests.support.kill_all import kill_all
from tests.support.name_server import resolv_conf

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

SERVER, INNER = "10.5.0.1", "10.99.0.1"
LAN_DNS, PUSHED_DNS = "10.5.0.53", "10.99.0.53"
PUSH = f"[push]\nroutes = ['10.7.0.0/16']\ndns = ['{PUSHED_DNS}']\n"
# As resolvconf(8) does, as far as this is about: our servers in the file, and then what was there.
RESOLVCONF = """#!/bin/sh
case $1 in
-a) cp /etc/resolv.conf {saved}; cat > /etc/resolv.conf ;;
-d) cat {saved} > /etc/resolv.conf ;;
esac
"""
END_S = 15.0
IS_LONG = os.environ.get("FASTUN_SOAK") == "1"
KILLED = ("gateway", "host", "template", *ROLES) if IS_LONG else ("gateway", "host", ROLES[0])


@dataclass(eq=False)
class Scene:
    """A server, and a client that is started and ended on a host that should stay as it is."""

    server: Host
    client: Host
    home: Path
    resolver_file: Path
    before: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def log(self) -> str:
        log = self.home / "log"
        return log.read_text() if log.exists() else ""

    def state(self) -> dict[str, str]:
        return host_state(self.client, self.resolver_file)

    def start(self, *prefix: str, stdin: int | None = None) -> None:
        """Have the client connect, and wait for all that it changes."""
        path = os.pathsep.join([str(self.home), os.environ["PATH"]])
        with (self.home / "log").open("ab") as stderr:
            self.process = self.client.spawn(
                *("env", "--default-signal", *prefix, *FASTUN, "connect"),
                *(str(self.home / "client.toml"), "--state", str(self.home)),
                *("--run-dir", str(self.home), "--metrics", "off"),
                **({} if stdin is None else {"stdin": stdin}),
                stderr=stderr,
                env=os.environ | {"PATH": path},
            )
        wait_until(self.has_all, "a default route, DNS and what is pushed", timeout_s=20)
        wait_until(self.answers, "the tunnel", timeout_s=20)

    def answers(self) -> bool:
        assert self.process is None or self.process.poll() is None, self.log()
        return answers_ping(self.client, INNER)

    def has_all(self) -> bool:
        """Whether the tunnel has everything that it is to have of the client's host."""
        return self.has_all_but_dns() and PUSHED_DNS in self.resolver_file.read_text()

    def has_all_but_dns(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, self.log()
        state = self.state()
        return (
            "default dev wg0" in state["routes -4"]
            and "10.7.0.0/16 dev wg0" in state["routes -4"]
            and "fwmark" in state["rules -4"]
            and "10.99.0.2/24" in state.get("interface wg0", "")
            and "fastun_wg0" in state["nft"]
        )

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        assert self.process is not None
        self.process.send_signal(number)
        assert self.process.wait(END_S) == 0, self.log()

    def kill(self) -> None:
        assert self.process is not None
        kill_all(self.client)
        self.process.wait(5)
        wait_until(lambda: not self.client.pids(), "all of it gone")

    def pid_of(self, title: str) -> int | None:
        assert self.process is not None
        if title == "gateway":
            return self.process.pid
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.Error):  # it has just died
                if child.cmdline()[:1] in ([f"fastun: {title}"], [f"fastun: {title}/0"]):
                    return child.pid
        return None

    def command(self, name: str) -> subprocess.Popen[bytes]:
        """Begin `fastun reload`, of another MTU, or `fastun disconnect`."""
        file = self.home / "client.toml"
        mtu = f"[interface]\nmtu = {random.randrange(1280, 1400)}\n"
        file.write_text(re.sub(r"\[interface\]\n(mtu.*\n)?", mtu, file.read_text()))
        return self.client.spawn(*FASTUN, name, "--run-dir", str(self.home))

    def left(self) -> list[str]:
        """Return what is not as before; a moment later, since interfaces go by themselves."""
        time.sleep(0.2)
        return differences(self.before, self.state())


@pytest.fixture
def scene(lab: Lab, tmp_path: Path) -> Iterator[Scene]:
    server, client = lab.host("server"), lab.host("client")
    for number in (1, 2):
        # fmt: off
        run_command("ip", "link", "add", f"up{number}", "netns", client.namespace, "type", "veth",
                    "peer", "name", f"down{number}", "netns", server.namespace)
        # fmt: on
        for host, name, last in ((server, "down", 1), (client, "up", 2)):
            host.ip("address", "add", f"10.{number}.0.{last}/24", "dev", f"{name}{number}")
            host.ip("link", "set", f"{name}{number}", "up")
    server.ip("address", "add", f"{SERVER}/32", "dev", "lo")
    client.ip("route", "add", "default", "via", "10.1.0.1")
    config = tmp_path / "server.toml"
    config.write_text(PUSH)
    serving = start_gateway(
        server, tmp_path, "serve", "-c", str(config), wire="wireguard", addresses=SERVER_ADDRESSES
    )
    wait_until(lambda: server.listens(55555), "the server listens", timeout_s=15)
    home = tmp_path / "home"
    home.mkdir()
    text = add_peer(serving, "client", SERVER, "both").read_text()
    accept = "name = 'wg0'\ntable = 'auto'\naccept = ['addresses', 'routes', 'mtu', 'dns']\n"
    text = re.sub("(?m)^address.*\n", "", text).replace("[interface]\n", f"[interface]\n{accept}")
    text = re.sub("(?m)^allowed_ips.*$", "allowed_ips = ['0.0.0.0/0', '::/0']", text)
    file = home / "client.toml"
    file.touch(0o600)
    file.write_text(text)
    program = home / "resolvconf"
    program.write_text(RESOLVCONF.format(saved=home / "saved"))
    program.chmod(0o755)
    with resolv_conf(client, LAN_DNS) as resolver_file:
        scene = Scene(server, client, home, resolver_file)
        scene.before = scene.state()
        yield scene
        print(scene.log())  # noqa: T201
        if scene.process is not None and scene.process.poll() is None:
            scene.process.kill()
            scene.process.wait(5)


def test_a_closed_terminal_leaves_nothing_behind(scene: Scene) -> None:
    ours, terminal = pty.openpty()
    scene.start("setsid", "--ctty", "--wait", stdin=terminal)
    os.close(terminal)
    os.close(ours)  # the kernel sends SIGHUP to all that runs in it
    assert scene.process is not None
    assert scene.process.wait(END_S) == 0, scene.log()
    assert scene.left() == []


@pytest.mark.parametrize("number", [signal.SIGQUIT, signal.SIGTERM])
def test_a_signal_leaves_nothing_behind(scene: Scene, number: signal.Signals) -> None:
    scene.start()
    scene.end(number)
    assert scene.left() == []


def test_a_kill_of_the_gateway_leaves_nothing_behind_and_it_starts_again_at_once(
    scene: Scene,
) -> None:
    scene.start()
    for number in (signal.SIGKILL, signal.SIGTERM):
        assert scene.process is not None
        scene.process.send_signal(number)
        assert scene.process.wait(END_S) in (0, -signal.SIGKILL), scene.log()
        if number == signal.SIGKILL:
            scene.start()
    wait_until(lambda: not scene.client.pids(), "all of it gone")
    assert scene.left() == []


def test_without_its_host_process_a_gateway_ends_and_the_next_run_leaves_nothing_behind(
    scene: Scene,
) -> None:
    scene.start()
    assert scene.process is not None
    (host_process,) = [
        child
        for child in psutil.Process(scene.process.pid).children()
        if child.cmdline()[:1] == ["fastun: host"]
    ]
    host_process.kill()
    assert scene.process.wait(END_S) == 1
    said = scene.log().splitlines()[-1]
    assert "fastun: the host process has ended by SIGKILL: nothing of this host can be" in said
    wait_until(lambda: not scene.client.pids(), "all of it gone")
    assert scene.left(), "rules, DNS"
    scene.start()
    scene.end()
    assert scene.left() == []


@pytest.mark.promise("After a SIGKILL of all processes the next start undoes what they have left")
def test_after_a_kill_of_all_processes_the_next_run_leaves_nothing_behind(scene: Scene) -> None:
    scene.start()
    scene.kill()
    assert scene.left(), "rules, DNS"
    scene.start()
    scene.end()
    assert scene.left() == []


@pytest.mark.promise("Killed in the middle of a reload or a disconnect, a client leaves nothing")
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", ["reload", "disconnect"])
def test_a_kill_in_the_middle_of_a_command_leaves_nothing_behind(scene: Scene, name: str) -> None:
    """Of the host process: the next start undoes what is left. Of a worker: nothing ends."""
    chance = random.Random()
    for title in KILLED * (5 if IS_LONG else 1):
        if scene.process is None or scene.process.poll() is not None:
            scene.start()
        assert scene.process is not None
        wait_until(lambda each=title: scene.pid_of(each) is not None, title)  # type: ignore[misc]
        pid, command, after_s = scene.pid_of(title), scene.command(name), chance.uniform(0.1, 0.6)
        assert pid is not None
        print(f"{title} is killed {after_s:.3f} s after {name}")  # noqa: T201
        time.sleep(after_s)
        with contextlib.suppress(ProcessLookupError):  # it was faster
            os.kill(pid, signal.SIGKILL)
        command.wait(40)
        if name == "disconnect" or title in ("gateway", "host"):
            code = scene.process.wait(END_S)
            wait_until(lambda: not scene.client.pids(), "all of it gone")
            assert title == "host" or scene.left() == []
            assert code == 0 or title in ("gateway", "host"), scene.log()
        else:
            wait_until(scene.has_all, "all of it again", timeout_s=20)
            wait_until(scene.answers, "the tunnel again", timeout_s=20)
    if scene.process is None or scene.process.poll() is not None:
        scene.start()
    scene.end()
    assert scene.left() == []
    assert "Traceback" not in scene.log()


def test_a_change_of_the_uplink_leaves_nothing_behind(scene: Scene) -> None:
    scene.start()
    scene.client.ip("route", "replace", "default", "via", "10.2.0.1")
    scene.client.ip("link", "set", "up1", "down")
    time.sleep(2)
    assert scene.has_all()
    scene.end()
    scene.client.ip("link", "set", "up1", "up")
    scene.client.ip("route", "replace", "default", "via", "10.1.0.1")
    assert scene.left() == []


@pytest.mark.promise("A suspend costs the host none of its routes, rules and DNS")
@pytest.mark.parametrize("asleep_s", [3, pytest.param(60, id="60", marks=pytest.mark.soak)])
def test_a_suspended_host_comes_back_and_leaves_nothing_behind(
    scene: Scene, asleep_s: float
) -> None:
    scene.start()
    asleep = scene.client.pids()
    for number in (signal.SIGSTOP, signal.SIGCONT):
        for pid in asleep:
            os.kill(pid, number)
        time.sleep(asleep_s if number == signal.SIGSTOP else 0)
    wait_until(scene.answers, "the tunnel again", timeout_s=15)
    assert scene.has_all()
    scene.end()
    assert scene.left() == []


@pytest.mark.timeout(600 + 150)
@pytest.mark.parametrize("gone_s", [3, pytest.param(600, id="600", marks=pytest.mark.soak)])
def test_a_network_that_was_gone_comes_back_and_nothing_is_left_behind(
    scene: Scene, gone_s: float
) -> None:
    scene.start()
    scene.client.ip("link", "set", "up1", "down")
    time.sleep(gone_s)
    assert scene.has_all(), "while the network is gone, nothing goes another way"
    scene.client.ip("link", "set", "up1", "up")
    scene.client.ip("route", "add", "default", "via", "10.1.0.1")
    wait_until(scene.answers, "the tunnel again", timeout_s=60)
    scene.end()
    assert scene.left() == []


@pytest.mark.promise("A device that is moved to another namespace works there")
def test_a_device_that_was_moved_to_another_namespace_works_there_and_leaves_nothing_behind(
    scene: Scene, lab: Lab
) -> None:
    away = lab.host("away")
    away.ip("link", "set", "lo", "up")
    scene.start()
    scene.client.ip("link", "set", "wg0", "netns", away.namespace)
    wait_until(lambda: answers_ping(away, INNER), "the tunnel, from there", timeout_s=15)
    assert "10.7.0.0/16 dev wg0" in away.ip("route"), "what is pushed"
    assert "default dev wg0" in away.ip("route")
    assert answers_ping(scene.client, SERVER), "the uplink is as before"
    assert scene.resolver_file.read_text() == f"nameserver {LAN_DNS}\n"
    away.ip("address", "flush", "dev", "wg0")
    wait_until(lambda: answers_ping(away, INNER), "made again there")
    assert "wg0 was moved to another network namespace; its addresses" in scene.log()
    away.ip("link", "set", "wg0", "netns", scene.client.namespace)
    wait_until(scene.has_all_but_dns, "all that it had before")
    wait_until(scene.answers, "the tunnel, from here")
    scene.end()
    assert away.devices() == ["lo"]
    assert scene.left() == []


def test_dns_servers_that_another_program_replaces_are_said(scene: Scene) -> None:
    scene.start()
    text = scene.resolver_file.read_text()
    time.sleep(5)  # it has seen ours
    scene.resolver_file.write_text(f"nameserver {LAN_DNS}\n")
    said = "/etc/resolv.conf: another program has replaced the tunnel's DNS servers"
    wait_until(lambda: said in scene.log(), "a warning")
    scene.resolver_file.write_text(text)
    wait_until(lambda: "the tunnel's DNS servers are back" in scene.log(), "back")
    assert scene.log().count(said) == 1
