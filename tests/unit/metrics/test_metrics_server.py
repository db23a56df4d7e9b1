"""The metrics address in front of an idle gateway: paths, formats, and limits."""

from __future__ import annotations

import errno
import http.client
import selectors
import socket
import socketserver
import sys
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from fastun import log
from fastun.bounded_server import CLIENTS_MAX
from fastun.errors import RuntimeFailure
from fastun.host.dns.state import DnsState
from fastun.host.sockets.maker import OWN
from fastun.lab.host import wait_until
from fastun.metrics import server as metric_server
from tests.support.descriptors import no_descriptor_left
from tests.support.idle_gateway import idle_gateway, set_ready, settings_for, viewing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.gateway.gateway import Gateway


@pytest.fixture
def gateway() -> Iterator[Gateway]:
    with idle_gateway() as idle:
        yield idle


@contextmanager
def serve(gateway: Gateway, listen: tuple[str, int] | None) -> Iterator[None]:
    with viewing(gateway) as viewer, metric_server.serve(listen, viewer.view, viewer.health):
        yield


def free_port(host: str = "127.0.0.1") -> int:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def ask(
    port: int, path: str, method: str = "GET", host: str = "127.0.0.1"
) -> tuple[int, str, dict[str, str]]:
    connection = http.client.HTTPConnection(host, port, timeout=5)
    connection.request(method, path)
    response = connection.getresponse()
    headers = {name.lower(): value for name, value in response.getheaders()}
    body = response.read().decode()
    connection.close()
    return response.status, body, headers


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_all_paths_answer_on_either_family(gateway: Gateway, host: str) -> None:
    port = free_port()
    with serve(gateway, (host, port)):
        status, body, headers = ask(port, "/metrics", host=host)
        assert status == 200
        assert headers["content-type"].startswith("text/plain; version=")
        found = {family.name for family in text_string_to_metric_families(body)}
        assert {"fastun_info", "fastun_packets", "process_start_time_seconds"} <= found
        assert ask(port, "/healthz", host=host)[0] == 503
        set_ready(gateway)
        assert ask(port, "/healthz", host=host)[:2] == (200, "all workers run\n")
        assert ask(port, "/readyz", host=host)[:2] == (200, "ready\n")


def test_connect_is_ready_only_with_a_link() -> None:
    port = free_port()
    with (
        idle_gateway(settings_for("connect", "tcp://192.0.2.1")) as gateway,
        serve(gateway, ("127.0.0.1", port)),
    ):
        set_ready(gateway)
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/readyz")[:2] == (503, "no link\n")
        gateway.lanes.first.workers["tun-writer"].is_ready = False
        assert ask(port, "/readyz")[:2] == (503, "not at work: tun-writer/0\n")


def test_names_that_are_not_looked_up_are_said_and_keep_nothing_from_passing(
    gateway: Gateway,
) -> None:
    port = free_port()
    set_ready(gateway)
    with serve(gateway, ("127.0.0.1", port)):
        assert "\nfastun_dns_up" not in ask(port, "/metrics")[1], "a tunnel without DNS servers"
        for fault, body, value in (
            (
                "192.0.2.1 does not answer",
                "ready\nDNS does not work: 192.0.2.1 does not answer\n",
                0,
            ),
            ("", "ready\n", 1),
        ):
            state = DnsState(("192.0.2.1",), (), "file", fault)
            gateway.device.name_servers.state = state  # type: ignore[misc]
            assert ask(port, "/readyz")[:2] == (200, body)
            assert f"\nfastun_dns_up {value}.0\n" in ask(port, "/metrics")[1]


def test_a_server_is_ready_only_with_all_that_it_listens_on(gateway: Gateway) -> None:
    port = free_port()
    set_ready(gateway)
    gateway.listening = SimpleNamespace(waits_for=lambda: ("listen.tcp 192.0.2.1",))  # type: ignore[assignment]
    with serve(gateway, ("127.0.0.1", port)):
        assert ask(port, "/healthz")[0] == 200
        assert ask(port, "/readyz")[:2] == (503, "waiting for listen.tcp 192.0.2.1\n")


