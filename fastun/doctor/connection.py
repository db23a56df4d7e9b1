"""``fastun connect FILE --check``: why this client cannot connect, without connecting.

    name -> addresses --> for each: route, the MTU of its path, and a handshake (trial.py)

All endpoints are tried at once, so it takes some ten seconds at most. Where a gateway runs with
this key, a handshake of ours would compete with it: then the gateway is asked instead.
"""

from __future__ import annotations

import concurrent.futures
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastun import log
from fastun.doctor import clock, kill_switch, trial, way
from fastun.doctor.finding import Finding, Subject, finding, named
from fastun.doctor.resolving import dns_of
from fastun.doctor.running import of_peer
from fastun.errors import FastunError
from fastun.host.dns.name_lookup import NameLookup
from fastun.host.dns.resolved import NoSuchNameError, UnresolvedError
from fastun.host.firewall.kill_switch_found import by_hand
from fastun.host.routing import full_tunnel
from fastun.host.sockets.address import EndpointAddress
from fastun.link.names import literal
from fastun.peers.peer import Peer
from fastun.session import keys
from fastun.session.timestamps import Timestamps
from fastun.state_file import OwnFiles
from fastun.threads import DaemonThreads

if TYPE_CHECKING:
    from fastun.config.settings import ConnectSettings
    from fastun.endpoint import Endpoint
    from fastun.session.keys import KeyPair
    from fastun.status.reply import Status

NAME_LIMIT_S: Final = 4.0
LIMIT_S: Final = 9.5
# More addresses than these of a name are not tried.
_ADDRESSES_MAX: Final = 6
_N_THREADS: Final = 32

_PROTOCOLS: Final = {"udp": socket.IPPROTO_UDP, "tcp": socket.IPPROTO_TCP}


def examine(settings: ConnectSettings) -> Iterator[Finding]:
    """Yield what is found. Raises FastunError where our key cannot be read."""
    log.configure(*settings.log)
    own = None
    if settings.wire == "wireguard":
        own = keys.pair_of(settings.private_key or keys.load_private(settings.private_key_file))
        yield named("our key", finding("ok", f"{keys.format_key(own.public)} (public)"))
    gateway = running(Subject(settings.state_dir, settings.run_dir), settings, own)
    peers = settings.peers or (Peer(name=settings.peer_name, public_key=bytes(32)),)
    for peer in peers:
        if gateway is not None:
            yield named("gateway", of_peer(gateway, peer.name, time.time()))
        endpoints = peer.endpoints if settings.peers else settings.endpoints
        yield from _Check(settings, own, peer, gateway).of(endpoints)
    if gateway is None and (cut := kill_switch.interfaces()):
        message = f"that of {cut[0]} is set: what the lines above have tried cannot leave this host"
        yield named("kill switch", finding("FAIL", message, f"run '{by_hand(cut[0])}' first"))
    yield named("clock", clock.check(settings.state_dir, own.public if own else b""))
    for line in full_tunnel.not_routed(settings):
        yield named("routes", finding("warn", line, 'use --all, or set table = "all" or "auto"'))
    if settings.dns or "dns" in settings.accept:
        yield named("DNS", dns_of(settings, gateway))


def running(subject: Subject, settings: ConnectSettings, own: KeyPair | None) -> Status | None:
    """Return the gateway that runs with our key, or on our interface without one."""
    for status in subject.gateways:
        if own is not None and status.public_key is not None:
            if status.public_key == keys.format_key(own.public):
                return status
        elif status.interface == settings.interface:
            return status
    return None


