"""Settings: the one validated value that a gateway runs on, from TOML file and command line.

    file ---tomllib---> tables ---msgspec---> Document --.
                                                          +--load()--> Settings
    command line --------click--------------> Options ---'

What the command line says wins over the file, and the file over the defaults, which stand in the
section classes below. Everything is checked here, before a device, a socket or a directory is
touched; each complaint starts with the option or the file and field where the value was written.
"""

import difflib
import os
import re
import tomllib
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface, ip_address, ip_interface
from pathlib import Path
from typing import Annotated, Final, Literal, NoReturn, TypeVar, get_args

import msgspec

from fastun import endpoint
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote

Role = Literal["serve", "connect"]
Mode = Literal["tun", "tap"]
Wire = Literal["wireguard", "plain", "simpletun"]
LogFormat = Literal["console", "json"]
Address = IPv4Interface | IPv6Interface
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
WIRES: Final[tuple[Wire, ...]] = get_args(Wire)
LOG_FORMATS: Final[tuple[LogFormat, ...]] = get_args(LogFormat)

# The kernel's own limit for IPv4 is 68, but what carries less than 576 (RFC 791 section 3.2) is a
# slip of the pen. 65000 and an Ethernet header fit the u16 length of a stream frame.
MTU_RANGE: Final = range(576, 65000 + 1)
_MIN_MTU_IPV6 = 1280  # RFC 8200 section 5; the kernel takes no IPv6 address below it.
_SIMPLETUN_BUFFER_BYTES = 2000  # What the original program can receive in one frame.
_ETHERNET_VLAN_HEADER_BYTES = 18

_MAX_FILE_BYTES = 1 << 20  # Thousands of peers; more is another kind of file.
_MAX_PEER_NAME = 64  # It becomes a metric label on every series of the peer.
_WILDCARDS = ("0.0.0.0", "::")  # noqa: S104 (to refuse them, not to bind)
_MAX_NAME_BYTES = 15  # IFNAMSIZ less its NUL.
_MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un's sun_path less its NUL.
# Printable ASCII without / and :, which the kernel (dev_valid_name) refuses, and %, which it fills
# in: a name with %d asks it for the next free number.
_INTERFACE_NAME = re.compile(r"[!-$&-.0-9;-~]+")
_CIDR = re.compile("[^/%]+/[0-9]+")
_RESERVED_NAMES = frozenset({".", "..", "all", "default"})  # The last two are sysctl's.

_NOT_YET = "is not part of this version yet"

_Choice = TypeVar("_Choice", bound=str)
_Value = TypeVar("_Value")


class NotYet:
    """The type of a field whose feature is not there: to give it any value is refused by name."""


