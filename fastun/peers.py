"""Peers: a public key with a name, the addresses that are its, and where it may be reached.

Allowed IPs are WireGuard's. Outbound, the peer with the longest matching prefix gets the packet;
inbound, a packet's source must belong to its sender in the same way. So a prefix inside another
peer's is a part cut out of it, and legal; the same prefix twice is not.

Peers stand in the configuration file, or in a directory that `fastun peer add` writes to while the
gateway runs. PeerDirectory is what all directories can do; fastun.peer_store has the one in SQLite.
"""

import difflib
from abc import ABC, abstractmethod
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from ipaddress import IPv4Interface, IPv4Network, IPv6Interface, IPv6Network, ip_interface
from typing import Literal

from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote

Network = IPv4Network | IPv6Network
Address = IPv4Interface | IPv6Interface  # With the length of its network, as a device has it.


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One peer. Keys are 32 bytes; no pre-shared key is None; `keepalive_s` 0 is off.

    `endpoints` are for the side that dials, to be tried in their order.
    """

    name: str
    public_key: bytes
    preshared_key: bytes | None = field(default=None, repr=False)
    allowed_ips: tuple[Network, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    keepalive_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """What the gateway that serves a directory's peers tells those who add to it.

    `routes` are what it pushes: networks behind it. `peers` are those of its configuration file;
    their pre-shared keys are left out.
    """

    interface: str
    run_dir: str
    mode: Literal["tun", "tap"]
    addresses: tuple[Address, ...]
    public_key: bytes
    listen: tuple[Endpoint, ...]
    routes: tuple[Network, ...] = ()
    peers: tuple[Peer, ...] = ()

    @property
    def networks(self) -> tuple[Network, ...]:
        """The networks that the device is in, each once."""
        return tuple(dict.fromkeys(address.network for address in self.addresses))


class PeerDirectory(ABC):
    """Where peers are kept: several processes may use one at once, each instance in one thread.

    Every method raises RuntimeFailure when the directory cannot be used.
    """

    @abstractmethod
    def changes(self) -> AbstractContextManager[None]:
        """Make what is read and written inside one step: all of it, or, on an exception, nothing.

        No other process changes the directory meanwhile, so what was free inside stays free.
        """

    @abstractmethod
    def version(self) -> int:
        """Return a number that grows with every change of peers, and else stays."""

    @abstractmethod
    def peers(self) -> tuple[Peer, ...]:
        """Return all, in the order of their names."""

    @abstractmethod
    def add(self, peer: Peer) -> None:
        """Add `peer`; ConfigError when another has its name, its key or one of its prefixes."""

    @abstractmethod
    def remove(self, name: str) -> Peer:
        """Remove the peer of that name and return it; ConfigError when there is none."""

    @abstractmethod
    def server(self) -> Server | None:
        """Return what remember_server was told last, None when no gateway has served yet."""

    @abstractmethod
    def remember_server(self, server: Server) -> None:
        """Keep `server` for those who add peers."""

    @abstractmethod
    def public_endpoints(self) -> tuple[Endpoint, ...]:
        """Return where clients reach the server, as remember_public_endpoints was told last."""

    @abstractmethod
    def remember_public_endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Keep where clients reach the server."""

    def get(self, name: str) -> Peer:
        """Return the peer of that name; ConfigError with the nearest name when there is none."""
        peers = self.peers()
        for peer in peers:
            if peer.name == name:
                return peer
        server = self.server()
        if server and name in {peer.name for peer in server.peers}:
            raise ConfigError(
                f"peer {quote(name)} stands in the configuration file of {server.interface};"
                " look for it, change it or take it out there"
            )
        nearest = difflib.get_close_matches(name, [peer.name for peer in peers], n=1)
        mend = f"did you mean {quote(nearest[0])}?" if nearest else "'fastun peer list' shows all"
        raise ConfigError(f"no peer is named {quote(name)}; {mend}")

    def next_free_address(self, network: Network) -> Address:
        """Return the lowest address of `network` that nobody has, with the network's length.

        ConfigError when there is none. To keep it free until it is added: inside changes().
        """
        server = self.server()
        taken = [prefix for peer in self.peers() for prefix in peer.allowed_ips]
        if server:
            taken += [prefix for peer in server.peers for prefix in peer.allowed_ips]
            taken += [one_host(address) for address in server.addresses]
        free = next_free_address(network, taken)
        if free is None:
            raise ConfigError(
                f"{network} has no free address left; remove a peer, or serve a larger network"
            )
        return free


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
            raise ConfigError(f"two peers are named {quote(peer.name)}; give one another name")
        names.add(peer.name)
        owner = key_owners.setdefault(peer.public_key, peer.name)
        if owner != peer.name:
            raise ConfigError(
                f"peers {quote(owner)} and {quote(peer.name)} have the same public key;"
                " each needs its own"
            )
        for prefix in peer.allowed_ips:
            owner = prefix_owners.setdefault(prefix, peer.name)
            if owner != peer.name:
                raise ConfigError(
                    f"peers {quote(owner)} and {quote(peer.name)} both have {prefix};"
                    " leave it to one of them"
                )
            if prefix in own_prefixes:
                raise ConfigError(
                    f"peer {quote(peer.name)} has {prefix}, this side's own address;"
                    " give it another"
                )


# -- addresses --------------------------------------------------------------------------------


def one_host(address: Address) -> Network:
    """Return the prefix that holds this address alone."""
    return ip_interface(address.ip).network


def is_host(address: Address) -> bool:
    """Return whether a host of its network can have `address`."""
    first, last = _hosts(address.network)
    return first <= int(address.ip) <= last


def next_free_address(network: Network, taken: Iterable[Network]) -> Address | None:
    """Return the lowest host's address of `network` that is in none of `taken`, None if none is.

    A prefix that holds the whole network (of a peer that is the way to everything) takes nothing.
    """
    spans = sorted(
        (int(prefix.network_address), int(prefix.broadcast_address))
        for prefix in taken
        if prefix.version == network.version
        and (prefix.num_addresses == 1 or not _is_within(network, prefix))
    )
    free, last = _hosts(network)
    for start, end in spans:
        if start > free:
            break
        free = max(free, end + 1)
    if free > last:
        return None
    # Through the address's own type: ip_address would take a small number for IPv4.
    return ip_interface(f"{type(network.network_address)(free)}/{network.prefixlen}")


def _is_within(inner: Network, outer: Network) -> bool:
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]


def _hosts(network: Network) -> tuple[int, int]:
    """Return the first and the last address that a host can have.

    In a network of more than two addresses the first is the network itself, in IPv6 its routers'
    anycast address (RFC 4291 section 2.6.1), and IPv4's last is its broadcast (RFC 3021).
    """
    first, last = int(network.network_address), int(network.broadcast_address)
    if last - first > 1:
        first += 1
        last -= isinstance(network, IPv4Network)
    return first, last
