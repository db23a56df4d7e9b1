"""Settings: the one validated value that a gateway runs on, from TOML file and command line.

    file --------- document.py ---------> Document --.
                                                     +--load()--> Settings
    command line --- click -------------> Options ---'

The command line wins over the file, and the file over the defaults, which are in the
sections of document.py. Everything is checked here, before a device, a socket or a directory is
touched; each complaint starts with the option or the file and field where the value was written.
"""

import os
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Final, Literal, TypeVar, get_args

from fastun import endpoint
from fastun.config import document as toml
from fastun.config import host, identity, wg_quick
from fastun.config.document import Document
from fastun.config.host import StrongHost, Table
from fastun.config.identity import Accept, Identity, Pushed
from fastun.config.interface import (
    check_mtu,
    default_mtu,
    parse_addresses,
    parse_interface_name,
)
from fastun.config.sources import Options, Sources
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote
from fastun.peers.peer import Address, Peer

Role = Literal["serve", "connect"]
Mode = Literal["tun", "tap"]
Wire = Literal["wireguard", "plain", "simpletun"]
LogFormat = Literal["console", "json"]
MODES: Final[tuple[Mode, ...]] = get_args(Mode)
WIRES: Final[tuple[Wire, ...]] = get_args(Wire)
LOG_FORMATS: Final[tuple[LogFormat, ...]] = get_args(LogFormat)

# What `serve` has on the wireguard wire when nothing else is said, so that `peer add` has addresses
# to give away. Private (RFC 1918), and not where home routers and container bridges usually are.
DEFAULT_SERVER_ADDRESSES: Final = ("10.55.0.1/24",)

PRIVATE_KEY_FILE_NAME: Final = "private.key"

_MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un's sun_path less its NUL.

_Choice = TypeVar("_Choice", bound=str)


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What a gateway runs on. Every value in here has been checked.

    `mtu` is in bytes. `listen` is empty for `connect`, `endpoints` for `serve`, `metrics` None for
    off. `verbosity` 0 logs from info up, 1 and more from debug up. `fwmark` goes on every outer
    packet, 0 is none; `udp_port` is the local port of `connect`, None for any.

    Only on the wireguard wire: `private_key` (32 bytes) is None where the configuration has none;
    then the key is in `private_key_file`, and is made there when the file is missing. `peers`
    are those of the file. Of `connect`, one at least has an endpoint, and there is no other if it
    has one that is tcp; of `serve`, all their endpoints are udp. `accept` is what `connect` applies
    of what the server pushes; routes, only those within the peer's allowed IPs. `push` is what
    `serve` gives its clients.
    """

    role: Role
    interface: str
    mode: Mode
    addresses: tuple[Address, ...]
    mtu: int
    gso: bool
    udp_offload: bool = True
    mss_clamp: bool = False
    wire: Wire
    insecure: bool
    lanes: int
    listen: tuple[Endpoint, ...]
    endpoints: tuple[Endpoint, ...]
    udp_port: int | None = None
    fwmark: int = 0
    table: Table = "off"
    strong_host: StrongHost = "auto"
    dns: tuple[str, ...] = ()
    dns_search: tuple[str, ...] = ()
    peer_name: str
    private_key: bytes | None = field(default=None, repr=False)
    private_key_file: Path
    peers: tuple[Peer, ...] = ()
    accept: tuple[Accept, ...] = ()
    push: Pushed = field(default_factory=Pushed)
    metrics: tuple[str, int] | None
    state_dir: Path
    run_dir: Path
    log_format: LogFormat
    verbosity: int

    @property
    def endpoint(self) -> Endpoint | None:
        """The first that `connect` dials; None for `serve`."""
        return self.endpoints[0] if self.endpoints else None

    @property
    def metrics_are_exposed(self) -> bool:
        """Whether other hosts may be able to read the metrics."""
        if self.metrics is None or self.metrics[0] == "localhost":
            return False
        try:
            return not ip_address(self.metrics[0]).is_loopback
        except ValueError:  # A name, which may resolve to anything.
            return True


def load(role: Role, target: str | None, options: Options) -> Settings:
    """Return the settings of a gateway, or raise ConfigError. Nothing is touched but files read.

    `target` is the argument of `connect`: an endpoint URL, or the path of a configuration file.
    """
    url, path = _target(target, options.config)
    document = Document()
    if path:
        document = toml.read(path, wg_quick.parse if wg_quick.is_wg_quick(path) else None)
    sources = Sources(options, url, document, path)
    section, effective = document.interface, sources.effective

    interface = parse_interface_name(
        *effective(options.interface, "--interface", section.name, "interface.name")
    )
    mode = _one_of(MODES, *effective(options.mode, "--mode", section.mode, "interface.mode"))
    wire = _wire(
        *effective(options.wire, "--wire", section.wire, "interface.wire"),
        insecure=options.insecure,
    )
    addresses = parse_addresses(
        *effective(options.address or None, "--address", section.address, "interface.address")
    )
    if not addresses and (role, wire, mode) == ("serve", "wireguard", "tun"):
        addresses = parse_addresses(DEFAULT_SERVER_ADDRESSES, "--address")
    _check_lanes(*effective(options.lanes, "--lanes", section.lanes, "interface.lanes"))
    _check_run_dir(options.run_dir, interface)
    identity = _identity(sources, role, wire, mode, addresses)
    of_host = host.read(sources, role, mode)
    return Settings(
        role=role,
        interface=interface,
        mode=mode,
        addresses=addresses,
        mtu=_mtu(sources, mode, wire, addresses, identity),
        gso=section.gso,
        udp_offload=section.udp_offload,
        mss_clamp=section.mss_clamp,
        wire=wire,
        insecure=options.insecure,
        lanes=1,
        listen=identity.listen,
        endpoints=identity.endpoints,
        udp_port=of_host.udp_port,
        fwmark=of_host.fwmark,
        table=of_host.table,
        strong_host=of_host.strong_host,
        dns=of_host.dns,
        dns_search=of_host.dns_search,
        peer_name=identity.peer_name,
        private_key=identity.private_key,
        private_key_file=options.state / PRIVATE_KEY_FILE_NAME,
        peers=identity.peers,
        accept=identity.accept,
        push=identity.push,
        metrics=_metrics(
            *effective(options.metrics, "--metrics", document.metrics.listen, "metrics.listen")
        ),
        state_dir=options.state,
        run_dir=options.run_dir,
        log_format=_one_of(LOG_FORMATS, options.log_format, "--log-format"),
        verbosity=options.verbose,
    )


def _identity(
    sources: Sources, role: Role, wire: Wire, mode: Mode, addresses: tuple[Address, ...]
) -> Identity:
    if wire != "wireguard":
        insecure = {
            "serve": identity.of_insecure_server,
            "connect": identity.of_insecure_client,
        }
        return insecure[role](sources, wire)
    secure = {"serve": identity.of_server, "connect": identity.of_client}
    return secure[role](sources, addresses, routes_ip=mode == "tun")


def _target(target: str | None, config: Path | None) -> tuple[str | None, Path | None]:
    """Return the endpoint's URL and the file to read, either None if not given."""
    if target is None:
        return None, config
    if "://" in target:
        return target, config
    is_file = os.path.isfile(target)  # noqa: PTH113 (Path's raises for what can be no path)
    if not (is_file or "/" in target or target.endswith((".toml", ".conf"))):
        return target, config  # To be refused with the URL that was meant.
    if config is not None:
        raise ConfigError(f"{quote(target)} and --config {quote(str(config))}: give only one file")
    return None, Path(target)


