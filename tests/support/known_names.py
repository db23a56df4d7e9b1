"""Names for tests: what each resolves to is what the test says."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING

from fastun.host.dns.resolved import HostAddress, NoSuchNameError, UnresolvedError
from fastun.host.sockets.maker import OwnSockets
from fastun.link.names import Names
from fastun.link.outside import Outside

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastun.link.inside import Inside


class KnownNames:
    """Stands for DNS: addresses by name, or the error that a lookup gives; others do not exist."""

    def __init__(self, **answers: list[str] | UnresolvedError) -> None:
        self.answers: dict[str, list[str] | UnresolvedError] = dict(answers)
        self.asked: list[str] = []
        self.n_placed = 0
        self.meanwhile: Callable[[], object] = lambda: None  # in the thread of a lookup

    def lookup(self, name: str) -> tuple[HostAddress, ...]:
        self.asked.append(name)
        self.meanwhile()
        answer = self.answers.get(name, NoSuchNameError("no such name"))
        if isinstance(answer, UnresolvedError):
            raise answer
        return tuple(HostAddress(ip_address(each)) for each in answer)

    async def place(self) -> None:
        self.n_placed += 1

    def names(self) -> Names:
        return Names(self.lookup, self.place)


def outside(inside: Inside, dns: KnownNames | None = None, fwmark: int = 0) -> Outside:
    return Outside((dns or KnownNames()).names(), inside, OwnSockets(fwmark))
