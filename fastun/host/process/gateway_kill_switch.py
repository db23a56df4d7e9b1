"""What the gateway has of the kill switch, which is in the host process."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from fastun.host.process import messages
from fastun.host.process.messages import KillSwitchNow, OuterEndpointText

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from fastun.config.settings import Settings
    from fastun.host.process.client import HostClient
    from fastun.host.routing.outer_addresses import OuterEndpoint
    from fastun.vocabulary import Transport


class GatewayKillSwitch:
    """That of one gateway, or none."""

    def __init__(self, host: HostClient) -> None:
        """Ask ``host``, which has begun."""
        self._host = host
        self.turned_on = asyncio.Event()
        if self.is_on:
            self.turned_on.set()
        self._followed: object = None

    @property
    def is_on(self) -> bool:
        """Whether there is one. Any thread."""
        return self._now.is_on

    @property
    def _now(self) -> KillSwitchNow:
        now = self._host.now
        return KillSwitchNow() if now is None else now.kill_switch

    async def turn(self, settings: Settings, endpoints: Iterable[OuterEndpoint]) -> None:
        """As `KillSwitch.turn`, as `GatewayDevice.change`. Event loop only."""
        asked = messages.TurnKillSwitch(
            fields=self._host.reading.fields(settings), endpoints=_texts(endpoints)
        )
        await asyncio.to_thread(self._host.have, asked)
        if self.is_on:
            self.turned_on.set()
        else:
            self.turned_on.clear()

    def allow_lookups(self, servers: Collection[str]) -> None:
        """As `KillSwitch.allow_lookups`."""
        self._host.have(messages.AllowLookups(servers=tuple(servers)[: messages.TEXTS_MAX]))

    def follows(self, endpoints: frozenset[OuterEndpoint]) -> bool:
        """Return whether `follow` would change nothing. Any thread."""
        return not self.is_on or self._followed == (endpoints, self._n_changes)

    def follow(self, endpoints: frozenset[OuterEndpoint]) -> None:
        """As `KillSwitch.follow`, for what is wanted of the device now."""
        followed = endpoints, self._n_changes
        self._host.have(messages.FollowEndpoints(endpoints=_texts(endpoints)))
        self._followed = followed

    @property
    def _n_changes(self) -> int:
        return 0 if self._host.now is None else self._host.now.n_changes


def _texts(endpoints: Iterable[OuterEndpoint]) -> tuple[OuterEndpointText, ...]:
    texts = (
        OuterEndpointText(cast("Transport", each.protocol), str(each.host), each.port)
        for each in endpoints
    )
    return tuple(sorted(texts, key=lambda each: (each.protocol, each.host, each.port)))
