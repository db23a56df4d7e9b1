"""What differs between the settings a gateway runs on and those that its file has now.

    settings running, settings read --plan()--> changes, those it can apply, and the rest by name

Only compares; reload.py has it done. Every field of the settings is in one of the two tables here:
what is in neither, needs a restart.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from msgspec import structs

from fastun.config import data_path, terms
from fastun.config.hooks import EVENTS
from fastun.endpoint import format_host_port

if TYPE_CHECKING:
    from fastun.config.forward import Forward
    from fastun.config.hooks import Hooks
    from fastun.config.observing import LogSettings
    from fastun.config.settings import Settings
    from fastun.peers.peer import Peer

# Fields of the settings that change while the gateway runs, with their place in the file.
LIVE: Final = {
    "accept": "interface.accept",
    "addresses": "interface.address",
    "allow_lan": "interface.allow_lan",
    "dns": "interface.dns",
    "dns_search": "interface.dns",
    "endpoints": "peer.endpoints",
    "forward": "forward",
    "hooks": "hooks",
    "kill_switch": "interface.kill_switch",
    "listen": "listen",
    "log": "log",
    "metrics": "metrics.listen",
    "mss_clamp": "interface.mss_clamp",
    "mtu": "interface.mtu",
    "peers": "peer",
    "push": "push",
    "udp_port": "interface.listen_port",
}

# Those that do not: device, sockets and workers are made with them.
RESTART: Final = {
    "fleet": "fleet",
    "fwmark": "interface.fwmark",
    "interface": "interface.name",
    "mode": "interface.mode",
    "peer_name": "peer.name",
    "place": "interface.bridge or strong_host",
    "private_key": "interface.private_key",
    "run_dir": "--run-dir",
    "state_dir": "--state",
    "table": "interface.table",
    "wire": "interface.wire",
}

# What the other fields mean depends on these: while one of them waits for a restart, all do.
_DECISIVE: Final = ("interface", "mode", "wire")

_PEER_FIELDS: Final = {
    "allowed_ips": "allowed IPs",
    "endpoints": "endpoints",
    "keepalive_s": "keepalive",
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What becomes of the settings: ``settings`` are those to run on from now on.

    ``fields`` are those of them that change, ``changes`` the same in words, a line each.
    """

    settings: Settings
    fields: frozenset[str] = frozenset()
    changes: tuple[str, ...] = ()
    needs_restart: tuple[str, ...] = ()


def plan(running: Settings, read: Settings) -> Plan:
    """Return how to come from the settings that run to those that were read, of the same role."""
    names = [
        field.name
        for field in dataclasses.fields(running)
        if getattr(running, field.name) != getattr(read, field.name)
    ]
    if running.wire == "wireguard" and "peer_name" in names:
        names.remove("peer_name")
    held_back = {*_of_new_transport(running, read), *_without_mark(running, read)}
    late_names = [name for name in names if name not in LIVE or name in held_back]
    if any(name in _DECISIVE for name in names):
        return Plan(settings=running, needs_restart=_places(names, running, read))
    live = [name for name in names if name not in late_names]
    settings = dataclasses.replace(running, **{name: getattr(read, name) for name in live})
    if running.wire == "wireguard":
        settings = dataclasses.replace(settings, peer_name=read.peer_name)
    changes = [line for name in live for line in _said(name, running, settings)]
    return Plan(
        settings=settings,
        fields=frozenset(live),
        changes=tuple(changes),
        needs_restart=_places(late_names, running, read),
    )


def _places(names: Iterable[str], running: Settings, read: Settings) -> tuple[str, ...]:
    places = (
        data_path.changed(running.data_path, read.data_path)
        if name == "data_path"
        else [{**RESTART, **LIVE}.get(name, name)]
        for name in names
    )
    return tuple(dict.fromkeys(place for each in places for place in each))


def _of_new_transport(running: Settings, read: Settings) -> list[str]:
    """Return the fields that ask for a transport for which nothing was made at the start."""
    if running.role == "serve" and read.role == "serve":
        more = {each.scheme for each in read.listen} - {each.scheme for each in running.listen}
        return ["listen"] if more else []
    if running.role == "connect" and read.role == "connect":
        were, are = ({each.scheme for each in it.endpoints} for it in (running, read))
        return ["peers", "endpoints"] if were != are else []
    return []


