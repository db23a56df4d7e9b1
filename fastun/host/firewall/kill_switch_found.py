"""Finds and removes the kill switches of this host, also those whose fastun is gone.

The kernel lists its tables in a tenth of a millisecond, without nft: every start asks.
Source: linux/netfilter/nf_tables.h, linux/netfilter/nfnetlink.h.
"""

from __future__ import annotations

import re
import struct
from typing import Final

from fastun import log
from fastun.host.firewall import nft
from fastun.host.firewall.kill_switch_rules import PURPOSE
from fastun.host.netlink.netlink import Netlink
from fastun.host.netlink.rtnetlink import attributes_of

_NETFILTER: Final = 12  # NETLINK_NETFILTER
_GET_TABLE: Final = 10 << 8 | 1  # NFNL_SUBSYS_NFTABLES, NFT_MSG_GETTABLE
_NFGENMSG: Final = struct.Struct("!BBH")  # family, version, resource
_INET: Final = 1  # NFPROTO_INET
_TABLE_NAME: Final = 1  # NFTA_TABLE_NAME

_OURS: Final = re.compile(f"{nft.PREFIX}([A-Za-z0-9_]+)_{PURPOSE}")
_ODD_LETTER: Final = re.compile("_([0-9a-f]{2})")


def interfaces() -> tuple[str, ...]:
    """Return the interfaces that have one. Raises OSError: without nftables, or CAP_NET_ADMIN."""
    with Netlink(_NETFILTER) as netlink:
        bodies = netlink.dump(_GET_TABLE, _NFGENMSG.pack(_INET, 0, 0))
    names = [dict(attributes_of(body[_NFGENMSG.size :])).get(_TABLE_NAME, b"") for body in bodies]
    found = (_OURS.fullmatch(name.rstrip(b"\0").decode(errors="replace")) for name in names)
    return tuple(sorted(_interface(match[1]) for match in found if match))


def _interface(text: str) -> str:
    """Return the name that nft.table_name() was given."""
    return _ODD_LETTER.sub(lambda letter: chr(int(letter[1], 16)), text)


def say_that_it_remains(interface: str) -> None:
    """Say so, if it does: the last thing that a gateway says of this host."""
    if interface in present():
        log.get("kill switch").warning(
            "the kill switch remains: this host sends nothing until fastun runs again; "
            f"'{by_hand(interface)}' removes it",
            interface=interface,
        )


def remove(interface: str) -> None:
    """Remove the kill switch of an interface, whoever runs. Raises NftRefused."""
    nft.remove(nft.table_name(interface, PURPOSE), is_undo=True)


def present() -> tuple[str, ...]:
    """Return the interfaces that have one; none where the kernel does not say."""
    try:
        return interfaces()
    except OSError:  # a kernel without nftables, or no right to ask; nft says more
        return ()


def by_hand(interface: str) -> str:
    """Return the command that removes it."""
    return f"fastun disconnect -i {interface}"
