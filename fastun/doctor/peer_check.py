"""``fastun doctor --peer NAME``: why one peer is not connected, as far as this host can know.

On a server: whether the peer is registered, what the running gateway knows of it, and whether the
ports that it dials are bound and let in. The other half is 'fastun connect FILE --check' there.
"""

from __future__ import annotations

import errno
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from fastun import endpoint
from fastun.doctor import clock, files, firewall, network
from fastun.doctor.finding import Finding, Subject, finding, named
from fastun.doctor.running import of_peer
from fastun.errors import FastunError
from fastun.peers.store import FILE_NAME, PeerStore
from fastun.session.keys import format_key

if TYPE_CHECKING:
    from fastun.peers.peer import Peer
    from fastun.status.reply import Status


def examine(subject: Subject, name: str) -> Iterator[Finding]:
    """Yield what is found of the peer. FastunError becomes a finding."""
    gateway = next((each for each in subject.gateways if _has(each, name)), None)
    yield named("registered", _registered(subject, name, gateway))
    yield named("gateway", _gateway(subject, name, gateway))
    if gateway is None:
        return
    for url in gateway.listen:
        listened = endpoint.parse(url)
        yield named(f"{listened.scheme} port", _bound(listened, url))
        yield named("firewall", firewall.check(listened.scheme, listened.port))
    yield named("clock", clock.check(subject.state, b""))
    peer = next(each for each in gateway.peers if each.name == name)
    if not peer.up and gateway.role == "serve":
        key = f", which is {gateway.public_key}" if gateway.public_key else ""
        message = f"has to know this server by its key{key}"
        fix = "run 'fastun connect FILE --check' there: it tries each endpoint"
        yield named("client", finding("unknown", message, fix))


def _has(gateway: Status, name: str) -> bool:
    return any(peer.name == name for peer in gateway.peers)


def _registered(subject: Subject, name: str, gateway: Status | None) -> Finding:
    if not (subject.state / FILE_NAME).exists():
        if gateway is not None:
            return finding("ok", f"{name} is in the configuration of {gateway.interface}")
        message = f"{subject.state} contains no peer directory"
        return finding("FAIL", message, "give the server's --state")
    try:
        with PeerStore(subject.state) as store:
            server = store.server()
            if server and name in {peer.name for peer in server.peers}:
                return finding("ok", f"{name} is in the configuration file of {server.interface}")
            peer = store.get(name)
    except FastunError as error:
        if gateway is not None:
            return finding("ok", f"{name} is in the configuration of {gateway.interface}")
        message, _, fix = str(error).partition("; ")
        more = "in a configuration file: is it there with enabled = false, or the gateway not run?"
        return finding("FAIL", message, f"{fix} ({more})")
    return _as_registered(peer)


def _as_registered(peer: Peer) -> Finding:
    if why := peer.terms.barred(time.time()):
        fix = "expire" if why == "expired" else "enable"
        return finding("FAIL", f"{peer.name} is {why}", f"'fastun peer {fix}' lets it in")
    networks = ", ".join(map(str, peer.allowed_ips[:4])) or "no allowed IPs"
    return finding("ok", f"{peer.name}, public key {format_key(peer.public_key)}, {networks}")


def _gateway(subject: Subject, name: str, gateway: Status | None) -> Finding:
    if gateway is not None:
        return of_peer(gateway, name, time.time())
    if subject.gateways:
        running = ", ".join(each.interface for each in subject.gateways)
        message = f"no running gateway has {name} ({running} run{'s' * (',' not in running)})"
        fix = "is --state that of the gateway? 'fastun status' shows its peers"
        return finding("FAIL", message, fix)
    run_directory = files.run_directory(subject)
    message = f"none is running with --run-dir {subject.run_dir}"
    fix = "start 'fastun serve', or give its --run-dir"
    return finding("FAIL", message, fix if run_directory.verdict == "ok" else run_directory.fix)


def _bound(listened: endpoint.Endpoint, url: str) -> Finding:
    """Check that the port is in use, which is by the gateway that says so."""
    try:
        network.bind((listened.host, listened.port), network.KINDS[listened.scheme])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return finding("ok", f"{url} is bound")
        message = f"{url}: {error.strerror or error}"
        return finding("FAIL", message, "an interface of this host needs that address")
    return finding("FAIL", f"{url} is not bound", "see the gateway's log: it waits for an address")