def _without_mark(running: Settings, read: Settings) -> list[str]:
    """Return the fields for which our own packets need the mark that they do not have."""
    if running.role == "connect" and read.role == "connect" and not running.fwmark:
        return ["kill_switch", "allow_lan"] if read.kill_switch and not running.kill_switch else []
    return []


# -- in words ---------------------------------------------------------------------------------


def _said(name: str, before: Settings, now: Settings) -> Iterable[str]:
    was, is_ = getattr(before, name), getattr(now, name)
    if name in _VALUES:
        said = _VALUES[name]
        return [f"{LIVE[name]}: {said(was)} -> {said(is_)}"]
    match name:
        case "peers":
            return _peers(was, is_)
        case "push":
            return [
                f"push.{field.name.removesuffix('_s')}: {_value(*pair)}"
                for field in structs.fields(was)
                if (pair := (getattr(was, field.name), getattr(is_, field.name)))[0] != pair[1]
            ]
        case "endpoints" if now.wire == "wireguard":
            return []  # said of its peer
    return [f"{LIVE[name]}: {_value(was, is_)}"]


def _peers(before: Iterable[Peer], now: Iterable[Peer]) -> list[str]:
    """Return what happened to each peer; a peer is its key."""
    were, are = ({peer.public_key: peer for peer in peers} for peers in (before, now))
    lines = [f"peer {peer.name}: removed" for key, peer in were.items() if key not in are]
    lines += [f"peer {peer.name}: added" for key, peer in are.items() if key not in were]
    for key, peer in are.items():
        if key in were and were[key] != peer:
            lines.append(f"peer {peer.name}: {_peer(were[key], peer)}")
    return lines or ["peer: another order"]


def _peer(was: Peer, peer: Peer) -> str:
    said = [f"was {was.name}"] if was.name != peer.name else []
    said += [
        f"{words} {_value(getattr(was, name), getattr(peer, name))}"
        for name, words in _PEER_FIELDS.items()
        if getattr(was, name) != getattr(peer, name)
    ]
    if was.preshared_key != peer.preshared_key:
        said.append("another pre-shared key, its session ends")
    said += terms.said_changes(was.terms, peer.terms)
    rest = {field.name for field in dataclasses.fields(peer)} - {*_PEER_FIELDS, *_UNSAID}
    said += [name for name in sorted(rest) if getattr(was, name) != getattr(peer, name)]
    return ", ".join(said)


_UNSAID: Final = ("name", "public_key", "preshared_key", "terms")


def _value(was: Any, is_: Any) -> str:
    """Return what has changed: of a list what has come and gone, else before and after."""
    if not isinstance(was, tuple) or not isinstance(is_, tuple):
        return f"{was} -> {is_}"
    had, has = set(was), set(is_)
    parts = [f"+{item}" for item in is_ if item not in had]
    parts += [f"-{item}" for item in was if item not in has]
    more = f" and {len(parts) - _LISTED_MAX} more" if len(parts) > _LISTED_MAX else ""
    return (" ".join(parts[:_LISTED_MAX]) + more) if parts else "another order"


_LISTED_MAX: Final = 8


def _metrics(address: tuple[str, int] | None) -> str:
    return "off" if address is None else format_host_port(*address)


def _forward(forward: Forward | None) -> str:
    if forward is None:
        return "off"
    to = " ".join(map(str, forward.to[:_LISTED_MAX])) or "all"
    masquerade = forward.masquerade
    by = " ".join(masquerade) if isinstance(masquerade, tuple) else "on" if masquerade else "off"
    return f"on (to {to}, masquerade {by}, between peers {'on' if forward.peers else 'off'})"


def _hooks(hooks: Hooks) -> str:
    events = [event for event in EVENTS if hooks.of(event)]
    return f"{' '.join(events) or 'none'} (timeout {hooks.timeout_s:g} s)"


def _switch(is_on: bool) -> str:
    return "on" if is_on else "off"


def _log(settings: LogSettings) -> str:
    return f"{settings.format} from {settings.level} up"


# How values are said that are not said as they are.
_VALUES: Final[dict[str, Callable[[Any], str]]] = {
    "allow_lan": _switch,
    "forward": _forward,
    "hooks": _hooks,
    "kill_switch": _switch,
    "metrics": _metrics,
    "log": _log,
    "udp_port": lambda port: str(port or "any"),
}
