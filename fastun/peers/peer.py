"""Peers: a public key with a name, the addresses that are its, and where it may be reached.

Allowed IPs are WireGuard's. Outbound, the peer with the longest matching prefix gets the packet;
inbound, a packet's source must belong to its sender in the same way. So a prefix inside another
peer's is a part cut out of it, and legal; the same prefix twice is not.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface

from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote
from fastun.peers.terms import USUAL, Terms
from fastun.vocabulary import EndpointOrder, Mode

# A name is a metric label, a file name and an argument: in none of the three does it need quotes,
# and no command takes it for an option. 64 is enough for a host name's longest label (63).
_NAME = re.compile(r"[A-Za-z0-9_@][A-Za-z0-9._@-]{0,63}")

Network = IPv4Network | IPv6Network
Address = IPv4Interface | IPv6Interface  # With the length of its network, as a device has it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One peer. Keys are 32 bytes; no pre-shared key is None; `keepalive_s` 0 is off.

    `endpoints` are for the side that dials, to be tried in their order, or in one of its own; it
    goes back to an earlier one that has answered for `fail_back_s`, 0 is never.
    """

    name: str
    public_key: bytes
    preshared_key: bytes | None = field(default=None, repr=False)
    allowed_ips: tuple[Network, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    endpoint_order: EndpointOrder = "listed"
    fail_back_s: int = 0
    keepalive_s: int = 0
    terms: Terms = USUAL


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What `peer add` needs to know of the gateway that serves the directory.

    `routes` are what it pushes: networks behind it. `peers` are those of its configuration file;
    their pre-shared keys are left out. In `room_bytes` of its hello a client's addresses have to
    fit, None where a version before this one has served. `dns` has servers and domains; `default`:
    it is a default route.
    """

    interface: str
    run_dir: str
    mode: Mode
    addresses: tuple[Address, ...]
    public_key: bytes
    listen: tuple[Endpoint, ...]
    routes: tuple[Network, ...] = ()
    peers: tuple[Peer, ...] = ()
    room_bytes: int | None = None
    dns: tuple[str, ...] = ()
    default: bool = False

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks that the device is in, each once."""
        return tuple(dict.fromkeys(address.network for address in self.addresses))


def is_name(text: str) -> bool:
    """Return whether `text` can name a peer."""
    return _NAME.fullmatch(text) is not None


# -- peers together ---------------------------------------------------------------------------


def check_together(peers: Iterable[Peer], own: Iterable[Address] = ()) -> None:
    """Raise ConfigError where two peers share a name, a key or a prefix; it names both.

    Also where a peer has one of the addresses that are this side's `own`.
    """
    names: set[str] = set()
    key_owners: dict[bytes, str] = {}
    prefix_owners: dict[Network, str] = {}
    own_prefixes = {one_host(address) for address in own}
    for peer in peers:
        if peer.name in names:
            raise ConfigError(f"two peers are named {quote(peer.name)}; rename one")
        names.add(peer.name)
        owner = key_owners.setdefault(peer.public_key, peer.name)
        if owner != peer.name:
            raise ConfigError(
                f"peers {quote(owner)} and {quote(peer.name)} have the same public key;"
                " generate a key for each"
            )
        for prefix in peer.allowed_ips:
            owner = prefix_owners.setdefault(prefix, peer.name)
            if owner != peer.name:
                raise ConfigError(
                    f"peers {quote(owner)} and {quote(peer.name)} both have {prefix};"
                    " remove it from one of them"
                )
            if prefix in own_prefixes:
                raise ConfigError(
                    f"peer {quote(peer.name)} has {prefix}, our own address; give it another"
                )


def refuse_own_key(peers: Iterable[Peer], own_public: bytes) -> None:
    """Raise ConfigError where a peer has this side's public key."""
    for peer in peers:
        if peer.public_key == own_public:
            raise ConfigError(f"peer {quote(peer.name)} has our own public key; give it the peer's")


# -- addresses --------------------------------------------------------------------------------


def one_host(address: Address) -> Network:
    """Return the prefix that holds this address alone."""
    return ip_interface(address.ip).network


def is_host(address: Address) -> bool:
    """Return whether a host of its network can have `address`."""
    first, last = hosts_of(address.network)
    return first <= int(address.ip) <= last


def hosts_of(network: Network) -> tuple[int, int]:
    """Return the first and the last address that a host can have.

    In a network of more than two addresses the first is the network itself, in IPv6 its routers'
    anycast address (RFC 4291 section 2.6.1), and IPv4's last is its broadcast (RFC 3021).
    """
    first, last = int(network.network_address), int(network.broadcast_address)
    if last - first > 1:
        first += 1
        last -= isinstance(network, IPv4Network)
    return first, last