class _Section(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What all tables have in common: an unknown field is an error, never ignored."""


# TOML 1.0 promises 64 bits; unbounded, a number could be too long even to be shown.
_Int = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]


class InterfaceSection(_Section, frozen=True):
    """`[interface]`: the device and what goes through it. `mtu` in bytes."""

    name: str = "fastun0"
    mode: str = "tun"
    address: tuple[str, ...] = ()
    mtu: _Int = 1500
    lanes: _Int = 1
    wire: str = "wireguard"
    gso: bool = True  # Pass super-packets; off is for kernels that corrupt them.
    private_key_file: NotYet | None = None


class ListenSection(_Section, frozen=True):
    """`[listen]`: where `serve` waits for links."""

    tcp: tuple[str, ...] = ("tcp://[::]:55555",)
    udp: NotYet | None = None


class MetricsSection(_Section, frozen=True):
    """`[metrics]`: where Prometheus scrapes."""

    listen: str = "127.0.0.1:10055"


class PeerSection(_Section, frozen=True):
    """`[[peer]]`: who is on the other end."""

    name: str = "peer"
    endpoint: str | None = None
    endpoints: NotYet | None = None
    public_key: NotYet | None = None
    preshared_key_file: NotYet | None = None
    allowed_ips: NotYet | None = None
    keepalive: NotYet | None = None


class Document(_Section, frozen=True):
    """A whole configuration file."""

    interface: InterfaceSection = InterfaceSection()
    listen: ListenSection | None = None
    metrics: MetricsSection = MetricsSection()
    peer: tuple[PeerSection, ...] = ()
    forward: NotYet | None = None


_SECTIONS: Final[dict[str, type[_Section]]] = {
    "": Document,
    "interface": InterfaceSection,
    "listen": ListenSection,
    "metrics": MetricsSection,
    "peer": PeerSection,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the command line says, unchecked. None or empty: the file or its defaults decide."""

    config: Path | None = None
    interface: str | None = None
    mode: str | None = None
    address: tuple[str, ...] = ()
    mtu: int | None = None
    listen: tuple[str, ...] = ()
    wire: str | None = None
    insecure: bool = False
    metrics: str | None = None
    lanes: int | None = None
    state: Path = Path("/var/lib/fastun")
    run_dir: Path = Path("/run/fastun")
    log_format: str = "console"
    verbose: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a gateway runs on. Every value in here has been checked.

    `mtu` is in bytes. `listen` is empty for `connect`, `endpoint` None for `serve`, `metrics`
    None for off. `verbosity` 0 logs from info up, 1 and more from debug up.
    """

    role: Role
    interface: str
    mode: Mode
    addresses: tuple[Address, ...]
    mtu: int
    gso: bool
    wire: Wire
    insecure: bool
    lanes: int
    listen: tuple[Endpoint, ...]
    endpoint: Endpoint | None
    peer_name: str
    metrics: tuple[str, int] | None
    state_dir: Path
    run_dir: Path
    log_format: LogFormat
    verbosity: int

    @property
    def metrics_are_exposed(self) -> bool:
        """Whether other hosts may be able to read the metrics."""
        if self.metrics is None or self.metrics[0] == "localhost":
            return False
        try:
            return not ip_address(self.metrics[0]).is_loopback
        except ValueError:  # A name, which may resolve to anything.
            return True


@dataclass(frozen=True, slots=True)
class _Sources:
    """The places where a value can have been written."""

    options: Options
    document: Document
    path: Path | None

    def said(
        self, option: _Value | None, flag: str, value: _Value, field: str
    ) -> tuple[_Value, str]:
        """Return the value that counts, and the place to mend it."""
        if option is None and self.path:
            return value, self.where(field)
        return value if option is None else option, flag

    def where(self, field: str) -> str:
        """Return the place of a field of the file."""
        return f"{self.path}: {field}"


def load(role: Role, target: str | None, options: Options) -> Settings:
    """Return the settings of a gateway, or raise ConfigError. Nothing is touched but the file read.

    `target` is the argument of `connect`: an endpoint URL, or the path of a configuration file.
    """
    url, path = _target(target, options.config)
    document = _read(path) if path else Document()
    sources = _Sources(options, document, path)
    section, said = document.interface, sources.said

    interface = _interface(*said(options.interface, "--interface", section.name, "interface.name"))
    mode = _one_of(MODES, *said(options.mode, "--mode", section.mode, "interface.mode"))
    wire = _wire(
        *said(options.wire, "--wire", section.wire, "interface.wire"), insecure=options.insecure
    )
    addresses = _addresses(
        *said(options.address or None, "--address", section.address, "interface.address")
    )
    mtu, mtu_where = said(options.mtu, "--mtu", section.mtu, "interface.mtu")
    _check_mtu(mtu, mtu_where, mode=mode, wire=wire, addresses=addresses)
    _check_lanes(*said(options.lanes, "--lanes", section.lanes, "interface.lanes"))
    _check_run_dir(options.run_dir, interface)
    peer = _peer(sources)
    return Settings(
        role=role,
        interface=interface,
        mode=mode,
        addresses=addresses,
        mtu=mtu,
        gso=section.gso,
        wire=wire,
        insecure=options.insecure,
        lanes=1,
        listen=_listen(sources, peer) if role == "serve" else (),
        endpoint=_dial(sources, peer, url) if role == "connect" else None,
        peer_name=peer.name,
        metrics=_metrics(
            *said(options.metrics, "--metrics", document.metrics.listen, "metrics.listen")
        ),
        state_dir=options.state,
        run_dir=options.run_dir,
        log_format=_one_of(LOG_FORMATS, options.log_format, "--log-format"),
        verbosity=options.verbose,
    )


def _target(target: str | None, config: Path | None) -> tuple[str | None, Path | None]:
    """Return the endpoint's URL and the file to read, either None if not given."""
    if target is None:
        return None, config
    if "://" in target:
        return target, config
    if target.endswith(".conf"):
        raise ConfigError(f"{quote(target)}: a wg-quick file {_NOT_YET}; write fastun TOML")
    is_file = os.path.isfile(target)  # noqa: PTH113 (Path's raises for what can be no path)
    if not (is_file or "/" in target or target.endswith(".toml")):
        return target, config  # To be refused with the URL that was meant.
    if config is not None:
        raise ConfigError(f"{quote(target)} and --config {quote(str(config))}: give one file")
    return None, Path(target)


def _read(path: Path) -> Document:
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path.
        reason = error.strerror if isinstance(error, OSError) else error
        raise ConfigError(f"configuration {quote(str(path))} cannot be read: {reason}") from None
    if len(content) > _MAX_FILE_BYTES:
        raise ConfigError(f"{path}: longer than 1 MiB; this is not a configuration")
    try:
        return msgspec.convert(tomllib.loads(content.decode()), Document, dec_hook=_refuse)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_explain(str(error))}") from None
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path}: not TOML: {error}") from None


