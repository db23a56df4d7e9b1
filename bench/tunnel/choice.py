"""What of the known cases, wires or measures a command line chooses by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, TypeVar

from fastun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence


class _Named(Protocol):
    @property
    def name(self) -> str: ...


NamedT = TypeVar("NamedT", bound=_Named)


def choose(names: str | None, known: Sequence[NamedT]) -> list[NamedT]:
    """Return what is named, `A,B`, in the order of `known`; None is all of it.

    Raises ConfigError if there is no such thing.
    """
    if names is None:
        return list(known)
    wanted = {name.strip() for name in names.split(",")}
    if unknown := wanted - {one.name for one in known}:
        raise ConfigError(
            f"no {', '.join(sorted(unknown))}; there is {', '.join(one.name for one in known)}"
        )
    return [one for one in known if one.name in wanted]
