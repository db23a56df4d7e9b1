"""Why a client cannot connect: each cause, and what both sides log, show and count.

The rows of the table in docs/operations.md; tests/support/faulty_clients.py has the topology. Other
rows: tests/fault/test_one_key_on_two_hosts.py, tests/netns/test_path_mtu.py, test_late_names.py.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest

from fastun.lab.network import Lab, missing_capability
from fastun.lab.tunnel import PORT, UDP_PORT
from fastun.link.attempts import REPEAT_FIRST_S
from tests.support.faulty_clients import (
    BLOCKED,
    CLOSED,
    DROPPED,
    PROHIBITED,
    REJECTED,
    Faulty,
    last_error,
    lines,
    more_peers,
    status,
    wait_for_line,
    with_endpoint,
    with_other_key,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.lab.tunnel import GatewayProcess

CANNOT = "cannot connect"
SAID_WITHIN_S = 20.0
CHARACTERS_MAX = 240


@pytest.fixture(scope="module")
def faulty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Faulty]:
    """All clients; a test waits for what it looks for, and most of it is there by then."""
    missing = missing_capability()
    if missing:
        pytest.skip(f"network namespaces and tunnels need {missing}")
    with Lab() as lab:
        faulty = Faulty.begin(lab, tmp_path_factory.mktemp("why"))
        start_clients(faulty)
        yield faulty
        for gateway in (faulty.server, *faulty.clients.values()):
            print(f"--- {gateway.host.name}", *gateway.log_tail(40), sep="\n")  # noqa: T201
            gateway.check_alive()


def start_clients(faulty: Faulty) -> None:
    host, address = faulty.host("secret")
    faulty.start(host, with_other_key(faulty.file_of("secret", address), "preshared_key"))

    host, address = faulty.host("clock")
    text = faulty.file_of("clock", address)
    faulty.replay_of_tomorrow(host, address, text)
    faulty.start(host, text)

    host, address = faulty.host("many")
    text = with_other_key(faulty.file_of("many", address), "private_key")
    others = {
        "wrong-key": f"udp://{address}:{UDP_PORT}",
        "wrong-address": f"udp://{address.removesuffix('1')}77:{UDP_PORT}",
        "dropped": f"udp://{address}:{DROPPED}",
        "rejected": f"udp://{address}:{REJECTED}",
        "prohibited": f"udp://{address}:{PROHIBITED}",
        "blocked": f"udp://{address}:{BLOCKED}",
        "closed": f"udp://{address}:{CLOSED}",
        "no-route": f"udp://192.0.2.1:{UDP_PORT}",
        "elsewhere": f"udp://198.51.100.1:{UDP_PORT}",
        "no-name": f"udp://vpn.invalid:{UDP_PORT}",
    }
    host.ip("route", "add", "198.51.100.0/24", "via", address)  # which does not forward
    host.run("nft", "add", "table", "inet", "own")
    hook = "{ type filter hook output priority 0; }"
    host.run("nft", "add", "chain", "inet", "own", "output", hook)
    host.run("nft", "add", "rule", "inet", "own", "output", "udp", "dport", str(BLOCKED), "drop")
    faulty.start(host, text + more_peers(others))

    host, address = faulty.host("stream")
    text = with_other_key(faulty.file_of("stream", address, "tcp"), "private_key")
    faulty.start(host, text)

    host, address = faulty.host("both")
    text = faulty.file_of("both", address, "both")
    faulty.start(host, with_endpoint(text, f"udp://{address}:{DROPPED}", f"tcp://{address}:9"))

    host, address = faulty.host("stream-secret")
    text = faulty.file_of("stream-secret", address, "tcp")
    faulty.start(host, with_other_key(text, "preshared_key"))

    host, address = faulty.host("deaf")
    host.run("nft", "add", "table", "inet", "own")
    hook = "{ type filter hook input priority 0; }"
    host.run("nft", "add", "chain", "inet", "own", "input", hook)
    host.run("nft", "add", "rule", "inet", "own", "input", "udp", "sport", str(UDP_PORT), "drop")
    faulty.start(host, faulty.file_of("deaf", address))

    host, address = faulty.host("fallback")
    text = faulty.file_of("fallback", address, "both")
    urls = (f"udp://{address}:{DROPPED}", f"tcp://{address}:{PORT}")
    faulty.start(host, with_endpoint(text, *urls))

    host, address = faulty.host("stream-server-key")
    text = faulty.file_of("stream-server-key", address, "tcp")
    faulty.start(host, with_other_key(text, "public_key"))

    host, address = faulty.host("stream-clock")
    text = faulty.file_of("stream-clock", address, "tcp")
    faulty.replay_of_tomorrow(host, address, text, "tcp")
    faulty.start(host, text)


def of_many(faulty: Faulty, peer: str) -> str:
    line = wait_for_line(faulty.clients["many"], CANNOT, f"peer={peer} ")
    assert len(line) <= CHARACTERS_MAX
    return line


def n_errors(gateway: GatewayProcess, peer: str, reason: str) -> float:
    return gateway.scrape().total("fastun_peer_errors_total", peer=peer, reason=reason)


def assert_shown(gateway: GatewayProcess, peer: str, reason: str) -> None:
    """Check last_error in status, its JSON, and the metrics."""
    error = last_error(gateway, peer)
    assert error["reason"] == reason
    assert abs(error["unix_seconds"] - time.time()) < 60
    # Figures in it may be those of the next attempt by now.
    text = re.sub(r"\\?\d+", r"\\d+", re.escape(f"{peer}: {error['text']}"))
    assert re.search(text, status(gateway, "--all").replace("\n", " "))
    scraped = gateway.scrape()
    name = "fastun_peer_last_error_timestamp_seconds"
    assert scraped.total(name, peer=peer, reason=reason) > time.time() - 60
    assert n_errors(gateway, peer, reason) >= 1


def test_an_unregistered_key(faulty: Faulty) -> None:
    line = of_many(faulty, "server")
    assert "came_back=nothing" in line
    assert "port or key" in line
    refused = wait_for_line(faulty.server, "no peer here has this public key", "10.0.2.2")
    key = refused.split("key=")[1].split()[0]
    assert f"(ours: {key})" in line, "both sides name the same letters of the key"
    assert_shown(faulty.clients["many"], "server", "no_answer")
    assert faulty.server.scrape().total("fastun_handshakes_total", result="unknown_peer") >= 2


def test_a_wrong_public_key_of_the_server(faulty: Faulty) -> None:
    line = of_many(faulty, "wrong-key")
    assert "came_back=nothing" in line
    assert "port or key" in line
    assert "our_key=" in wait_for_line(faulty.server, "for another public key than ours")
    dropped = faulty.server.scrape().total("fastun_dropped_packets_total", reason="bad_mac1")
    assert dropped >= 2
    assert re.search(r"^handshakes +[0-9]+ refused", status(faulty.server), re.MULTILINE)


def test_another_preshared_key(faulty: Faulty) -> None:
    client = faulty.clients["secret"]
    line = wait_for_line(client, CANNOT)
    assert "came_back=a response that does not open".replace("=a", "='a") in line
    assert "our pre-shared key differs" in line
    wait_for_line(faulty.server, "does not confirm our responses", "peer=secret")
    assert_shown(client, "server", "not_opened")
    assert_shown(faulty.server, "secret", "not_confirmed")


def test_another_preshared_key_on_tcp(faulty: Faulty) -> None:
    assert "our pre-shared key differs" in wait_for_line(faulty.clients["stream-secret"], CANNOT)
    wait_for_line(faulty.server, "does not confirm our responses", "peer=stream-secret")


def test_a_clock_that_was_set_back(faulty: Faulty) -> None:
    line = wait_for_line(faulty.server, "clock is behind", "peer=clock")
    behind_s = int(line.split("behind_s=")[1].split()[0])
    assert 3480 <= behind_s <= 3600  # the attempt came some seconds later
    said = wait_for_line(faulty.clients["clock"], CANNOT)
    assert "clock set back" in said
    assert_shown(faulty.server, "clock", "old_timestamp")
    assert_shown(faulty.clients["clock"], "server", "no_answer")


def test_a_wrong_public_key_of_the_server_on_tcp(faulty: Faulty) -> None:
    client = faulty.clients["stream-server-key"]
    line = wait_for_line(client, CANNOT)
    assert "closed after our handshake, unanswered" in line
    assert "or of the server here" in line
    assert "our_key=" in wait_for_line(faulty.server, "for another public key than ours")
    assert_shown(client, "server", "closed")
    assert faulty.server.scrape().total("fastun_handshakes_total", result="bad_mac1") >= 1


def test_a_clock_that_was_set_back_on_tcp(faulty: Faulty) -> None:
    wait_for_line(faulty.server, "clock is behind", "peer=stream-clock")
    client = faulty.clients["stream-clock"]
    assert "clock set back" in wait_for_line(client, CANNOT)
    assert_shown(faulty.server, "stream-clock", "old_timestamp")
    assert_shown(client, "server", "closed")


def test_a_wrong_address(faulty: Faulty) -> None:
    line = of_many(faulty, "wrong-address")
    assert "10.0.2.77:51820 via to-server" in line
    assert "host unreachable" in line
    assert "wrong address" in line
    assert_shown(faulty.clients["many"], "wrong-address", "unreachable")


def test_a_firewall_that_drops(faulty: Faulty) -> None:
    line = of_many(faulty, "dropped")
    assert "came_back=nothing" in line
    assert "firewall" in line


def test_a_server_that_is_not_there(faulty: Faulty) -> None:
    line = of_many(faulty, "elsewhere")
    assert "198.51.100.1:51820 via to-server" in line
    assert "came_back=nothing" in line
    assert "server down" in line
    assert_shown(faulty.clients["many"], "elsewhere", "no_answer")


def test_a_name_that_is_wrong(faulty: Faulty) -> None:
    wait_for_line(faulty.clients["many"], "name", "vpn.invalid")
    assert_shown(faulty.clients["many"], "no-name", "name")


def test_a_firewall_that_drops_the_answers(faulty: Faulty) -> None:
    wait_for_line(faulty.server, "does not confirm our responses", "peer=deaf")
    assert "came_back=nothing" in wait_for_line(faulty.clients["deaf"], CANNOT)
    assert_shown(faulty.server, "deaf", "not_confirmed")


def test_udp_that_is_blocked_while_tcp_is_not(faulty: Faulty) -> None:
    client = faulty.clients["fallback"]
    line = wait_for_line(client, "UDP does not get through; the link is on TCP")
    assert f"udp 10.0.7.1:{DROPPED}" in line
    assert last_error(client, "server") is None
    assert lines(client, CANNOT) == []


@pytest.mark.parametrize(
    ("peer", "came_back", "reason"),
    [
        ("rejected", "ICMP port unreachable from the server", "port_closed"),
        ("closed", "ICMP port unreachable from the server", "port_closed"),
        ("prohibited", "ICMP administratively prohibited from the server", "prohibited"),
        ("blocked", "operation not permitted", "blocked_here"),
        ("no-route", "no route", "no_route"),
    ],
)
def test_what_says_no(faulty: Faulty, peer: str, came_back: str, reason: str) -> None:
    assert came_back in of_many(faulty, peer)
    assert_shown(faulty.clients["many"], peer, reason)


def test_an_unregistered_key_on_tcp(faulty: Faulty) -> None:
    line = wait_for_line(faulty.clients["stream"], CANNOT)
    assert "closed after our handshake, unanswered" in line
    assert "wrong key there (ours:" in line
    wait_for_line(faulty.server, "no peer here has this public key", "10.0.3.2")
    assert_shown(faulty.clients["stream"], "server", "closed")


def test_both_transports_are_one_warning(faulty: Faulty) -> None:
    line = wait_for_line(faulty.clients["both"], CANNOT)
    assert "tried='tcp 10.0.4.1:9 via" in line
    assert f", udp {DROPPED}'" in line
    assert "udp: nothing" in line
    assert "tcp: connection refused" in line
    said_after_s = [
        int(each.partition("for_s=")[2].split()[0])
        for each in lines(faulty.clients["both"], CANNOT)
    ]
    assert said_after_s[0] < REPEAT_FIRST_S
    assert all(after_s >= REPEAT_FIRST_S for after_s in said_after_s[1:])


def test_the_server_does_not_speak_of_its_clients_as_of_servers(faulty: Faulty) -> None:
    wait_for_line(faulty.server, "does not confirm our responses", "peer=deaf")
    assert lines(faulty.server, CANNOT) == []