def _one_of(choices: tuple[_Choice, ...], value: str, where: str) -> _Choice:
    for choice in choices:
        if choice == value:
            return choice
    raise ConfigError(f"{where}: {quote(value)} is not one of {', '.join(choices)}")


def _wire(value: str, where: str, *, insecure: bool) -> Wire:
    wire = _one_of(WIRES, value, where)
    if wire != "wireguard" and not insecure:
        raise ConfigError(
            f"{where}: {wire} is unencrypted: anyone on the path can read and inject packets;"
            " add --insecure to run it anyway"
        )
    return wire


def _mtu(
    sources: Sources, mode: Mode, wire: Wire, addresses: tuple[Address, ...], links: Identity
) -> int:
    said = sources.document.interface.mtu
    mtu, where = sources.effective(sources.options.mtu, "--mtu", said, "interface.mtu")
    if mtu is None:
        schemes = {endpoint.scheme for endpoint in (*links.listen, *links.endpoints)}
        mtu = default_mtu(mode, has_udp="udp" in schemes)
    check_mtu(mtu, where, mode=mode, wire=wire, addresses=addresses)
    return mtu


def _check_lanes(lanes: int, where: str) -> None:
    if lanes != 1:
        raise ConfigError(f"{where}: {lanes} lanes are not supported; use 1")


def _check_run_dir(run_dir: Path, interface: str) -> None:
    socket = os.fsencode(run_dir / f"{interface}.sock")
    if len(socket) > _MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"--run-dir: {quote(str(run_dir))} makes the control socket's path {len(socket)} bytes"
            f" long (maximum {_MAX_SOCKET_PATH_BYTES}); choose a shorter directory"
        )


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


__all__ = [
    "DEFAULT_SERVER_ADDRESSES",
    "LOG_FORMATS",
    "MODES",
    "PRIVATE_KEY_FILE_NAME",
    "WIRES",
    "LogFormat",
    "Mode",
    "Options",
    "Role",
    "Settings",
    "Wire",
    "load",
]