def _refuse(_kind: type, _value: object) -> NoReturn:
    raise ValueError(f"this {_NOT_YET}; take it out")


def _explain(complaint: str) -> str:
    """Turn msgspec's "complaint - at `$.place`" to "place: complaint"; name the nearest field."""
    what, _, place = complaint.partition(" - at `$")
    place = place.strip("`.")
    unknown = re.fullmatch("Object contains unknown field `(.*)`", what, re.DOTALL)
    if unknown is None:
        return f"{place}: {what.replace('`', '')}" if place else what.replace("`", "")
    field = f"{place}.{unknown[1]}".lstrip(".")
    known = _SECTIONS.get(place.partition("[")[0], Document).__struct_fields__
    nearest = difflib.get_close_matches(unknown[1], known, n=1)
    mend = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    return f"{quote(field)}: no such field; {mend}"


def _one_of(choices: tuple[_Choice, ...], value: str, where: str) -> _Choice:
    for choice in choices:
        if choice == value:
            return choice
    raise ConfigError(f"{where}: {quote(value)} is not one of {', '.join(choices)}")


def _interface(name: str, where: str) -> str:
    if not 1 <= len(name.encode(errors="replace")) <= _MAX_NAME_BYTES:
        raise ConfigError(f"{where}: {quote(name)} is not of 1 to {_MAX_NAME_BYTES} bytes")
    if not _INTERFACE_NAME.fullmatch(name) or name in _RESERVED_NAMES:
        raise ConfigError(
            f"{where}: {quote(name)} cannot name an interface; use letters, digits, - . _"
        )
    return name


def _wire(value: str, where: str, *, insecure: bool) -> Wire:
    wire = _one_of(WIRES, value, where)
    if wire == "wireguard":
        raise ConfigError(
            f"{where}: the encrypted wire {_NOT_YET}; '--wire plain --insecure' runs unencrypted"
        )
    if not insecure:
        raise ConfigError(
            f"{where}: {wire} is unencrypted, anyone on the path can read and inject packets;"
            " add --insecure to run it all the same"
        )
    return wire


def _addresses(texts: tuple[str, ...], where: str) -> tuple[Address, ...]:
    addresses = tuple(_address(text, where) for text in texts)
    for index, address in enumerate(addresses):
        if address.ip in {other.ip for other in addresses[:index]}:
            raise ConfigError(f"{where}: {address.ip} stands there twice; take one out")
    return addresses


def _address(text: str, where: str) -> Address:
    try:
        # A zone, a netmask or no prefix at all would pass ip_interface.
        address = ip_interface(text if _CIDR.fullmatch(text) else "")
    except ValueError:
        raise ConfigError(
            f"{where}: {quote(text)} is not an address with its prefix length;"
            " write it as in 10.9.0.1/24 or fd00:9::1/64"
        ) from None
    if address.ip.is_multicast or address.ip.is_unspecified:
        raise ConfigError(f"{where}: {text} cannot be a host's address; give one of its network")
    return address


