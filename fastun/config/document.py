"""The configuration file: TOML tables of known fields, read whole.

    file ---tomllib---> tables ---msgspec---> Document <---wg_quick.py--- wg-quick file

Here a file is checked for its form: fields that exist, of the right type. What the values mean is
for settings.py and fastun.peers.peer; written.py writes one. A file that holds a key is refused
when others can read it.
"""

import codecs
import contextlib
import os
import re
import tomllib
from collections.abc import Callable, Iterator
from datetime import date
from pathlib import Path
from typing import Annotated, Final

import msgspec

from fastun import private_file
from fastun.config import key_text
from fastun.errors import ConfigError, nearest, quote

# 130,560 allowed IPs, as WireGuard's own tests load, are 2 MiB, and 100,000 peers 12. This bounds
# what a wrong file (a disk's image, /dev/zero) can cost: a second, and some 100 MiB for a moment.
_MAX_FILE_BYTES: Final = 16 << 20


class Secret:
    """The text of a key. Only `reveal` shows it: a repr may end in a log or a traceback."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        """Hide `text`."""
        self._text = text

    def reveal(self) -> str:
        """Return the text."""
        return self._text


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all tables have in common: an unknown field is an error, never ignored."""


# TOML 1.0 promises 64 bits; unbounded, a number could be too long even to be shown.
_Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class InterfaceSection(_Section, frozen=True):
    """`[interface]`: the device, what goes through it, and this side's key. `mtu` in bytes.

    None is for what has a default that depends on other fields. The path of a key file is relative
    to the file that names it. `dns` has addresses of servers and domains to search.
    """

    name: str = "fastun0"
    mode: str = "tun"
    address: tuple[str, ...] = ()
    mtu: _Int | None = None
    lanes: str | _Int = 1
    wire: str = "wireguard"
    gso: bool = True  # Pass super-packets; off is for kernels that corrupt them.
    udp_offload: bool = True  # UDP_SEGMENT and UDP_GRO; off is for drivers that corrupt them.
    mss_clamp: bool = False
    listen_port: _Int | None = None
    fwmark: _Int = 0
    table: str | _Int | None = None
    strong_host: bool | str = "auto"
    allow_lan: bool = False
    kill_switch: bool = False
    bridge: str | None = None
    dns: tuple[str, ...] = ()
    private_key: Secret | None = None
    private_key_file: str | None = None
    accept: tuple[str, ...] | None = None


class ListenSection(_Section, frozen=True):
    """`[listen]`: where `serve` listens: only there, if either field is given."""

    udp: tuple[str, ...] | None = None
    tcp: tuple[str, ...] | None = None


class PushSection(_Section, frozen=True):
    """`[push]`: what `serve` gives its clients beside addresses, networks and MTU.

    `routes` to what is behind the server, `dns` as in `[interface]`, `keepalive` in seconds.
    `default`: all else, too.
    """

    routes: tuple[str, ...] = ()
    default: bool = False
    dns: tuple[str, ...] = ()
    keepalive: _Int = 0


class ForwardSection(_Section, frozen=True):
    """`[forward]`: this host as a router between its peers and its networks.

    `masquerade` may name interfaces. `to` None is all networks.
    """

    enabled: bool = True
    masquerade: bool | tuple[str, ...] = False
    peers: bool = True
    to: tuple[str, ...] | None = None


class HooksSection(_Section, frozen=True):
    """`[hooks]`: a program and its arguments for each event. `timeout` of each in seconds."""

    up: tuple[str, ...] | None = None
    down: tuple[str, ...] | None = None
    peer_up: tuple[str, ...] | None = None
    peer_down: tuple[str, ...] | None = None
    timeout: float = 10.0


class FleetSection(_Section, frozen=True):
    """`[fleet]`: one directory for several gateways. `routes`: to peers connected here alone."""

    directory: str | None = None
    name: str | None = None
    routes: bool = True


class MetricsSection(_Section, frozen=True):
    """`[metrics]`: where Prometheus scrapes."""

    listen: str = "127.0.0.1:10055"


class WorkersSection(_Section, frozen=True):
    """`[workers]`: how the workers of the data path share their work."""

    hand_over: bool = True  # One that is awake does the step of one that sleeps.
    # Sessions' keys in memory by memfd_secret; None: on a serving side, which does not hibernate.
    secret_memory: bool | None = None


class LogSection(_Section, frozen=True):
    """`[log]`: what goes to stderr."""

    format: str = "console"
    level: str = "info"


class Moment(str):
    """A date, as text: TOML has dates of its own, and they may be in quotes as well."""

    __slots__ = ()


class LimitTable(_Section, frozen=True):
    """`limit` of a `[[peer]]` where it is not one rate for both directions."""

    outbound: str | None = None
    inbound: str | None = None
    burst: str | None = None


class QuotaTable(_Section, frozen=True):
    """`quota` of a `[[peer]]` where it says what is left when it is used up."""

    size: str | None = None
    then: str | None = None


class PeerSection(_Section, frozen=True):
    """`[[peer]]`: the other end. `keepalive` in seconds; terms as `fastun peer` has them."""

    name: str = "peer"
    enabled: bool = True  # false: as if the section were not there
    endpoint: str | None = None
    endpoints: tuple[str, ...] | None = None
    public_key: str | None = None
    preshared_key: Secret | None = None
    preshared_key_file: str | None = None
    allowed_ips: tuple[str, ...] | None = None
    keepalive: _Int | None = None
    expires: Moment | None = None
    limit: str | LimitTable | None = None
    quota: str | QuotaTable | None = None
    to: tuple[str, ...] | None = None
    note: str | None = None