@dataclass(frozen=True)
class _Check:
    """The checks of one peer's endpoints."""

    settings: ConnectSettings
    own: KeyPair | None
    peer: Peer
    gateway: Status | None

    def of(self, endpoints: tuple[Endpoint, ...]) -> Iterator[Finding]:
        """Yield the findings of each endpoint in turn; all are made at once."""
        deadline, threads = time.monotonic() + LIMIT_S, DaemonThreads(_N_THREADS)
        own_trial = self._trial()
        lookups = {
            host: threads.submit(_addresses, host, self.settings.fwmark)
            for host in {endpoint.host for endpoint in endpoints}
        }
        concurrent.futures.wait(lookups.values(), NAME_LIMIT_S)
        by_host: dict[str, tuple[EndpointAddress, ...]] = {}
        for host in dict.fromkeys(endpoint.host for endpoint in endpoints):
            found, by_host[host] = _name(host, lookups[host])
            yield named("name", found)
        made = []
        for endpoint in endpoints:
            addresses = [address._replace(port=endpoint.port) for address in by_host[endpoint.host]]
            made += [
                (endpoint, address, threads.submit(self._reach, own_trial, endpoint, address))
                for address in addresses
            ]
        hosts = {address.host: address for _, address, _ in made}
        mtus = [
            threads.submit(way.path_mtu, address, self.settings.fwmark)
            for address in hosts.values()
        ]
        pending = [*mtus, *(each for *_, each in made)]
        concurrent.futures.wait(pending, deadline - time.monotonic())
        yield from self._ways(made)
        for endpoint in endpoints:
            reached = [
                _result(each, f"{endpoint.scheme} {address.host}")
                for of, address, each in made
                if of is endpoint
            ]
            yield from (named(endpoint.scheme, each) for each in _together(reached))
        # Without a route there is no MTU either; that is another line's.
        yield from (
            named("path MTU", each.result())
            for each in mtus
            if each.done() and not each.exception()
        )

    def _trial(self) -> trial.Trial | None:
        if self.own is None or self.gateway is not None:
            return None
        timestamps = Timestamps(OwnFiles(self.settings.state_dir), self.own.public)
        return trial.Trial(self.own, self.peer, timestamps, self.settings.fwmark)

    def _reach(
        self, own_trial: trial.Trial | None, endpoint: Endpoint, address: EndpointAddress
    ) -> Finding:
        if own_trial is not None:
            try_it = own_trial.over_udp if endpoint.scheme == "udp" else own_trial.over_tcp
            return try_it(address)
        to = f"{endpoint.scheme} {address.host} port {address.port}"
        if endpoint.scheme == "udp":
            return finding("unknown", f"{to}: left to the running gateway, see above")
        with socket.socket(way.family_of(address), socket.SOCK_STREAM) as opened:
            failure = trial.connect(opened, address, self.settings.fwmark, to)
        return failure or finding("ok", f"{to}: accepts connections")

    def _ways(self, made: list[_Made]) -> Iterator[Finding]:
        interface = self.gateway.interface if self.gateway else ""
        found = []
        for endpoint, address, _ in made:
            protocol = _PROTOCOLS[endpoint.scheme]
            found.append(way.check(address, protocol, self.settings.fwmark, interface))
        # A host without IPv6, say, reaches a name by its other addresses.
        yield from (named("route", each) for each in dict.fromkeys(_together(found)))


_Made = tuple["Endpoint", EndpointAddress, "concurrent.futures.Future[Finding]"]


def _together(found: list[Finding]) -> list[Finding]:
    """Of several addresses one is enough: what is wrong with the others is then a warning."""
    if not any(each.verdict == "ok" for each in found):
        return found
    return [
        finding("warn", each.message, each.fix) if each.verdict == "FAIL" else each
        for each in found
    ]


def _result(made: concurrent.futures.Future[Finding], to: str) -> Finding:
    if not made.done():
        return finding("unknown", f"{to}: not finished within {LIMIT_S:g} s", "try again")
    try:
        return made.result()
    except (FastunError, OSError) as error:
        return finding("unknown", f"{to}: {error}")


def _addresses(host: str, fwmark: int) -> tuple[EndpointAddress, ...]:
    if written := literal(host, 0):
        return written
    return tuple(EndpointAddress(each.host, 0, each.zone) for each in NameLookup(fwmark)(host))


def _name(
    host: str, lookup: concurrent.futures.Future[tuple[EndpointAddress, ...]]
) -> tuple[Finding, tuple[EndpointAddress, ...]]:
    if not lookup.done():
        fix = "check this host's DNS servers in /etc/resolv.conf"
        return finding("FAIL", f"{host}: no answer from DNS in {NAME_LIMIT_S:g} s", fix), ()
    try:
        addresses = lookup.result()
    except NoSuchNameError as error:
        return finding("FAIL", f"{host}: {error.why}", "correct the name in endpoint"), ()
    except UnresolvedError as error:
        fix = "check this host's DNS servers in /etc/resolv.conf"
        return finding("FAIL", f"{host}: {error.why}", fix), ()
    said = " ".join(str(address.host) for address in addresses)
    if len(addresses) > _ADDRESSES_MAX:
        said += f"; the first {_ADDRESSES_MAX} are tried"
    message = said if said == host else f"{host}: {said}"
    return finding("ok", message), addresses[:_ADDRESSES_MAX]
