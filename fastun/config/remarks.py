"""What is valid in a file and hardly meant: said at the start and at a reload."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Final

from fastun.config import networks

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.config.sources import Sources

# A file may have a hundred thousand networks.
_REMARKS_MAX: Final = 8


def remarks(sources: Sources) -> tuple[str, ...]:
    """Return a line each, the first of them."""
    return tuple(islice(_all(sources), _REMARKS_MAX))


def _all(sources: Sources) -> Iterator[str]:
    document = sources.document
    if document.push is not None:
        yield from networks.remarks(document.push.routes, sources.where("push.routes"))
    if document.forward is not None:
        yield from networks.remarks(document.forward.to or (), sources.where("forward.to"))
    for index, section in enumerate(sources.peers):
        where = sources.in_peer(index)
        yield from networks.remarks(section.allowed_ips or (), where("allowed_ips"))
        yield from networks.remarks(section.to or (), where("to"))