class Document(_Section, frozen=True):
    """A whole configuration file."""

    interface: InterfaceSection = InterfaceSection()
    listen: ListenSection | None = None
    push: PushSection | None = None
    forward: ForwardSection | None = None
    hooks: HooksSection | None = None
    fleet: FleetSection | None = None
    metrics: MetricsSection = MetricsSection()
    log: LogSection = LogSection()
    workers: WorkersSection = WorkersSection()
    peer: tuple[PeerSection, ...] = ()


_SECTIONS: Final[dict[str, type[_Section]]] = {
    "": Document,
    "interface": InterfaceSection,
    "listen": ListenSection,
    "push": PushSection,
    "forward": ForwardSection,
    "hooks": HooksSection,
    "fleet": FleetSection,
    "metrics": MetricsSection,
    "log": LogSection,
    "workers": WorkersSection,
    "peer": PeerSection,
    "peer.limit": LimitTable,
    "peer.quota": QuotaTable,
}


@contextlib.contextmanager
def reading(path: Path, parse: Callable[[str, Path], Document] | None = None) -> Iterator[Document]:
    """Yield what the file says; ConfigError names the file, and the field that is wrong.

    `parse` is for a file of another kind than TOML. No complaint from inside shows a key of the
    file, whoever raises it.
    """
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
            status = os.fstat(file.fileno())  # By its path it could be another file by now.
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"cannot read configuration {quote(str(path))}: {reason}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(
            f"{path}: longer than {_MAX_FILE_BYTES >> 20} MiB, not a configuration file;"
            " give another"
        )
    # wg(8) minds no odd letter in a comment; in a value it is refused like any wrong letter.
    text = _decoded(content, path, errors="replace" if parse else "strict")
    with key_text.hidden(text, shown=str(path)):
        document = (parse or _parse)(text, path)
        _check_private(status, path, document)
        yield document


def _decoded(content: bytes, path: Path, errors: str) -> str:
    """Return the text: UTF-8, or UTF-16 with its mark, as editors on other systems write it."""
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig", errors)
    except UnicodeDecodeError as error:
        # Its own text would show a byte of what may be a key.
        kind = "UTF-16" if is_utf16 else "UTF-8"
        raise ConfigError(
            f"{path}: byte {error.start} is not {kind}; save the file as UTF-8"
        ) from None
    if "\0" in text:
        raise ConfigError(f"{path}: not a text file; save it as UTF-8")
    return text.replace("\r\n", "\n")


def _parse(text: str, path: Path) -> Document:
    try:
        return msgspec.convert(tomllib.loads(text), Document, dec_hook=_decode)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _decode(kind: type, value: object) -> Secret | Moment:
    if kind is Moment and isinstance(value, date):  # a datetime is one
        return Moment(value.isoformat())
    if kind not in (Secret, Moment) or not isinstance(value, str):
        raise ValueError("must be a string in quotes")
    return Moment(value) if kind is Moment else Secret(value)


def _check_private(status: os.stat_result, path: Path, document: Document) -> None:
    """Refuse a file that holds a key and can be read or replaced by others."""
    held = [document.interface.private_key, *(peer.preshared_key for peer in document.peer)]
    if any(held):
        private_file.check(path, status, f"{path}: holds a key and")


def _explain(complaint: str) -> str:
    """Turn msgspec's "complaint - at `$.place`" to "place: complaint"; name the nearest field."""
    what, _, place = complaint.partition(" - at `$")
    place = place.strip("`.")
    what = what.replace(" | null", "")  # TOML has no null; None is for a field that is not there.
    unknown = re.fullmatch("Object contains unknown field `(.*)`", what, re.DOTALL)
    if unknown is None:
        what = _in_words(what.replace("`", ""))
        return f"{place}: {what}" if place else what
    field = f"{place}.{unknown[1]}".lstrip(".")
    known = _SECTIONS.get(re.sub(r"\[.*?\]", "", place), Document).__struct_fields__
    meant = nearest(unknown[1], known)
    fix = f"did you mean {meant}?" if meant else f"use one of {', '.join(known)}"
    return f"{quote(field)}: unknown field; {fix}"


_KINDS: Final = {
    "bool": "true or false",
    "int": "an integer",
    "float": "a number",
    "str": "a string in quotes",
    "array": "a list in brackets",
    "object": "a section",
    "datetime": "a date",
    "date": "a date",
    "time": "a time",
}


def _in_words(complaint: str) -> str:
    """Say "Expected int, got str" without the names that types have in a program."""
    expected, _, got = complaint.removeprefix("Expected ").partition(", got ")
    if expected.startswith(("int <=", "int >=")):
        return "is out of range"
    kinds = expected.split(" | ")
    if got not in _KINDS or not _KINDS.keys() >= set(kinds):
        return complaint
    found = "a number with a fraction" if got == "float" else _KINDS[got]
    return f"must be {', or '.join(_KINDS[kind] for kind in kinds)}; it is {found}"


__all__ = [
    "Document",
    "FleetSection",
    "ForwardSection",
    "HooksSection",
    "InterfaceSection",
    "LimitTable",
    "ListenSection",
    "LogSection",
    "MetricsSection",
    "Moment",
    "PeerSection",
    "PushSection",
    "QuotaTable",
    "Secret",
    "reading",
]
