"""A tunnel's inside for tests: routes are what the test says."""

from __future__ import annotations

from ipaddress import ip_address
from typing import TYPE_CHECKING, cast

from fastun.host.routing.route_lookup import Way
from fastun.link.inside import Inside

if TYPE_CHECKING:
    from fastun.host.routing.route_lookup import RouteLookup

DEVICE, OTHER = 7, 3


class Routes:
    """Stands for the kernel: the interface to each host, OTHER where nothing is said."""

    def __init__(self) -> None:
        self.to: dict[str, int] = {}
        self.asked: list[tuple[str, int, int, str]] = []
        self.have_come = False
        self.homes: dict[str, int] = {}  # the interface that has an address of ours
        self.gateways: dict[str, bytes] = {}  # to hosts
        self.sources: dict[str, str] = {}  # to hosts

    def interface_to(self, host: object, port: int, protocol: int, source: object = None) -> int:
        self.asked.append((str(host), port, protocol, str(source or "")))
        if source is not None and str(source) in self.to:
            return self.to[str(source)]
        return self.to.get(str(host), OTHER)

    def way_to(self, host: object, port: int, protocol: int, source: object = None) -> Way:
        interface = self.interface_to(host, port, protocol, source)
        chosen = self.sources.get(str(host))
        return Way(
            interface,
            self.gateways.get(str(host), b""),
            ip_address(chosen) if chosen else None,
        )

    def home_of(self, address: object) -> int:
        return self.homes.get(str(address), 0)

    def have_changed(self) -> bool:
        have_come, self.have_come = self.have_come, False
        return have_come

    def inside(self) -> Inside:
        return Inside(DEVICE, "ft0", cast("RouteLookup", self))
