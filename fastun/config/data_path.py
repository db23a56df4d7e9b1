"""What the data path can do without: fields of `[interface]` and `[workers]`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

if TYPE_CHECKING:
    from fastun.config.document import Document


class DataPath(msgspec.Struct, frozen=True, kw_only=True):
    """Super-packets, offloads of sockets, steps for sleeping workers, memory of keys, lanes."""

    gso: bool = True
    udp_offload: bool = True
    hand_over: bool = True
    secret_memory: bool | None = None  # None: as the role has it
    lanes_at_once: bool = False


def data_path(document: Document) -> DataPath:
    """Return what the file says."""
    interface, workers = document.interface, document.workers
    return DataPath(
        gso=interface.gso,
        udp_offload=interface.udp_offload,
        hand_over=workers.hand_over,
        secret_memory=workers.secret_memory,
        lanes_at_once=workers.lanes_at_once,
    )


# Where each field is written.
PLACES: Final = {
    "gso": "interface.gso",
    "udp_offload": "interface.udp_offload",
    "hand_over": "workers.hand_over",
    "secret_memory": "workers.secret_memory",
    "lanes_at_once": "workers.lanes_at_once",
}


def changed(was: DataPath, is_: DataPath) -> list[str]:
    """Return where what differs is written."""
    return [place for name, place in PLACES.items() if getattr(was, name) != getattr(is_, name)]
