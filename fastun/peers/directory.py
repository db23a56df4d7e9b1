"""Where a server's peers are kept: what `fastun peer add` writes to while the gateway runs.

PeerDirectory is what all directories can do; store.py has the one in SQLite. Peers of the
configuration file are in none.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from ipaddress import ip_interface
from typing import ClassVar, NamedTuple

from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, nearest, quote
from fastun.peers.peer import Address, Network, Peer, Server, hosts_of, is_name, one_host
from fastun.peers.terms import Usage


class Changes(NamedTuple):
    """What became of a directory since a version of it, as of one moment.

    At `version` it has `peers`, new or other than before, and none of the names that are `gone`. A
    peer may be among them that is as it was.
    """

    version: int
    peers: tuple[Peer, ...]
    gone: tuple[str, ...]


class PeerDirectory(ABC):
    """Where peers are kept: several processes may use one at once, each instance in one thread.

    Invariants, which one test shows of every kind (tests/unit/peers/test_directory_contract.py):
    names, public keys and prefixes are each one peer's; what a method has changed is seen by every
    other process's next call, all of it or nothing; what changes peers makes the version grow.

    Every method raises RuntimeFailure when the directory cannot be used, in one line that shows no
    key and no password.
    """

    #: Whether every gateway hears of a change by itself.
    notifies: ClassVar[bool] = False

    @abstractmethod
    def changes(self) -> AbstractContextManager[None]:
        """Make what is read and written inside one step: all of it, or, on an exception, nothing.

        No other process changes the directory meanwhile, so what was free inside stays free.
        """

    @abstractmethod
    def version(self) -> int:
        """Return a number that grows with every change of peers, and else stays."""

    @abstractmethod
    def changes_since(self, version: int) -> Changes | None:
        """Return what has changed since that version, without reading all.

        None where that was too long ago: all is to be read again.
        """

    @abstractmethod
    def peers(self) -> tuple[Peer, ...]:
        """Return all, in the order of their names."""

    @abstractmethod
    def n_peers(self) -> int:
        """Return how many there are, without reading them."""

    @abstractmethod
    def prefixes(self) -> list[Network]:
        """Return the allowed IPs of all."""

    @abstractmethod
    def named(self, name: str) -> Peer | None:
        """Return the peer of that name, None when there is none."""

    @abstractmethod
    def add(self, peer: Peer) -> None:
        """Add `peer`; ConfigError when another has its name, its key or one of its prefixes."""

    @abstractmethod
    def replace(self, name: str, peer: Peer) -> None:
        """Make the peer of that name `peer`, which may have another name; ConfigError as for add().

        What it has used of a quota stays.
        """

    def reset_timestamp(self, name: str) -> None:
        """Accept any timestamp of the peer's next initiation; ConfigError where none is kept."""
        self.get(name)
        raise ConfigError(
            "--reset-timestamp: only a fleet's directory keeps timestamps; the gateway of this one"
            " forgets them when it is restarted"
        )

    def own_addresses(self) -> tuple[Address, ...]:
        """Return the addresses that are no peer's: those of all gateways that serve it."""
        server = self.server()
        return server.addresses if server else ()

    def check_name_is_free(self, name: str, where: str) -> None:
        """Raise ConfigError where a peer of the directory, or of the gateway's file, has it."""
        server = self.server()
        if self.named(name) or any(peer.name == name for peer in (server.peers if server else ())):
            raise ConfigError(
                f"{where}: a peer is named {quote(name)} already; choose another name"
            )

    @abstractmethod
    def remove(self, name: str) -> Peer:
        """Remove the peer of that name and return it; ConfigError when there is none."""

    @abstractmethod
    def server(self) -> Server | None:
        """Return what a gateway last said of itself, None when none has served yet."""

    @abstractmethod
    def server_key(self) -> bytes | None:
        """Return the public key by which peers know the server; None where none is recorded.

        server_key.FORGOTTEN: the next gateway may have any.
        """

    @abstractmethod
    def remember_server_key(self, public_key: bytes) -> None:
        """Keep the public key by which peers know the server."""

    @abstractmethod
    def usage(self) -> dict[str, Usage]:
        """Return what peers have used of their quotas, by name, as remember_usage stored it."""

    @abstractmethod
    def remember_usage(self, usage: Mapping[str, Usage]) -> None:
        """Keep what these peers, of the directory or of the gateway's file, have used."""

    @abstractmethod
    def public_endpoints(self) -> tuple[Endpoint, ...]:
        """Return where clients reach the server, as remember_public_endpoints last stored it."""

    @abstractmethod
    def remember_public_endpoints(self, endpoints: tuple[Endpoint, ...]) -> None:
        """Keep where clients reach the server."""

    def get(self, name: str) -> Peer:
        """Return the peer of that name; ConfigError with the nearest name when there is none."""
        # A database would complain of a name that is not UTF-8 as if it were damaged.
        peer = self.named(name) if is_name(name) else None
        if peer is not None:
            return peer
        server = self.server()
        if server and name in {peer.name for peer in server.peers}:
            raise ConfigError(
                f"peer {quote(name)} is in the configuration file of {server.interface};"
                " view, change or remove it there"
            )
        meant = nearest(name, [peer.name for peer in self.peers()])
        fix = f"did you mean {quote(meant)}?" if meant else "'fastun peer list' shows all"
        raise ConfigError(f"no peer is named {quote(name)}; {fix}")

    def next_free_address(self, network: Network) -> Address:
        """Return the lowest free address of `network`, with the network's length.

        ConfigError when there is none. To keep it free until it is added: inside changes().
        """
        server = self.server()
        taken = self.prefixes()
        if server:
            taken += [prefix for peer in server.peers for prefix in peer.allowed_ips]
        taken += [one_host(address) for address in self.own_addresses()]
        free = next_free_address(network, taken)
        if free is None:
            raise ConfigError(
                f"{network} has no free address; remove a peer, or serve a larger network"
            )
        return free


def next_free_address(network: Network, taken: Iterable[Network]) -> Address | None:
    """Return the lowest host's address of `network` that is in none of `taken`, None if none is.

    A prefix that holds the whole network (of a peer that is the way to everything) takes nothing.
    """
    spans = sorted(
        (int(prefix.network_address), int(prefix.broadcast_address))
        for prefix in taken
        if prefix.version == network.version
        and (prefix.num_addresses == 1 or not is_within(network, prefix))
    )
    free, last = hosts_of(network)
    for start, end in spans:
        if start > free:
            break
        free = max(free, end + 1)
    if free > last:
        return None
    # Through the address's own type: ip_address would take a small number for IPv4.
    return ip_interface(f"{type(network.network_address)(free)}/{network.prefixlen}")


def is_within(inner: Network, outer: Network) -> bool:
    """Return whether all of `inner` lies in `outer`."""
    return inner.version == outer.version and inner.subnet_of(outer)  # type: ignore[arg-type]
