"""Settings: the one validated value that a gateway runs on, from TOML file and command line.

    file --------- document.py ---------> Document --.
                                                     +--load()--> ServeSettings, ConnectSettings
    command line --- click -------------> Options ---'

The command line wins over the file, and the file over the defaults, which are in the
sections of document.py. Everything is checked here, before a device, a socket or a directory is
touched; each complaint starts with the option or the file and field where the value was written.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, ClassVar, Final, Literal, NamedTuple

from fastun.config import document as toml
from fastun.config import full_tunnel, host, identity, links, observing, push_settings, wg_quick
from fastun.config.data_path import DataPath, data_path
from fastun.config.document import Document, InterfaceSection
from fastun.config.fleet import Fleet, fleet, refuse_fleet
from fastun.config.forward import Forward, forward
from fastun.config.hooks import Hooks, hooks
from fastun.config.identity import Identity
from fastun.config.interface import (
    check_mtu,
    default_mtu,
    parse_addresses,
    parse_interface_name,
)
from fastun.config.kill_switch import kill_switch
from fastun.config.lanes import lanes
from fastun.config.observing import LogSettings
from fastun.config.push_settings import Pushed
from fastun.config.remarks import remarks
from fastun.config.sources import Options, Sources
from fastun.config.vocabulary import (
    LOG_FORMATS,
    MODES,
    WIRES,
    Accept,
    LogFormat,
    Mode,
    Role,
    Table,
    Wire,
    one_of,
)
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote
from fastun.peers.peer import Address, Peer

# What `serve` has on the wireguard wire when nothing else is said, so that `peer add` has addresses
# to give away. Private (RFC 1918), and not where home routers and container bridges usually are.
DEFAULT_SERVER_ADDRESSES: Final = ("10.55.0.1/24",)

PRIVATE_KEY_FILE_NAME: Final = "private.key"

_MAX_SOCKET_PATH_BYTES = 107  # sockaddr_un's sun_path less its NUL.


@dataclass(frozen=True, slots=True, kw_only=True)
class CommonSettings:
    """What either role runs on. Every value in here has been checked.

    `mtu` is in bytes, `metrics` None for off, `forward` None for no forwarding. `fwmark` goes on
    every outer packet, 0 is none. `peer_name` is the other end's on a wire without keys.

    Only on the wireguard wire: `private_key` (32 bytes) is None where the configuration has none;
    then the key is in `private_key_file`. `peers` are those of the file.
    """

    interface: str
    mode: Mode
    addresses: tuple[Address, ...]
    mtu: int
    data_path: DataPath
    mss_clamp: bool
    wire: Wire
    fwmark: int
    table: Table
    place: host.DevicePlace
    forward: Forward | None
    hooks: Hooks
    peer_name: str
    lanes: int  # queues of the device, each with workers of its own
    private_key: bytes | None = field(repr=False)
    peers: tuple[Peer, ...]
    metrics: tuple[str, int] | None
    state_dir: Path
    run_dir: Path
    log: LogSettings

    @property
    def private_key_file(self) -> Path:
        """Where our key is if the configuration has none."""
        return self.state_dir / PRIVATE_KEY_FILE_NAME

    @property
    def metrics_are_exposed(self) -> bool:
        """Whether other hosts may be able to read the metrics."""
        if self.metrics is None or self.metrics[0] == "localhost":
            return False
        try:
            return not ip_address(self.metrics[0]).is_loopback
        except ValueError:  # A name, which may resolve to anything.
            return True


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeSettings(CommonSettings):
    """What `serve` runs on besides. The endpoints of its peers are all udp."""

    role: ClassVar[Literal["serve"]] = "serve"
    listen: tuple[Endpoint, ...]
    push: Pushed
    fleet: Fleet | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectSettings(CommonSettings):
    """What `connect` runs on besides.

    One of its peers at least has an endpoint, and there is no other if it has one that is tcp.
    `endpoints` are all that are dialled, `udp_port` is the local port, None for any. `accept` is
    what is applied of what the server pushes; routes, only those within the peer's allowed IPs.
    `allow_lan` matters where everything goes through the tunnel, and with a kill switch.
    """

    role: ClassVar[Literal["connect"]] = "connect"
    endpoints: tuple[Endpoint, ...]
    udp_port: int | None
    dns: tuple[str, ...]
    dns_search: tuple[str, ...]
    accept: tuple[Accept, ...]
    allow_lan: bool
    kill_switch: bool

    @property
    def endpoint(self) -> Endpoint:
        """The first that is dialled."""
        return self.endpoints[0]


Settings = ServeSettings | ConnectSettings

# Fields of [interface] that are settings as they are: any value of their type will do.
_AS_WRITTEN: Final = {each.name for each in dataclasses.fields(CommonSettings)}.intersection(
    InterfaceSection.__struct_fields__
)


def load(
    role: Role,
    target: str | None,
    options: Options,
    remark: Callable[[str], None] = lambda _: None,
    *,
    is_again: bool = False,
) -> Settings:
    """Return the settings of a gateway, or raise ConfigError. Nothing is touched but files read.

    `target` is the argument of `connect`: an endpoint URL, or the path of a configuration file.
    `remark` is called with a line for each thing in the file that is hardly meant. `is_again`: for
    a reload.
    """
    url, path = _target(target, options.config)
    settings = _serve if role == "serve" else _connect
    if path is None:
        return settings(Sources(options, url, Document(), None))
    parse = wg_quick.parse if wg_quick.is_wg_quick(path) else None
    with toml.reading(path, parse, is_again=is_again) as document:
        sources = Sources(options, url, document, path)
        loaded = settings(sources)
        for line in remarks(sources):
            remark(line)
        return loaded


def _serve(sources: Sources) -> ServeSettings:
    device = _device(sources)
    if not device.addresses and device.wire == "wireguard" and device.mode == "tun":
        device = device._replace(addresses=parse_addresses(DEFAULT_SERVER_ADDRESSES, "--address"))
    push = Pushed()
    if device.wire == "wireguard":
        listen = links.listened(sources, device.wire)
        ours = identity.of_server(sources, device.addresses, mode=device.mode)
        links.check_sites(sources, ours.peers, listen)
        behind = forward(sources, device.mode)
        push = push_settings.pushed(
            sources, device.addresses, listen, behind.networks if behind else ()
        )
    else:
        links.refuse_dialling(sources)
        ours = identity.of_insecure_peer(sources, device.wire)
        listen = links.listened(sources, device.wire)
    host.refuse_clients_fields(sources)
    common = _common(sources, device, ours, listen)
    return ServeSettings(**common, listen=listen, push=push, fleet=fleet(sources, device.wire))


def _connect(sources: Sources) -> ConnectSettings:
    device = _device(sources)
    links.refuse_listening(sources)
    refuse_fleet(sources)
    accept: tuple[Accept, ...] = ()
    table = host.table(sources, device.mode)
    if device.wire == "wireguard":
        ours = identity.of_client(sources, device.addresses, mode=device.mode)
        links.check_dialled(sources, ours.peers)
        accept = push_settings.accepted(sources, table)
        if full_tunnel.may_take_all(table, accept):
            peers = full_tunnel.widened(ours.peers, full_tunnel.place(sources))
            ours = dataclasses.replace(ours, peers=peers)
        endpoints = tuple(endpoint for peer in ours.peers for endpoint in peer.endpoints)
    else:
        ours = identity.of_insecure_peer(sources, device.wire)
        endpoints = links.dialled_insecurely(sources, device.wire)
    dns, dns_search = host.dns(sources)
    has_kill_switch = kill_switch(sources, device.interface)
    is_lan_shut = has_kill_switch or full_tunnel.may_take_all(table, accept)
    return ConnectSettings(
        **_common(sources, device, ours, endpoints),
        endpoints=endpoints,
        udp_port=host.udp_port(sources),
        dns=dns,
        dns_search=dns_search,
        accept=accept,
        allow_lan=full_tunnel.allow_lan(sources, is_shut=is_lan_shut),
        kill_switch=has_kill_switch,
    )


class _Device(NamedTuple):
    """What the rest of the settings depends on."""

    interface: str
    mode: Mode
    wire: Wire
    addresses: tuple[Address, ...]
    lanes: int


def _device(sources: Sources) -> _Device:
    options, section = sources.options, sources.document.interface
    effective = sources.effective
    name = effective(options.interface, "--interface", section.name, "interface.name")
    mode = effective(options.mode, "--mode", section.mode, "interface.mode")
    wire = effective(options.wire, "--wire", section.wire, "interface.wire")
    cidrs = effective(options.address or None, "--address", section.address, "interface.address")
    device = _Device(
        interface=parse_interface_name(*name),
        mode=one_of(MODES, *mode),
        wire=_wire(*wire, insecure=options.insecure),
        addresses=parse_addresses(*cidrs),
        lanes=1,
    )
    wanted = effective(options.lanes, "--lanes", section.lanes, "interface.lanes")
    device = device._replace(lanes=lanes(*wanted, mode=device.mode, wire=device.wire))
    _check_run_dir(options.run_dir, device.interface)
    return device


def _common(
    sources: Sources, device: _Device, ours: Identity, endpoints: Iterable[Endpoint]
) -> dict[str, Any]:
    """Return the fields of CommonSettings; raise ConfigError."""
    options, document = sources.options, sources.document
    return {
        **{name: getattr(document.interface, name) for name in _AS_WRITTEN},
        **device._asdict(),
        "mtu": _mtu(sources, device, endpoints),
        "data_path": data_path(document),
        "fwmark": host.fwmark(sources),
        "table": host.table(sources, device.mode),
        "place": host.place(sources, device.mode, device.interface, device.addresses),
        "forward": forward(sources, device.mode),
        "hooks": hooks(sources, device.interface),
        "peer_name": ours.peer_name,
        "private_key": ours.private_key,
        "peers": ours.peers,
        "metrics": observing.metrics(sources),
        "state_dir": options.state,
        "run_dir": options.run_dir,
        "log": observing.log(sources),
    }


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


def _wire(value: str, where: str, *, insecure: bool) -> Wire:
    wire = one_of(WIRES, value, where)
    if wire != "wireguard" and not insecure:
        raise ConfigError(
            f"{where}: {wire} is unencrypted: anyone on the path can read and inject packets;"
            " add --insecure to run it anyway"
        )
    return wire


def _mtu(sources: Sources, device: _Device, endpoints: Iterable[Endpoint]) -> int:
    in_file = sources.document.interface.mtu
    mtu, where = sources.effective(sources.options.mtu, "--mtu", in_file, "interface.mtu")
    if mtu is None:
        mtu = default_mtu(device.mode, has_udp=any(each.scheme == "udp" for each in endpoints))
    check_mtu(mtu, where, mode=device.mode, wire=device.wire, addresses=device.addresses)
    return mtu


def _check_run_dir(run_dir: Path, interface: str) -> None:
    socket = os.fsencode(run_dir / f"{interface}.sock")
    if len(socket) > _MAX_SOCKET_PATH_BYTES:
        raise ConfigError(
            f"--run-dir: {quote(str(run_dir))} makes the control socket's path {len(socket)} bytes"
            f" long (maximum {_MAX_SOCKET_PATH_BYTES}); choose a shorter directory"
        )


__all__ = [
    "DEFAULT_SERVER_ADDRESSES",
    "LOG_FORMATS",
    "MODES",
    "PRIVATE_KEY_FILE_NAME",
    "WIRES",
    "CommonSettings",
    "ConnectSettings",
    "LogFormat",
    "Mode",
    "Options",
    "Role",
    "ServeSettings",
    "Settings",
    "Wire",
    "load",
]
