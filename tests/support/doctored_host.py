"""A host on which fastun would run, for doctor to look at."""

from __future__ import annotations

from fastun.doctor import examination
from fastun.doctor.finding import Finding, Subject
from fastun.doctor.probe import Probe
from fastun.peers.peer import Peer
from fastun.peers.store import PeerStore
from fastun.session import keys

SOUND = Probe(offload="tcp+udp", tcp_write="", udp_write="", udp_cut="")


class Sound(Subject):
    """One whose kernel does as it should, without a namespace to try it in."""

    probe = SOUND  # type: ignore[assignment]
    gateways = []  # type: ignore[assignment]  # noqa: RUF012 (never changed)


def found(subject: Subject, check: str) -> Finding:
    """What one check finds; those after it are not made."""
    return next(each for each in examination.examine(subject) if each.check == check)


def add_peers(subject: Subject, n_peers: int) -> None:
    with PeerStore(subject.state) as store:
        for number in range(n_peers):
            public = keys.public_of(keys.generate_private())
            store.add(Peer(name=f"peer{number}", public_key=public, allowed_ips=()))
