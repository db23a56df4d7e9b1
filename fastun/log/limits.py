"""Limits the log lines of each source: a structlog processor that holds back the rest.

    event --> of this event, by this source?  --> of this event, by all strangers?  --> the log
                       no: held back, counted, and reported later: "... more_like_it=12"

A source is a peer's name (it has proved its key), or else the IPv4 address or IPv6 /64 of the
event's remote address, or the source that the event names. This applies to every event at every
level, so no call can forget it.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, MutableMapping
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

import msgspec

from fastun.log.library import structlog

Event = MutableMapping[str, Any]


class Limit(msgspec.Struct, frozen=True):
    """A burst of lines, and after that one line every ``interval_s``."""

    burst: int
    interval_s: float


# Retries at WireGuard's interval (5 s) are all logged.
PER_SOURCE: Final = Limit(burst=10, interval_s=5.0)

# For all strangers together, since one may have many addresses, and for events without a source.
PER_EVENT: Final = Limit(burst=50, interval_s=5.0)


class Limits(msgspec.Struct, frozen=True):
    """Those of a component: of each source, and of an event by all strangers together.

    Lines held back are reported ``say_after_s`` later.
    """

    per_source: Limit
    per_event: Limit
    say_after_s: float


# Held-back lines are reported after this time, with the last such event.
SAY_AFTER_S: Final = 10.0

_LIMITS: Final = Limits(PER_SOURCE, PER_EVENT, SAY_AFTER_S)

# Refused handshakes: one that is refused comes again every five seconds, and strangers can send
# any. So a line a minute for each reason and peer, or source; of sources ten a minute in all.
_LIMITS_OF: Final = {"handshake": Limits(Limit(1, 60.0), Limit(5, 12.0), 60.0)}

# Remembered: four events of each of 1,024 peers, and as many of strangers; 3 MiB in all.
SOURCES_MAX: Final = 4096

# The log's messages about itself are not held back.
OWN_COMPONENT: Final = "log"

_MORE = "more_like_it"


class Buckets:
    """Token buckets by key, the one least recently used first. A full one need not be kept."""

    def __init__(self) -> None:
        """Begin with all full."""
        self._full_at_s: OrderedDict[object, float] = OrderedDict()

    def __len__(self) -> int:
        """Return how many are kept."""
        return len(self._full_at_s)

    def take(self, key: object, now_s: float, limit: Limit) -> bool:
        """Take one token of a key, which has the same limit each time; return if there was one."""
        full_at_s = max(now_s, self._full_at_s.pop(key, now_s))
        has_one = full_at_s - now_s <= (limit.burst - 1) * limit.interval_s
        self._full_at_s[key] = full_at_s + has_one * limit.interval_s
        if len(self._full_at_s) > SOURCES_MAX:
            self._full_at_s.popitem(last=False)
        return has_one


class _HeldBack(msgspec.Struct):
    since_s: float
    n: int = 0
    method: str = "info"
    event: Event | None = None


class LineLimits:
    """The processor; the first, before anything is added to the event. Any thread."""

    def __init__(self, clock_s: Callable[[], float] = time.monotonic) -> None:
        """Begin with all buckets full."""
        self.n_held_back = 0
        self._clock_s = clock_s
        self._of_peers = Buckets()
        self._of_strangers = Buckets()
        self._of_events = Buckets()
        self._held_back: dict[object, _HeldBack] = {}  # by event, of which the code has few dozen
        self._lock = threading.RLock()

    def __call__(self, _logger: Any, method: str, event: Event) -> Event:
        """Return the event, or raise structlog.DropEvent."""
        if _MORE in event or event.get("component") == OWN_COMPONENT:
            return event
        name = (event.get("component"), event.get("event"))
        with self._lock:
            now_s = self._clock_s()
            if self._admits(name, event, now_s):
                return event
            self.n_held_back += 1
            held = self._held_back.setdefault(name, _HeldBack(now_s))
            held.n, held.method, held.event = held.n + 1, method, dict(event)
        raise structlog.DropEvent

    def due(self, *, at_end: bool = False) -> list[tuple[str, Event]]:
        """Return what is to be said of events held back: how they are logged, and the last one."""
        with self._lock:
            now_s = self._clock_s()
            names = [
                name
                for name, held in self._held_back.items()
                if at_end or now_s - held.since_s >= _limits_of(held.event).say_after_s
            ]
            due = [self._held_back.pop(name) for name in names]
        return [(held.method, _summary(held)) for held in due if held.event is not None]

    def _admits(self, name: tuple[Any, Any], event: Event, now_s: float) -> bool:
        limits = _limits_of(event)
        if peer := event.get("peer"):
            return self._of_peers.take((*name, peer), now_s, limits.per_source)
        if remote := event.get("remote") or _remote_of(event.get("source")):
            # The source first: one that has used up its own takes nothing of what is for all.
            source = (*name, source_of(str(remote)))
            is_within_its_own = self._of_strangers.take(source, now_s, limits.per_source)
            return is_within_its_own and self._of_events.take(name, now_s, limits.per_event)
        return self._of_events.take(name, now_s, limits.per_event)


def _limits_of(event: Event | None) -> Limits:
    return _LIMITS if event is None else _LIMITS_OF.get(str(event.get("component")), _LIMITS)


def _summary(held: _HeldBack) -> Event:
    event = dict(held.event or {})
    event.pop("exc_info", None)  # it is not being handled any more
    return {**event, _MORE: held.n - 1}


def _remote_of(source: object) -> str:
    """Return what `source_of` takes for an event that names the source itself (tcp.name_of)."""
    return f"[{str(source).partition('/')[0]}]:0" if source else ""


def source_of(remote: str) -> str:
    """Return what counts as one source of `HOST:PORT` or a URL: an IPv4 address, an IPv6 /64."""
    host = remote.rpartition("://")[2].rpartition(":")[0].strip("[]").partition("%")[0]
    try:
        address = ip_address(host)
    except ValueError:
        return host
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped) if mapped else address.packed[:8].hex()
    return str(address)