@pytest.mark.parametrize("path", ["/", "/metrics/", "/metricsx", "/favicon.ico", "/../healthz"])
def test_other_paths_are_not_found(gateway: Gateway, path: str) -> None:
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)):
        assert ask(port, path)[0] == 404


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_only_get_and_head_are_answered(gateway: Gateway, path: str) -> None:
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)):
        for method in ("POST", "PUT", "DELETE", "OPTIONS"):
            assert ask(port, path, method)[0] == 405
        status, body, _ = ask(port, path, "HEAD")
        assert (status, body) == (ask(port, path)[0], "")


@contextmanager
def hanging(
    port: int, n: int = CLIENTS_MAX, said: bytes = b"GET /metrics HTTP/1.1\r\nX: "
) -> Iterator[list[socket.socket]]:
    """Clients that have sent half a request."""
    with ExitStack() as stack:
        clients = [
            stack.enter_context(socket.create_connection(("127.0.0.1", port), 5)) for _ in range(n)
        ]
        for client in clients:
            client.sendall(said)
            client.setblocking(False)
        yield clients


def is_cut_off(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


def test_a_wait_that_fails_is_begun_again(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)):
        with monkeypatch.context() as patched:

            def select(*_: Any) -> None:
                raise OSError(errno.ENOMEM, "Cannot allocate memory")

            patched.setattr(selectors.PollSelector, "select", select)
            with socket.create_connection(("127.0.0.1", port)):  # it has waited well until now
                time.sleep(0.3)
        assert ask(port, "/healthz")[0] == 503


def n_answering() -> int:
    """Return how many threads have a client. Others come and go: a server's that was before it."""
    return sum(
        any(
            frame.f_code.co_name == "process_request_thread"
            for frame, _ in traceback.walk_stack(top)
        )
        for top in sys._current_frames().values()  # noqa: SLF001 (as faulthandler's)
    )


def test_when_all_threads_are_taken_the_oldest_client_goes(gateway: Gateway) -> None:
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)), ExitStack() as stack:
        assert ask(port, "/healthz")[0] == 503  # it is done with, and not the oldest any more
        wait_until(lambda: n_answering() == 0, "its thread is free again")
        clients = stack.enter_context(hanging(port))
        assert ask(port, "/metrics")[0] == 200
        assert [is_cut_off(client) for client in clients] == [True] + [False] * (CLIENTS_MAX - 1)
        wait_until(lambda: n_answering() == CLIENTS_MAX - 1, "the scrape's thread is free")
        with hanging(port, 2):
            wait_until(lambda: is_cut_off(clients[1]), "the next goes")
            assert not any(map(is_cut_off, clients[2:]))
            assert ask(port, "/metrics")[0] == 200
            assert is_cut_off(clients[2])


def test_who_waits_for_an_answer_keeps_its_place_beside_others_of_this_host(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    port, may_answer, asked = free_port(), threading.Event(), threading.Semaphore(0)
    answer = metric_server.Exposition.answer

    def slowly(*arguments: Any) -> Any:
        asked.release()
        assert may_answer.wait(30)
        return answer(*arguments)

    monkeypatch.setattr(metric_server.Exposition, "answer", slowly)
    with serve(gateway, ("127.0.0.1", port)), ThreadPoolExecutor(CLIENTS_MAX + 1) as pool:
        scrapes = [pool.submit(ask, port, "/metrics")]
        assert asked.acquire(timeout=30)
        with hanging(port, 2 * CLIENTS_MAX, b"") as crowd:
            wait_until(lambda: sum(map(is_cut_off, crowd)) > CLIENTS_MAX, "the crowd gives way")
        scrapes += [pool.submit(ask, port, "/metrics") for _ in range(CLIENTS_MAX)]
        for _ in range(CLIENTS_MAX - 1):
            assert asked.acquire(timeout=30)
        may_answer.set()
        assert [each.result()[0] for each in scrapes] == [200] * (CLIENTS_MAX + 1)


def test_of_too_many_the_source_that_has_most_loses_one(gateway: Gateway) -> None:
    port = free_port()
    with serve(gateway, ("0.0.0.0", port)), ExitStack() as stack:  # noqa: S104 (127.0.0.2, too)

        def hang(source: str) -> socket.socket:
            address = ("127.0.0.1", port)
            client = stack.enter_context(socket.create_connection(address, 5, (source, 0)))
            client.sendall(b"GET /metrics HTTP/1.1\r\nX: ")
            client.setblocking(False)
            return client

        quiet = [hang("127.0.0.2") for _ in range(3)]
        crowd = [hang("127.0.0.3") for _ in range(CLIENTS_MAX - 3 + 20)]
        wait_until(lambda: all(map(is_cut_off, crowd[:20])), "the oldest of the crowd go")
        assert not any(map(is_cut_off, [*quiet, *crowd[20:]]))
        assert ask(port, "/metrics")[0] == 200


def test_a_source_that_is_not_this_host_has_a_rate() -> None:
    server = metric_server._bind(OWN, ("127.0.0.1", 0))  # noqa: SLF001 (other hosts are not at hand)
    with server:
        for here in ("127.0.0.1", "::1", "::ffff:127.0.0.1"):
            assert all(server.verify_request(None, (here, 1)) for _ in range(500))
        for elsewhere in ("192.0.2.1", "fe80::1%lo"):
            n_passed = sum(server.verify_request(None, (elsewhere, 1)) for _ in range(500))
            assert 100 <= n_passed <= 110
        assert server.verify_request(None, ("192.0.2.2", 1))


def test_a_client_has_its_time_however_steadily_it_sends(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastun.bounded_server.EXCHANGE_TIMEOUT_S", 0.5)
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)), hanging(port, 3) as clients:
        deadline = time.monotonic() + 5
        while not all(map(is_cut_off, clients)):
            assert time.monotonic() < deadline
            for client in clients:
                with suppress(OSError):  # it is cut off
                    client.sendall(b"x")
            time.sleep(0.05)
        assert ask(port, "/metrics")[0] == 200


