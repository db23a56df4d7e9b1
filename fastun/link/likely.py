"""What an operator reads when a link does not come up: what came back, and the likely causes.

The causes are in the order in which to look at them. All texts are short: a line of the log holds
what was tried as well, and a person reads it. docs/operations.md says more of each cause, and
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
    Reason.CLOSED: "connection closed after our handshake, without an answer",
    Reason.COOKIE_ONLY: "only a cookie",
    Reason.NOT_OPENED: "a response that does not open",
    Reason.NO_ROUTE: "nothing was sent: no route",
    Reason.BLOCKED_HERE: "nothing was sent: this host refused (operation not permitted)",
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

_UNKNOWN_KEY = "our key{key} is unknown there; wrong server key here; our clock was set back"
_LIKELY: Final[dict[Reason, str]] = {
    Reason.NOT_OPENED: "our pre-shared key differs from the server's",
    Reason.CLOSED: _UNKNOWN_KEY,
    Reason.COOKIE_ONLY: "the server is flooded with handshakes; we go on trying",
    Reason.BLOCKED_HERE: "this host's own firewall drops it ('nft list ruleset', chain output)",
    Reason.NO_ROUTE: "this host has no network now, or no route there ('ip route get')",
    Reason.PROHIBITED: "a firewall forbids it; allow the port there",
    Reason.PORT_CLOSED: "server not running; another port; a firewall rejects it",
    Reason.UNREACHABLE: "wrong address; the server is down; a firewall rejects it",
    Reason.OTHER: "see what came back",
}
_NOTHING: Final[dict[Scheme, str]] = {
    "udp": "server down; wrong address or port; a firewall drops it; " + _UNKNOWN_KEY,
    "tcp": "wrong address; server down; a firewall drops it",
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
    return text.format(key=key and f" {key}")


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
