"""How many descriptors the gateway and its workers may have open.

A peer on TCP takes one of the gateway, of the link-reader and of the link-writer, and the usual
soft limit of 1,024 is less than 1,024 peers need. Workers inherit the gateway's limits.
"""

from __future__ import annotations

import resource

from fastun.native import PEER_SLOTS

# Of the gateway: one a peer, and two more until its workers carry the link; those in the
# handshake; clients of metrics and control socket; and its own.
WANTED = 4 * PEER_SLOTS

# What connections leave: to replace workers, to answer scrapes, to read the peer directory.
SPARE = 64

# What the peers' connections leave: the spare ones, those in the handshake, and the gateway's own.
_NOT_OF_PEERS = SPARE + 256 + 64


_soft_before: list[int] = []  # the limit that we were started with, once it has been raised


def files_max_before() -> int:
    """Return the soft limit for programs that we start: that of our own start."""
    return _soft_before[0] if _soft_before else resource.getrlimit(resource.RLIMIT_NOFILE)[0]


def allow() -> None:
    """Raise the soft limit to what is wanted, as far as the hard one goes."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limits()[0] != soft:
        _soft_before[:] = [soft]
        resource.setrlimit(resource.RLIMIT_NOFILE, limits())


def limits() -> tuple[int, int]:
    """Return the soft limit that is wanted, as far as the hard one goes, and that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = WANTED if hard == resource.RLIM_INFINITY else min(WANTED, hard)
    return (soft if soft == resource.RLIM_INFINITY else max(soft, most)), hard


def is_spare(descriptor: int) -> bool:
    """Return whether one that was opened just now is of the last SPARE: the lowest come first."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft != resource.RLIM_INFINITY and descriptor >= soft - SPARE


def peers_at_once() -> int:
    """Return how many peers can be connected over TCP under the hard limit."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard == resource.RLIM_INFINITY:
        return PEER_SLOTS
    return max(0, min(PEER_SLOTS, hard - _NOT_OF_PEERS))