def test_without_a_descriptor_left_the_server_waits_and_does_not_spin(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    n_tried = 0
    get_request = socketserver.TCPServer.get_request

    def count(self: socketserver.TCPServer) -> object:
        nonlocal n_tried
        n_tried += 1
        return get_request(self)

    monkeypatch.setattr(socketserver.TCPServer, "get_request", count)
    port = free_port()
    with serve(gateway, ("127.0.0.1", port)), socket.socket() as client:
        with no_descriptor_left():
            client.connect(("127.0.0.1", port))
            client.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            time.sleep(0.5)
        assert 1 < n_tried < 20
        client.settimeout(5)
        assert client.recv(12) == b"HTTP/1.0 503"


def test_leaving_takes_no_time_and_frees_the_port(gateway: Gateway) -> None:
    port = free_port()
    with ExitStack() as stack:
        with serve(gateway, ("127.0.0.1", port)):
            stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            began = time.monotonic()
        assert time.monotonic() - began < 0.2
        with serve(gateway, ("127.0.0.1", port)):
            assert ask(port, "/metrics")[0] == 200


def test_a_name_that_cannot_be_resolved_is_one_line(gateway: Gateway) -> None:
    host = "does-not-exist.invalid"
    with (
        pytest.raises(RuntimeFailure, match=rf"^--metrics {host}:10055: the host cannot be .*;"),
        serve(gateway, (host, 10055)),
    ):
        pass


def test_a_name_that_cannot_be_resolved_yet_is_waited_for(
    gateway: Gateway, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    really, answers = socket.getaddrinfo, list[str]()

    def look_up(host: str, *arguments: Any, **more: Any) -> Any:
        if host == "metrics.example.net" and not answers:
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return really(answers[0] if answers else host, *arguments, **more)

    monkeypatch.setattr(socket, "getaddrinfo", look_up)
    monkeypatch.setattr(metric_server, "RETRY_S", 0.02)
    log.configure("console", 0)
    port = free_port()
    with serve(gateway, ("metrics.example.net", port)):
        time.sleep(0.1)
        answers.append("127.0.0.1")
        deadline = time.monotonic() + 10
        while True:
            with suppress(OSError):
                assert ask(port, "/metrics")[0] == 200
                break
            assert time.monotonic() < deadline
            time.sleep(0.02)
    assert capsys.readouterr().err.count("cannot be resolved yet") == 1
    with pytest.raises(OSError, match="refused"):
        ask(port, "/metrics")


def test_an_address_that_is_not_there_yet_is_bound(gateway: Gateway) -> None:
    with serve(gateway, ("192.0.2.1", 10055)):
        pass


def test_a_port_in_use_is_one_line(gateway: Gateway) -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        with (
            pytest.raises(RuntimeFailure, match=rf"^--metrics \[::1\]:{port}: the port is in use;"),
            serve(gateway, ("::1", port)),
        ):
            pass
