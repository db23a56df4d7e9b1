"""What `serve` pushes to its clients, and what of it `connect` accepts."""

from collections.abc import Iterable

import msgspec
from msgspec import structs

from fastun.config import push, ranges
from fastun.config.document import PushSection
from fastun.config.host import parse_dns
from fastun.config.networks import parse_networks
from fastun.config.peer import parse_keepalive
from fastun.config.push import Push
from fastun.config.sources import Sources
from fastun.config.vocabulary import ACCEPTABLE, Accept, Table
from fastun.endpoint import Endpoint
from fastun.errors import ConfigError, quote
from fastun.peers.peer import Address, Network


class Pushed(msgspec.Struct, frozen=True, kw_only=True):
    """What `serve` gives its clients; `dns` has servers and domains, `keepalive_s` 0 is off.

    `default`: a default route of both IP versions.
    """

    routes: tuple[Network, ...] = ()
    default: bool = False
    dns: tuple[str, ...] = ()
    keepalive_s: int = 0


# -- serve ------------------------------------------------------------------------------------


def pushed(
    sources: Sources,
    addresses: tuple[Address, ...],
    listen: tuple[Endpoint, ...],
    forwarded: tuple[Network, ...] = (),
) -> Pushed:
    """Return what `serve`, whose device has `addresses`, pushes; raise ConfigError.

    To what is `forwarded` its clients get routes, too.
    """
    section = sources.document.push or PushSection()
    servers, domains = parse_dns(section.dns, sources.where("push.dns"), has_zones=False)
    what = Pushed(
        routes=tuple(
            dict.fromkeys(
                (*parse_networks(section.routes, sources.where("push.routes")), *forwarded)
            )
        ),
        default=section.default,
        dns=servers + domains,
        keepalive_s=parse_keepalive(section.keepalive, sources.where("push.keepalive")),
    )
    is_mostly_forwarded = len(forwarded) > len(section.routes)

    def where(field: str) -> str:
        is_longest = field == "push.routes" and is_mostly_forwarded
        return sources.where("forward.to" if is_longest else field)

    own = push.routes_of(addresses, ())
    push.check_fits(_longest(what, addresses), push.room_for(listen), len(own), where)
    return what


def with_routes(
    pushed: Pushed,
    more: Iterable[Network],
    addresses: tuple[Address, ...],
    listen: tuple[Endpoint, ...],
) -> tuple[Pushed, list[Network]]:
    """Return it with as many more routes as fit the hello, and those that do not."""
    left_out = []
    for network in more:
        longer = structs.replace(pushed, routes=tuple(dict.fromkeys((*pushed.routes, network))))
        if push.fits(_longest(longer, addresses), push.room_for(listen)):
            pushed = longer
        else:
            left_out.append(network)
    return pushed, left_out


def _longest(pushed: Pushed, addresses: tuple[Address, ...]) -> Push:
    """Return the push for a client with an address in each network."""
    return Push(
        addresses=push.longest_addresses(addresses),
        routes=push.routes_of(addresses, pushed.routes),
        dns=pushed.dns,
        mtu=ranges.MTU[-1],
        keepalive=pushed.keepalive_s,
        default=pushed.default,
    )


# -- connect ----------------------------------------------------------------------------------


def accepted(sources: Sources, table: Table) -> tuple[Accept, ...]:
    """Return what to apply of what the server pushes.

    By default what this side does not say itself, and routes. Never DNS or a default route unasked:
    they would send all names that this host looks up, or all packets, to the server's operator.
    """
    options, section = sources.options, sources.document.interface
    if section.accept is None:
        says = {
            "addresses": bool(options.address or section.address),
            "mtu": options.mtu is not None or section.mtu is not None,
            "routes": section.table == "off" and table == "off",
            "default": True,
            "dns": table != "all",
        }
        return tuple(word for word in ACCEPTABLE if not says.get(word))
    for word in section.accept:
        if word not in ACCEPTABLE:
            place = sources.where("interface.accept")
            raise ConfigError(f"{place}: {quote(word)} is not one of {', '.join(ACCEPTABLE)}")
    return tuple(word for word in ACCEPTABLE if word in section.accept)
