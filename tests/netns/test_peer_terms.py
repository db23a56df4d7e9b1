"""The terms of a peer in a running tunnel: applied within a second, under its session.

server                                  client
fastun serve, ft0 10.99.0.1  ===veth=== fastun connect, ft0 10.99.0.2
             10.99.0.200 (on lo)
"""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from fastun.config.quantity import format_size
from fastun.lab.host import LabError, wait_until
from fastun.lab.network import Lab, missing_capability
from fastun.lab.traffic import answers_ping, iperf3, ping
from fastun.lab.tunnel import FASTUN, Tunnel, start_tunnel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INNER, BEHIND = "10.99.0.1", "10.99.0.200"
MBIT = 1e6


@dataclass
class Office:
    """A tunnel by UDP, and `fastun peer` on its server."""

    tunnel: Tunnel
    home: Path

    def peer(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Run `fastun peer` as the operator does: it finds the directory of what runs."""
        command = (sys.executable, "-m", "fastun", "peer", *arguments)
        return self.tunnel.server.host.run(*command, "--run-dir", str(self.home), check=check)

    def listed(self) -> dict[str, object]:
        (peer,) = json.loads(self.peer("list", "--json").stdout)
        return dict(peer)

    def counted(self, metric: str, **labels: str) -> float:
        return self.tunnel.server.scrape().total(metric, **labels)

    def dropped(self, role: str, reason: str) -> float:
        return self.counted("fastun_dropped_packets_total", role=role, reason=reason)

    def log(self) -> str:
        return self.tunnel.server.log_file.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    missing = missing_capability()
    if missing:
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        server, client = lab.host("server"), lab.host("client")
        lab.wire(server, client, ["10.0.0.1/24"], ["10.0.0.2/24"])
        server.ip("addr", "add", f"{BEHIND}/32", "dev", "lo")
        directory = tmp_path_factory.mktemp("office")
        tunnel = start_tunnel(server, client, "10.0.0.1", directory, transport="udp")
        tunnel.wait_up()
        office = Office(tunnel, directory / "server")
        yield office
        tunnel.client.stop()
        tunnel.server.stop()


@pytest.fixture
def here(office: Office) -> Iterator[Office]:
    """The office, whose peer is left as it was."""
    yield office
    usual = ("--limit", "none", "--quota", "none", "--to", "all", "--expire", "never")
    office.peer("set", "client", *usual)
    wait_until(lambda: answers_ping(office.tunnel.client.host, INNER), "the peer", timeout_s=20)


def test_no_change_of_terms_costs_the_peer_its_session_or_a_packet(here: Office) -> None:
    up = here.log().count("link: up") + here.log().count("up  ")
    pinging = here.tunnel.client.host.spawn(
        "ping", "-n", "-q", "-i", "0.02", INNER, stdout=subprocess.PIPE
    )
    changes = [
        ("limit", "client", "50Mbit"),
        ("quota", "client", "50GB"),
        ("to", "client", INNER),
        ("expire", "client", "30d"),
        ("note", "client", 'the "first" one'),
        ("rename", "client", "renamed"),
        ("rename", "renamed", "client"),
        ("note", "client", ""),
    ]
    for change in changes:
        assert "the gateway of ft0 has applied the change" in here.peer(*change).stderr
    pinging.send_signal(2)  # SIGINT: ping says what it has counted
    said = pinging.communicate(timeout=10)[0].decode()
    sent, received = re.search(r"(\d+) packets transmitted, (\d+) received", said).groups()  # type: ignore[union-attr]
    assert int(sent) > len(changes), "pings went on between the changes"
    assert int(sent) - int(received) <= 1, "the last one may be on its way"
    assert here.log().count("link: up") + here.log().count("up  ") == up


def test_a_limit_is_kept_from_above_and_filled_by_tcp(here: Office) -> None:
    """On a machine that has other work; the soak test below has the figures that are promised."""
    hosts = here.tunnel.client.host, here.tunnel.server.host
    here.peer("limit", "client", "20Mbit")
    for reverse in (False, True):
        rate = iperf3(*hosts, INNER, duration_s=2, reverse=reverse).bits_per_second
        assert 0.3 < rate / (20 * MBIT) < 1.06, "a burst is 50 ms"
    flood = iperf3(*hosts, INNER, duration_s=1, udp_bits_per_second=100 * MBIT, size_bytes=1200)
    assert flood.bits_per_second < 20 * MBIT * 1.2, "a second, 50 ms of burst, 100 ms of queue"
    assert here.dropped("link-reader", "rate_limit") > 0
    limited = here.counted("fastun_peer_limited_packets_total", direction="inbound")
    assert limited == here.dropped("link-reader", "rate_limit")


@pytest.mark.soak
@pytest.mark.alone
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mbit", [1, 10, 100, 1000])
@pytest.mark.parametrize("reverse", [False, True], ids=["inbound", "outbound"])
def test_tcp_fills_95_percent_of_a_limit(here: Office, mbit: int, *, reverse: bool) -> None:
    hosts = here.tunnel.client.host, here.tunnel.server.host
    here.peer("limit", "client", f"{mbit}Mbit")
    rate = iperf3(*hosts, INNER, duration_s=10, reverse=reverse).bits_per_second
    assert 0.95 <= rate / (mbit * MBIT) <= 1.03


def test_a_peer_reaches_only_what_it_may(here: Office) -> None:
    client = here.tunnel.client.host
    assert answers_ping(client, BEHIND)
    here.peer("to", "client", f"{INNER}/32", "192.0.2.0/24")
    assert answers_ping(client, INNER)
    assert not answers_ping(client, BEHIND)
    assert here.dropped("link-reader", "not_permitted") > 0
    assert here.counted("fastun_peer_not_permitted_packets_total", peer="client") > 0
    here.peer("to", "client", "10.99.0.0/24")
    assert answers_ping(client, BEHIND)


def test_a_quota_that_is_used_up_cuts_off_until_it_is_raised(here: Office) -> None:
    client = here.tunnel.client.host
    here.peer("quota", "client", "1GB")

    def used() -> int:
        return int(here.counted("fastun_peer_quota_used_bytes", peer="client"))

    wait_until(lambda: answers_ping(client, INNER) and used() > 0, "what was used", timeout_s=20)
    quota = (used() // 1000 + 30) * 1000  # tests before this one have used some
    here.peer("quota", "client", f"{quota // 1000}kB")
    with contextlib.suppress(LabError):
        ping(client, INNER, n=30, interval_s=0.02, size_bytes=1000)
    wait_until(lambda: "has used up its quota" in here.log(), "the quota")
    assert not answers_ping(client, INNER)
    assert here.dropped("link-reader", "quota") > 0
    assert used() >= quota
    assert f"of {format_size(quota)}" in here.tunnel.server.host.run(
        *FASTUN, "status", "--run-dir", str(here.home)
    ).stdout.replace("of its quota of", "of")
    assert int(str(here.listed()["quota_used_bytes"])) >= quota
    refused = here.peer("set", "client", "--quota", "1kB", check=False)
    assert refused.returncode in (0, 2)  # what was used is saved every 30 s
    here.peer("quota", "client", "1GB")
    assert answers_ping(client, INNER)
    assert here.log().count("has used up its quota") == 1


def test_a_disabled_and_an_expired_peer_are_cut_off_and_said(here: Office) -> None:
    client = here.tunnel.client.host
    here.peer("disable", "client")
    assert not answers_ping(client, INNER)
    wait_until(lambda: "refused: the peer is disabled" in here.log(), "a refusal", timeout_s=20)
    here.peer("enable", "client")
    wait_until(lambda: answers_ping(client, INNER), "the peer", timeout_s=20)
    here.peer("expire", "client", "0.05min")
    assert "access ends soon" in here.log()
    wait_until(lambda: "it is expired" in here.log(), "the end")
    assert not answers_ping(client, INNER)
    assert "expired" in here.peer("list").stdout


def test_the_list_shows_what_runs_in_80_columns(here: Office) -> None:
    here.peer("limit", "client", "10Mbit")
    lines = here.peer("list").stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert re.search(r"^client .* [0-9.]+ k?M?G?B  ", lines[1])
    assert "client: limit 10 Mbit/s" in lines[-1]
    assert here.listed()["up"] is True


def test_of_two_servers_one_has_to_be_chosen(here: Office) -> None:
    host = here.tunnel.server.host
    other = host.spawn(
        *(*FASTUN, "serve", "-i", "ft1", "--address", "10.98.0.1/24", "--metrics", "off"),
        *("--listen", "udp://127.0.0.1:51999", "--state", str(here.home / "other")),
        *("--run-dir", str(here.home)),
    )
    wait_until((here.home / "ft1.sock").exists, "the other server", timeout_s=15)
    refused = here.peer("list", check=False)
    assert refused.returncode == 2
    assert "several servers run; choose one with -i NAME or --state DIR" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    assert "client" in here.peer("list", "-i", "ft0").stdout
    assert "no peers in" in here.peer("list", "-i", "ft1").stderr
    other.terminate()
    assert other.wait(10) == 0


def test_new_keys_cut_off_the_old_file(office: Office) -> None:
    """The last of these tests: the client has no file afterwards."""
    client = office.tunnel.client.host
    text = office.peer("rekey", "client").stdout
    assert "private_key" in text
    assert not answers_ping(client, INNER)
    file = office.home / "again.toml"
    file.touch(0o600)
    file.write_text(text)
    office.tunnel.client.stop()
    again = client.spawn(
        *(*FASTUN, "connect", str(file), "-i", "ft0", "--metrics", "off"),
        *("--state", str(office.home / "again"), "--run-dir", str(office.home / "run")),
    )
    wait_until(lambda: answers_ping(client, INNER), "the new keys", timeout_s=20)
    again.terminate()
    assert again.wait(10) == 0