def _check_mtu(
    mtu: int, where: str, *, mode: Mode, wire: Wire, addresses: tuple[Address, ...]
) -> None:
    smallest, largest = MTU_RANGE[0], MTU_RANGE[-1]
    wanted = ""
    if any(isinstance(address, IPv6Interface) for address in addresses):
        smallest, wanted = _MIN_MTU_IPV6, " for an IPv6 address"
    if wire == "simpletun":
        header = _ETHERNET_VLAN_HEADER_BYTES if mode == "tap" else 0
        largest, wanted = _SIMPLETUN_BUFFER_BYTES - header, f"{wanted} on the simpletun wire"
    if not smallest <= mtu <= largest:
        raise ConfigError(f"{where}: {mtu} is no MTU{wanted}; give {smallest} to {largest} bytes")


def _check_lanes(lanes: int, where: str) -> None:
    if lanes != 1:
        raise ConfigError(f"{where}: a number of lanes other than 1 {_NOT_YET}; give 1")


def _check_run_dir(run_dir: Path, interface: str) -> None:
    socket = os.fsencode(run_dir / f"{interface}.sock")
    if len(socket) > _MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"--run-dir: {quote(str(run_dir))} makes the control socket's path {len(socket)} bytes"
            f" long; {_MAX_SOCKET_PATH_BYTES} is the most"
        )


def _peer(sources: _Sources) -> PeerSection:
    peers = sources.document.peer
    if len(peers) > 1:
        raise ConfigError(f"{sources.where('peer')}: more than one peer {_NOT_YET}; keep one")
    peer = peers[0] if peers else PeerSection()
    if not (1 <= len(peer.name) <= _MAX_PEER_NAME and peer.name.isprintable()):
        raise ConfigError(
            f"{sources.where('peer.name')}: {quote(peer.name)} is not of 1 to {_MAX_PEER_NAME}"
            " printable characters"
        )
    return peer


def _listen(sources: _Sources, peer: PeerSection) -> tuple[Endpoint, ...]:
    if peer.endpoint is not None:
        where = sources.where("peer.endpoint")
        raise ConfigError(f"{where}: serve waits to be dialled; take it out, or use connect")
    section = sources.document.listen or ListenSection()
    texts, where = sources.said(
        sources.options.listen or None, "--listen", section.tcp, "listen.tcp"
    )
    if not texts:
        raise ConfigError(f"{where}: nothing to listen on; write {ListenSection().tcp[0]}")
    endpoints = tuple(_tcp(text, where) for text in texts)
    for index, repeated in enumerate(endpoints):
        if repeated in endpoints[:index]:
            raise ConfigError(f"{where}: {repeated} stands there twice; take one out")
    return endpoints


def _dial(sources: _Sources, peer: PeerSection, url: str | None) -> Endpoint:
    if sources.document.listen is not None:
        raise ConfigError(f"{sources.where('listen')}: connect does not listen; take it out")
    text, where = sources.said(url, "endpoint", peer.endpoint, "peer.endpoint")
    if text is None:
        raise ConfigError(f"{where}: missing; say whom to dial, as in tcp://vpn.example.net:55555")
    dialled = _tcp(text, where)
    if dialled.host in _WILDCARDS:
        raise ConfigError(f"{where}: {dialled} can only be listened on; name the host to dial")
    return dialled


def _tcp(text: str, where: str) -> Endpoint:
    try:
        parsed = endpoint.parse(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from None
    if parsed.scheme == "udp":
        raise ConfigError(f"{where}: {parsed}: a udp link {_NOT_YET}; write tcp://")
    return parsed


def _metrics(text: str, where: str) -> tuple[str, int] | None:
    if text == "off":
        return None
    try:
        host, port = endpoint.parse_host_port(text)
    except ConfigError as error:
        raise ConfigError(f"{where}: {quote(text)}: {error}") from None
    if port is None:
        raise ConfigError(f"{where}: {quote(text)} has no port; write HOST:PORT, or off")
    return host, port
