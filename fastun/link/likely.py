"""What an operator reads when a link does not come up: what came back, and the likely causes.

The causes are in the order in which to look at them. All texts are short: a line of the log holds
what was tried as well, some 200 characters in all. docs/operations.md says more of each cause, and
`fastun connect FILE --check` looks for the one that it is.
"""

from __future__ import annotations

import errno
from typing import Final

from fastun.endpoint import Scheme
from fastun.link.hello import HungUpError
from fastun.link.last_error import Reason
from fastun.session.refusal import HandshakeError, Refusal

CAME_BACK: Final[dict[Reason, str]] = {
    Reason.NO_ANSWER: "nothing",
    Reason.PORT_CLOSED: "connection refused",
    Reason.CLOSED: "closed after our handshake, unanswered",
    Reason.COOKIE_ONLY: "only a cookie",
    Reason.NOT_OPENED: "a response that does not open",
    Reason.NO_ROUTE: "not sent: no route",
    Reason.BLOCKED_HERE: "not sent: operation not permitted",
}

# From what says most to what says least.
ORDER: Final = (
    Reason.NOT_OPENED,
    Reason.CLOSED,
    Reason.COOKIE_ONLY,
    Reason.BLOCKED_HERE,
    Reason.NO_ROUTE,
    Reason.PROHIBITED,
    Reason.PORT_CLOSED,
    Reason.UNREACHABLE,
    Reason.OTHER,
    Reason.NO_ANSWER,
)

_LIKELY: Final[dict[Reason, str]] = {
    Reason.NOT_OPENED: "our pre-shared key differs from the server's",
    Reason.CLOSED: "wrong key there{key} or of the server here; clock set back",
    Reason.COOKIE_ONLY: "the server is flooded with handshakes; we go on trying",
    Reason.BLOCKED_HERE: "this host's own firewall ('nft list ruleset', chain output)",
    Reason.NO_ROUTE: "no network now, or no route there ('ip route get')",
    Reason.PROHIBITED: "a firewall; allow the port there",
    Reason.PORT_CLOSED: "server not running; wrong port; firewall",
    Reason.UNREACHABLE: "wrong address; server down; firewall",
    Reason.OTHER: "see what came back",
}
_NOTHING: Final[dict[Scheme, str]] = {
    "udp": "server down; firewall; wrong address, port or key{key}; clock set back",
    "tcp": "server down; firewall; wrong address",
}

_OF_ERRNO: Final[dict[int, Reason]] = {
    errno.ECONNREFUSED: Reason.PORT_CLOSED,
    errno.ECONNRESET: Reason.CLOSED,
    errno.EHOSTUNREACH: Reason.UNREACHABLE,
    errno.EPERM: Reason.BLOCKED_HERE,
    errno.EACCES: Reason.BLOCKED_HERE,
    errno.ENETUNREACH: Reason.NO_ROUTE,
    errno.ENETDOWN: Reason.NO_ROUTE,
    errno.EADDRNOTAVAIL: Reason.NO_ROUTE,
    errno.EAFNOSUPPORT: Reason.NO_ROUTE,
}


def causes(reason: Reason, scheme: Scheme, key: str) -> str:
    """Return the likely causes; ``key`` is our fingerprint, empty without keys."""
    text = _NOTHING[scheme] if reason is Reason.NO_ANSWER else _LIKELY[reason]
    return text.format(key=key and f" (ours: {key})")


def of_error(error: BaseException, *, is_connected: bool = False) -> tuple[Reason, str]:
    """Return what an exception of a connection attempt or of a send means, and what came back.

    ``is_connected``: TCP's own handshake had succeeded.
    """
    reason, text = _reason_of(error, is_connected=is_connected), str(error)
    if isinstance(error, OSError) and error.strerror:
        text = error.strerror.lower()
    return reason, CAME_BACK.get(reason) or text or type(error).__name__


def _reason_of(error: BaseException, *, is_connected: bool) -> Reason:
    if isinstance(error, HandshakeError):
        return Reason.NOT_OPENED if error.reason is Refusal.BAD_PSK_OR_KEY else Reason.OTHER
    if is_connected and isinstance(error, ConnectionError | HungUpError):
        return Reason.CLOSED
    if isinstance(error, TimeoutError):  # before OSError, of which it is one
        return Reason.CLOSED if is_connected else Reason.NO_ANSWER
    number = error.errno if isinstance(error, OSError) else None
    return _OF_ERRNO.get(number or 0, Reason.OTHER)
