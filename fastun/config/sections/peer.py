"""`[[peer]]`: one of the other ends, with the terms that `fastun peer` gives to others."""

from typing import Annotated

from fastun.config.quantity import RATES, SIZES
from fastun.config.ranges import FAIL_BACK_S, KEEPALIVE_MAX_S
from fastun.config.sections.base import Int, Secret, Section, described, one_of
from fastun.config.terms import BURSTS, NOTE_CHARS_MAX
from fastun.config.vocabulary import ENDPOINT_ORDERS
from fastun.peers.terms import TO_MAX

_KEY = "base64 of 32 bytes"


class Moment(str):
    """A date, as text: TOML has dates of its own, and they may be in quotes as well."""

    __slots__ = ()


class LimitTable(Section, frozen=True):
    """`limit` of a `[[peer]]` where it is not one rate for both directions."""

    outbound: Annotated[
        str | None, described("Rate of what is sent to the peer.", values=RATES, example="20Mbit")
    ] = None
    inbound: Annotated[
        str | None, described("Rate of what the peer sends.", values=RATES, example="2Mbit")
    ] = None
    burst: Annotated[
        str | None,
        described(
            "What may pass at once after a pause.",
            values=BURSTS,
            unset="50 ms of the rate",
            example="1MB",
        ),
    ] = None


class QuotaTable(Section, frozen=True):
    """`quota` of a `[[peer]]` where it says what is left when it is used up."""

    size: Annotated[
        str | None, described("Bytes in a calendar month.", values=SIZES, example="50GB")
    ] = None
    then: Annotated[
        str | None,
        described(
            "The rate that is left in each direction once it is used up.",
            values=RATES,
            unset="nothing passes",
            example="1Mbit",
        ),
    ] = None


class PeerSection(Section, frozen=True):
    """`[[peer]]`: the other end. `keepalive` in seconds; terms as `fastun peer` has them."""

    name: Annotated[
        str,
        described(
            "Name in status, logs and metrics; each peer needs its own.",
            values="1 to 64 letters, digits, `.`, `_`, `@`, `-`",
            example="office",
        ),
    ] = "peer"
    enabled: Annotated[
        bool,
        described(
            "`false` disables the peer without deleting its keys: the section counts as absent.",
            example=False,
        ),
    ] = True
    endpoint: Annotated[
        str | None,
        described(
            "Where to reach the peer. `serve` dials UDP only.",
            unset="none, it connects to us",
            example="udp://office.example.net",
        ),
    ] = None
    endpoints: Annotated[
        tuple[str, ...] | None,
        described(
            "Instead of `endpoint`: several. With both kinds `connect` uses UDP while it works,"
            " otherwise TCP.",
            example=["udp://s.example.net", "tcp://s.example.net"],
        ),
    ] = None
    endpoint_order: Annotated[
        str | None,
        described(
            "In which order several endpoints, and the addresses of their names, are tried:"
            " `listed` as they are written, `spread` in one that each client has of its own, so"
            " that the clients of a [fleet](fleet.md#clients) are spread over its gateways.",
            values=one_of(ENDPOINT_ORDERS),
            unset="`listed`",
            example="spread",
        ),
    ] = None
    fail_back: Annotated[
        Int | None,
        described(
            "Go back to an endpoint that comes earlier in that order once it has answered for so"
            " many seconds; 0 for never. The new session is there before the old one is left.",
            values="{}-{}, or 0".format(*FAIL_BACK_S),
            unset="0",
            example=300,
        ),
    ] = None
    public_key: Annotated[
        str | None,
        described(
            "The peer's public key. Required on the wireguard wire.",
            values=_KEY,
            example="xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=",
        ),
    ] = None
    preshared_key: Annotated[
        Secret | None,
        described("Pre-shared key, the same on both ends.", values=_KEY, example="PRE-SHARED KEY"),
    ] = None
    preshared_key_file: Annotated[
        str | None,
        described(
            "File with the pre-shared key, relative to this file; instead of `preshared_key`.",
            example="office.psk",
        ),
    ] = None
    allowed_ips: Annotated[
        tuple[str, ...] | None,
        described(
            "Which inner addresses are the peer's: what it may send from, and what is sent to it."
            " Required in TUN mode; `[]` for a peer that may connect, but to which nothing is"
            " routed.",
            example=["10.9.0.7/32"],
        ),
    ] = None
    keepalive: Annotated[
        Int | None,
        described(
            "Seconds between keepalives; 0 for none. On UDP a fastun peer answers them, so that an"
            " idle tunnel notices a dead path, such as a NAT that was restarted.",
            values=f"0-{KEEPALIVE_MAX_S}",
            unset="what the server pushes, else 0",
            example=25,
        ),
    ] = None
    expires: Annotated[
        Moment | None,
        described(
            "Only `serve`: as [`fastun peer expire`](#fastun-peer-expire), with a date (in quotes"
            " or not) and no duration: that would begin anew with each start.",
            values="a date, `never`",
            unset="never",
            example="2027-01-31",
        ),
    ] = None
    limit: Annotated[
        str | LimitTable | None,
        described("As [`fastun peer limit`](#fastun-peer-limit).", values=RATES, example="10Mbit"),
    ] = None
    quota: Annotated[
        str | QuotaTable | None,
        described(
            "Only `serve`: as [`fastun peer quota`](#fastun-peer-quota).",
            values=SIZES,
            example="50GB",
        ),
    ] = None
    to: Annotated[
        tuple[str, ...] | None,
        described(
            "As [`fastun peer to`](#fastun-peer-to).",
            values=f"1 to {TO_MAX} networks",
            unset="all",
            example=["172.16.9.0/24"],
        ),
    ] = None
    note: Annotated[
        str | None,
        described(
            "A line of your own about it.",
            values=f"at most {NOTE_CHARS_MAX} characters",
            example="Ada's",
        ),
    ] = None
