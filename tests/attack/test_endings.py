"""Ending: whatever signal asks, however often, and whatever hangs, the host is as it was before.

Each gateway has a host of its own, a default route with its rules, and a resolvconf that is made to
be slow or to hang, with a child that keeps its pipes open. Those of one test run side by side.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pty
import random
import signal
import subprocess
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from fastun.lab.host import wait_until
from fastun.lab.tunnel import FASTUN, SERVER_ADDRESSES, add_peer, start_gateway
from fastun.session import keys
from tests.support.host_state import differences, host_state, is_host_process

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastun.lab.host import Host
    from fastun.lab.network import Lab

# SIGHUP is none without a terminal.
SIGNALS = [signal.SIGTERM, signal.SIGINT, signal.SIGQUIT]
ONCE, TWICE = 1, 2
CONFIG = f"""
[Interface]
PrivateKey = {keys.format_key(keys.generate_private())}
Address = 10.9.0.2/24, fd00:9::2/64
DNS = 10.9.0.1
[Peer]
PublicKey = {keys.format_key(keys.public_of(keys.generate_private()))}
Endpoint = 198.51.100.1:51820
AllowedIPs = 0.0.0.0/0, ::/0
"""
# The sleep is a child of the shell's: to kill the shell alone would leave it.
RESOLVCONF = """#!/bin/sh
echo "$1 begun" >> {record}
case $1 in {cases} esac
echo "$1 done" >> {record}
"""

ALL_ACTS = ["-a begun", "-a done", "-d begun", "-d done"]

#: A gateway promises to be gone within so long, whatever hangs.
END_LIMIT_S = 15.0
#: And the rules, which are what leads packets nowhere, do not wait for what hangs.
RULES_LIMIT_S = 4.0


@dataclass(eq=False)
class Victim:
    """A gateway on a host of its own."""

    host: Host
    home: Path
    rules_before: str = ""
    state_before: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] = field(init=False)
    asked: float = 0.0  # time.monotonic()
    rules_gone_s: float = 0.0
    ended_s: float = 0.0

    def rules(self) -> str:
        return self.host.ip("-4", "rule") + self.host.ip("-6", "rule")

    def log(self) -> str:
        log = self.home / "log"
        return log.read_text(errors="replace") if log.exists() else ""

    def acts(self) -> list[str]:
        record = self.home / "record"
        return record.read_text().splitlines() if record.exists() else []

    def ask(self, number: signal.Signals) -> None:
        self.asked = self.asked or time.monotonic()
        self.process.send_signal(number)

    def start(
        self, *prefix: str, target: str | None = None, stdin: int = subprocess.DEVNULL
    ) -> None:
        target = target or str(self.home / "wg0.conf")
        path = os.pathsep.join([str(self.home / "bin"), os.environ["PATH"]])
        home = str(self.home)
        with (self.home / "log").open("ab") as stderr:
            self.process = self.host.spawn(
                # A background job of a shell has SIGINT and SIGQUIT ignored.
                *("env", "--default-signal", *prefix, *FASTUN, "connect", target),
                *("--state", home, "--run-dir", home, "--metrics", "off"),
                stdin=stdin,
                stderr=stderr,
                env=os.environ | {"PATH": path},
            )

    def is_up(self) -> bool:
        assert self.process.poll() is None, self.log()
        return "up  interface" in self.log()

    def left(self) -> list[str]:
        """Return what it has left on the host."""
        left = differences(self.state_before, host_state(self.host))
        if pids := self.host.pids():
            left.append(f"processes {pids}")
        left += [path.name for path in self.home.glob("*.sock")]
        return left


@pytest.fixture
def make(lab: Lab, tmp_path: Path) -> Iterator[Callable[..., Victim]]:
    """A function that makes a host; it takes what resolvconf does for -a and -d."""
    serial = itertools.count()
    victims = []

    def one(**acts: str) -> Victim:
        host = lab.host(f"v{next(serial)}")
        home = tmp_path / host.name
        (home / "bin").mkdir(parents=True)
        cases = " ".join(f"-{letter}) {act};;" for letter, act in acts.items())
        program = home / "bin" / "resolvconf"
        program.write_text(RESOLVCONF.format(record=home / "record", cases=cases))
        program.chmod(0o755)
        config = home / "wg0.conf"
        config.touch(0o600)
        config.write_text(CONFIG)
        victim = Victim(host, home)
        victim.rules_before, victim.state_before = victim.rules(), host_state(host)
        victims.append(victim)
        return victim

    yield one
    for victim in victims:
        print(f"--- {victim.host.name}", *victim.acts(), victim.log(), sep="\n")  # noqa: T201


def start_all(victims: list[Victim]) -> None:
    for victim in victims:
        victim.start()
    for victim in victims:
        wait_until(victim.is_up, "up", timeout_s=40)
        assert victim.rules() != victim.rules_before


def await_ends(victims: list[Victim]) -> None:
    """Wait for all to end; note when their rules were gone, and when they were."""
    running = list(victims)
    deadline = time.monotonic() + END_LIMIT_S + 5
    while running:
        assert time.monotonic() < deadline, running[0].log()
        for victim in list(running):
            now = time.monotonic() - victim.asked
            if not victim.rules_gone_s and victim.rules() == victim.rules_before:
                victim.rules_gone_s = now
            if victim.process.poll() is not None:
                victim.ended_s = now
                running.remove(victim)
        time.sleep(0.02)


def ask_all(asked: list[tuple[Victim, signal.Signals, int]], act: str = "-d begun") -> None:
    """Ask each once, and some again while they are cleaning up: twice, at once and later."""
    for victim, number, _ in asked:
        victim.ask(number)
    again = [(victim, number) for victim, number, times in asked if times == TWICE]
    for victim, number in again:
        wait_until(lambda: act in victim.acts(), "cleaning up")  # noqa: B023
        for _ in range(3):
            victim.ask(number)
            time.sleep(0.01)
        victim.process.send_signal(signal.SIGTERM)


# -- while it runs ----------------------------------------------------------------------------


def test_every_signal_once_and_twice_leaves_the_host_as_it_was(make: Callable[..., Victim]) -> None:
    asked = [(make(d="sleep 1"), number, TWICE) for number in SIGNALS]
    asked += [(make(), signal.SIGQUIT, ONCE), (make(), signal.SIGUSR1, ONCE)]
    start_all([victim for victim, *_ in asked])
    ask_all(asked)
    await_ends([victim for victim, *_ in asked])
    for victim, number, times in asked:
        assert victim.process.returncode == 0, (number, times, victim.log())
        assert victim.left() == []
        assert victim.acts() == ALL_ACTS, "cut in half"
        assert list((victim.home / "journal").glob("*.jsonl")) == []


def test_a_resolver_that_hangs_at_the_end_keeps_nothing_and_is_said(
    make: Callable[..., Victim],
) -> None:
    asked = [
        (make(d="sleep 60"), number, times)
        for number, times in itertools.product(SIGNALS, (ONCE, TWICE))
    ]
    start_all([victim for victim, *_ in asked])
    starting = make(a="sleep 60", d="sleep 60")  # one that hangs at the start as well
    starting.start()
    wait_until(partial(_has_begun, starting), "resolvconf -a", timeout_s=30)
    asked.append((starting, signal.SIGTERM, ONCE))
    ask_all(asked)
    await_ends([victim for victim, *_ in asked])
    for victim, number, times in asked:
        assert victim.process.returncode == 1, (number, times, victim.log())
        assert victim.left() == []
        assert victim.log().splitlines()[-1] == (
            "fastun: could not restore DNS settings: resolvconf: not finished within 8 s; "
            "run 'resolvconf -d wg0 -f'"
        )
        assert len(list((victim.home / "journal").glob("*.jsonl"))) == 1, "for the next start"
    rules_gone_s = max(victim.rules_gone_s for victim, *_ in asked)
    ended_s = max(victim.ended_s for victim, *_ in asked)
    print(f"rules gone after {rules_gone_s:.1f} s, gateway after {ended_s:.1f} s")  # noqa: T201
    assert rules_gone_s < RULES_LIMIT_S
    assert ended_s < END_LIMIT_S


def test_a_gateway_s_changes_are_undone_by_the_next_start_if_its_host_process_was_killed_too(
    make: Callable[..., Victim],
) -> None:
    victim = make()
    start_all([victim])
    victim.process.send_signal(signal.SIGSTOP)  # or it would end by itself, in order
    (host,) = (each for each in victim.host.pids() if is_host_process(each))
    os.kill(host, signal.SIGKILL)
    victim.process.kill()
    victim.process.wait(5)
    wait_until(lambda: "wg0" not in victim.host.devices(), "device gone")
    wait_until(lambda: not victim.host.pids(), "workers gone")
    left = victim.left()
    for what in ("rules -4", "rules -6", "src_valid_mark", "nft", "wg0.sock"):
        assert any(what in each for each in left), what
    (victim.home / "log").write_text("")
    # One that cannot come up undoes them as well.
    bad = victim.home / "bad.conf"
    bad.touch(0o600)
    bad.write_text(CONFIG)
    victim.host.ip("link", "add", "bad", "type", "bridge")
    victim.start(target=str(bad))
    assert victim.process.wait(20) == 1
    victim.host.ip("link", "del", "bad")
    (victim.home / "wg0.sock").unlink()
    assert victim.left() == []
    assert victim.acts() == ALL_ACTS
    assert "undoing the changes of a killed fastun" in victim.log()


# -- while it starts --------------------------------------------------------------------------


def test_a_signal_ends_a_start_that_hangs(make: Callable[..., Victim]) -> None:
    asked = [
        (make(a="sleep 60"), number, times)
        for number, times in itertools.product(SIGNALS, (ONCE, TWICE))
    ]
    victims = [victim for victim, *_ in asked]
    for victim in victims:
        victim.start()
    for victim in victims:
        wait_until(partial(_has_begun, victim), "resolvconf -a", timeout_s=30)
    ask_all(asked)
    await_ends(victims)
    for victim in victims:
        assert victim.process.returncode == 0, victim.log()
        assert victim.left() == []
        assert victim.acts() == ["-a begun", "-d begun", "-d done"]
    slowest_s = max(victim.ended_s for victim in victims)
    print(f"ended after {slowest_s:.1f} s")  # noqa: T201
    assert slowest_s < RULES_LIMIT_S


def _has_begun(victim: Victim) -> bool:
    assert victim.process.poll() is None, victim.log()
    return "-a begun" in victim.acts()


@pytest.mark.parametrize(
    "rounds", [pytest.param(2, id="short"), pytest.param(30, id="long", marks=pytest.mark.soak)]
)
def test_no_moment_of_a_start_or_an_end_is_a_bad_one_for_signals(
    make: Callable[..., Victim], rounds: int
) -> None:
    """Signals from the first instant to the last, of all kinds, some milliseconds apart.

    While Python itself starts they end it as they end any program: nothing is changed yet.
    """
    dice = random.Random(1)
    victims = [make() for _ in range(4)]
    for _ in range(rounds):
        for victim in victims:
            victim.start()
        time.sleep(dice.uniform(0, 2.5))
        deadline = time.monotonic() + END_LIMIT_S
        while running := [victim for victim in victims if victim.process.poll() is None]:
            assert time.monotonic() < deadline
            dice.choice(running).process.send_signal(dice.choice(SIGNALS))
            time.sleep(dice.uniform(0, 0.05))
        for victim in victims:
            if victim.acts():
                assert victim.process.returncode == 0, victim.log()
            assert victim.left() == []
            assert victim.acts() in ([], ["-a begun", "-d begun", "-d done"], ALL_ACTS)
            (victim.home / "record").unlink(missing_ok=True)


def test_what_a_server_pushes_does_not_hold_up_the_end(
    lab: Lab, make: Callable[..., Victim], tmp_path: Path
) -> None:
    """DNS is being set, on a thread beside the event loop, when the signal comes."""
    victim, server = make(a="sleep 60"), lab.host("server")
    lab.wire(server, victim.host, ["10.1.0.1/24"], ["10.1.0.2/24"])
    victim.state_before = host_state(victim.host)
    config = tmp_path / "server.toml"
    config.write_text("[push]\ndns = ['10.99.0.1']\n")
    serving = start_gateway(
        server, tmp_path, "serve", "-c", str(config), wire="wireguard", addresses=SERVER_ADDRESSES
    )
    wait_until(partial(server.listens, 55555), "the server listens", timeout_s=30)
    file = add_peer(serving, "client", "10.1.0.1", "udp")
    file.write_text(
        file.read_text().replace("[interface]\n", "[interface]\nname = 'wg0'\naccept = ['dns']\n")
    )
    victim.start(target=str(file))
    wait_until(partial(_has_begun, victim), "pushed DNS", timeout_s=30)
    for _ in range(2):
        victim.ask(signal.SIGTERM)
        time.sleep(0.05)
    await_ends([victim])
    assert victim.process.returncode == 0, victim.log()
    assert victim.left() == []
    assert victim.acts() == ["-a begun", "-d begun", "-d done"]
    assert victim.ended_s < RULES_LIMIT_S
    assert serving.stop() == 0


# -- terminals and what was ignored -----------------------------------------------------------


def test_what_was_ignored_at_the_start_stays_ignored(make: Callable[..., Victim]) -> None:
    victim = make()
    victim.start("nohup")
    wait_until(victim.is_up, "up", timeout_s=40)
    victim.process.send_signal(signal.SIGHUP)
    time.sleep(0.5)
    assert victim.is_up()
    victim.ask(signal.SIGTERM)
    await_ends([victim])
    assert victim.process.returncode == 0
    assert victim.left() == []


def test_a_service_manager_s_signal_to_all_processes_ends_one_gateway_in_order(
    make: Callable[..., Victim],
) -> None:
    victim = make(d="sleep 1")
    start_all([victim])
    victim.ask(signal.SIGTERM)
    for pid in victim.host.pids():
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    await_ends([victim])
    assert victim.process.returncode == 0, victim.log()
    assert victim.left() == []
    assert victim.acts() == ALL_ACTS


@pytest.mark.parametrize("how", ["^C", "hang-up"])
def test_a_terminal_s_signals_to_all_its_processes_end_one_gateway_in_order(
    make: Callable[..., Victim], how: str
) -> None:
    victim = make(d="sleep 1")
    ours, terminal = pty.openpty()
    victim.start("setsid", "--ctty", "--wait", stdin=terminal)
    os.close(terminal)
    wait_until(victim.is_up, "up", timeout_s=40)
    victim.asked = time.monotonic()
    if how == "hang-up":
        os.close(ours)
    else:
        os.write(ours, b"\x03")
        wait_until(lambda: "-d begun" in victim.acts(), "cleaning up")
        os.write(ours, b"\x03\x1c\x03")
    await_ends([victim])
    assert victim.process.returncode == 0, victim.log()
    assert victim.left() == []
    assert victim.acts() == ALL_ACTS
    assert "worker died" not in victim.log()
    if how == "^C":
        os.close(ours)
