"""`[listen]`, `[push]`, `[forward]`, `[fleet]`: where a server listens, and what it offers."""

from typing import Annotated

from fastun.config.ranges import (
    FORWARDED_NETWORKS_MAX,
    KEEPALIVE_MAX_S,
    MASQUERADED_INTERFACES_MAX,
)
from fastun.config.sections.base import Int, Section, described


class ListenSection(Section, frozen=True):
    """`[listen]`: where `serve` listens: only there, if either field is given."""

    udp: Annotated[
        tuple[str, ...] | None,
        described(
            "URLs to receive datagrams on.",
            unset='`["udp://[::]:51820"]` on the wireguard wire, without `tcp`',
            example=["udp://[::]:51820"],
        ),
    ] = None
    tcp: Annotated[
        tuple[str, ...] | None,
        described(
            "URLs to accept connections on.",
            unset='`["tcp://[::]:55555"]`, without `udp`',
            example=["tcp://[::]:443"],
        ),
    ] = None


class PushSection(Section, frozen=True):
    """`[push]`: what `serve` gives its clients beside addresses, networks and MTU.

    `routes` to what is behind the server, `dns` as in `[interface]`, `keepalive` in seconds.
    `default`: all else, too.
    """

    routes: Annotated[
        tuple[str, ...],
        described(
            "Networks behind the server. The files of clients added later allow them.",
            example=["172.16.9.0/24"],
        ),
    ] = ()
    default: Annotated[
        bool,
        described(
            "A default route for clients that [accept](#accept) one. The wg-quick files and QR"
            " codes of clients added later route everything.",
            example=True,
        ),
    ] = False
    dns: Annotated[
        tuple[str, ...],
        described(
            "DNS servers, and domains: to search, or as in `~corp.example` those whose names alone"
            " are looked up at these servers ([split DNS](#dns)). The wg-quick files and QR codes"
            " of clients added later have them as `DNS`, without split domains.",
            example=["10.9.0.1", "example.net"],
        ),
    ] = ()
    keepalive: Annotated[
        Int,
        described(
            "Seconds between keepalives; 0 for none.", values=f"0-{KEEPALIVE_MAX_S}", example=25
        ),
    ] = 0


class ForwardSection(Section, frozen=True):
    """`[forward]`: this host as a router between its peers and its networks.

    `masquerade` may name interfaces. `to` None is all networks.
    """

    enabled: Annotated[bool, described("Forward. `false` counts as no section.", example=False)] = (
        True
    )
    masquerade: Annotated[
        bool | tuple[str, ...],
        described(
            "What peers send leaves with this host's address: `true` by whichever interface, or"
            " only by these. The device's own name: what other hosts send into the tunnel. An"
            " interface that is missing is waited for.",
            values=f"`true`, `false`, or 1 to {MASQUERADED_INTERFACES_MAX} names",
            example=["eth0"],
        ),
    ] = False
    peers: Annotated[
        bool,
        described(
            "Forward from peer to peer. `false`: no packet is forwarded between them. TUN only.",
            example=False,
        ),
    ] = True
    to: Annotated[
        tuple[str, ...] | None,
        described(
            "Forward to and from these networks only; anything else is answered"
            ' "administratively prohibited". Clients of `serve` get routes to them, and the files'
            " of clients added later allow them. Without it, clients get routes to the private"
            " networks that this host leads to.",
            values=f"1 to {FORWARDED_NETWORKS_MAX} networks",
            unset="all networks",
            example=["172.16.9.0/24"],
        ),
    ] = None


class FleetSection(Section, frozen=True):
    """`[fleet]`: peers in a directory that several gateways have. `name` None: the host's.

    `routes`: to what is behind the peers that are connected here, and to nothing else.
    """

    directory: Annotated[
        str | None,
        described(
            "Where it is: a URL as libpq has it, without a password, which is in a passfile or a"
            " service file. Required.",
            example="postgresql://fastun@db.example.net/fastun",
        ),
    ] = None
    name: Annotated[
        str | None,
        described("Name of this gateway among the others.", unset="the host's name", example="gw1"),
    ] = None
    routes: Annotated[
        bool,
        described(
            "Routes to the addresses and networks of the peers that are connected to this gateway,"
            " with protocol 157 and metric 10, for a routing daemon to announce; `table` is `auto`"
            " if it is not given. `false`: as without a fleet.",
            example=False,
        ),
    ] = True
