"""What a serving side listens on may change: the new is bound before the old is closed."""

from __future__ import annotations

import contextlib
import errno
import socket
from typing import TYPE_CHECKING

import pytest
import structlog

from fastun import log
from fastun.endpoint import Endpoint, Scheme
from fastun.errors import RuntimeFailure
from fastun.host.dns.resolved import NotYetError
from fastun.link.listening import Listening
from tests.support.known_names import KnownNames
from tests.support.stream_owner import run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SCHEMES: tuple[Scheme, ...] = ("tcp", "udp")


def free_port(kind: socket.SocketKind) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Scene:
    """A listening that changes, and the sockets that were given and left."""

    def __init__(self, scheme: Scheme, *hosts: str) -> None:
        self.scheme = scheme
        kind = socket.SOCK_STREAM if scheme == "tcp" else socket.SOCK_DGRAM
        self.port = free_port(kind)
        self.kind = kind
        self.dns = KnownNames(vpn=["127.0.0.3"], late=NotYetError("no DNS"))
        self.taken: list[socket.socket] = []
        self.left: list[socket.socket] = []
        self.refusal: Exception | None = None
        self.listening = Listening(self.endpoints(*hosts), self.dns.names(), self.take, self.leave)
        self.listening.leave_stream = self.left.append
        self.listening.bind_known()

    def take(self, bound: socket.socket) -> None:
        if self.refusal is not None and len(self.taken) > 1:
            raise self.refusal
        self.taken.append(bound)

    async def leave(self, bounds: Sequence[socket.socket]) -> None:
        assert all(each.fileno() >= 0 for each in bounds), "what it is bound to can be asked"
        self.left += bounds

    def endpoints(self, *hosts: str) -> tuple[Endpoint, ...]:
        return tuple(Endpoint(self.scheme, host, self.port) for host in hosts)

    async def change(self, *hosts: str) -> None:
        await self.listening.change(self.endpoints(*hosts))

    def hosts(self) -> set[str]:
        queue = self.listening.streams
        self.taken += [queue.get_nowait() for _ in range(queue.qsize())]
        return {each.getsockname()[0] for each in self.taken if each not in self.left}

    def is_free(self, host: str) -> bool:
        with socket.socket(socket.AF_INET, self.kind) as probe:
            try:
                probe.bind((host, self.port))
            except OSError:
                return False
        return True


@contextlib.contextmanager
def scene(scheme: Scheme, *hosts: str) -> Iterator[Scene]:
    log.configure("console", 1)
    made = Scene(scheme, *hosts)
    try:
        yield made
    finally:
        made.listening.close()
        structlog.reset_defaults()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_stays_is_not_touched_and_what_goes_is_closed(scheme: Scheme) -> None:
    async def claim() -> None:
        with scene(scheme, "127.0.0.1", "127.0.0.2") as s:
            s.hosts()
            (stays,) = (each for each in s.taken if each.getsockname()[0] == "127.0.0.1")
            await s.change("127.0.0.1", "vpn")
            assert s.hosts() == {"127.0.0.1", "127.0.0.3"}
            assert stays not in s.left
            assert stays.getsockname()[0] == "127.0.0.1"
            assert s.is_free("127.0.0.2")
            await s.change("127.0.0.2")
            assert s.hosts() == {"127.0.0.2"}
            assert s.is_free("127.0.0.1")

    run(claim())


@pytest.mark.parametrize("scheme", SCHEMES)
def test_one_address_gives_way_to_all_and_all_to_one(scheme: Scheme) -> None:
    """The two overlap, so each would be refused beside the other."""

    async def claim() -> None:
        everywhere = "0.0.0.0"  # noqa: S104 (that is the case)
        with scene(scheme, "127.0.0.1") as s:
            for host in (everywhere, "127.0.0.1"):
                await s.change(host)
                assert s.hosts() == {host}
                assert not s.is_free("127.0.0.1"), "nor may another program share the port"

    run(claim())


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("refused", ["127.0.0.5", "late", "taken-by-ours"])
def test_where_one_is_refused_all_is_as_before(scheme: Scheme, refused: str) -> None:
    async def claim() -> None:
        with (
            scene(scheme, "127.0.0.1") as s,
            socket.socket(socket.AF_INET, s.kind) as other,
        ):
            other.bind(("127.0.0.5", s.port))
            wanted = ["127.0.0.1", "0.0.0.0"] if refused == "taken-by-ours" else [refused]  # noqa: S104
            with pytest.raises(RuntimeFailure, match=f"--listen {scheme}://"):
                await s.change("127.0.0.2", *wanted)
            assert s.hosts() == {"127.0.0.1"}
            assert s.is_free("127.0.0.2")
            assert s.left == []

    run(claim())


@pytest.mark.parametrize(
    "refusal", [RuntimeFailure("--listen: more than 16"), OSError(errno.EMFILE, "too many")]
)
def test_where_a_socket_cannot_be_used_those_before_it_are_left_again(refusal: Exception) -> None:
    async def claim() -> None:
        with scene("udp", "127.0.0.1") as s:
            s.refusal = refusal
            with pytest.raises(RuntimeFailure, match="--listen"):
                await s.change("127.0.0.2", "127.0.0.5")
            assert s.hosts() == {"127.0.0.1"}
            assert s.left == s.taken[1:]
            assert s.is_free("127.0.0.2")
            assert s.is_free("127.0.0.5")
            s.refusal = None
            await s.change("127.0.0.2", "127.0.0.5")
            assert s.hosts() == {"127.0.0.2", "127.0.0.5"}

    run(claim())
