"""What a server pushes, sent anew to connected clients as soon as it is something else.

    {"push_update": {...}, "number": 7}   control message, sealed in the session: the whole push
    {"push_taken": 7}                     the client's answer

The first push of a session is in the server's hello. Later ones go to clients whose hello offers to
take them, on streams as on UDP, where they are repeated until they are answered; what gets lost all
the same is in the next session's hello. A push replaces the one before it as a whole. How often a
client applies one, it decides itself (gateway/push_pace.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Final, TypeVar

import msgspec

from fastun import codec, log
from fastun.config import push as push_form
from fastun.config.push import Push
from fastun.lane.messages import SendControl
from fastun.link.hello import HELLO_BYTES_MAX, TYPE, Ability
from fastun.session import clock

if TYPE_CHECKING:
    from fastun.link.peer_slots import SlottedPeer
    from fastun.link.table import Link, LinkTable

# Repeated so often, the first time after a second, then after twice as long each time.
TIMES_MAX: Final = 5
FIRST_PAUSE_S: Final = 1.0

_Number = Annotated[int, msgspec.Meta(ge=0, le=2**32 - 1)]


_Kind = TypeVar("_Kind")


class _Update(msgspec.Struct, frozen=True):
    push_update: Push
    number: _Number


class _Taken(msgspec.Struct, frozen=True):
    push_taken: _Number


class _Sent(msgspec.Struct):
    """An update that was not answered yet."""

    link: Link
    push: Push
    number: int
    n_times: int = 0
    due_s: float = float("-inf")


class PushUpdates:
    """Of one gateway, in either role. Event loop only."""

    def __init__(
        self,
        links: LinkTable,
        push_to: Callable[[SlottedPeer], Push] | None,
        take: Callable[[str, Push], None],
    ) -> None:
        """Begin with nothing sent.

        ``push_to`` says what a peer is given, None where this side pushes nothing; ``take`` gets
        the name of a peer that pushes, and its push.
        """
        self._links = links
        self._push_to = push_to
        self._take = take
        self._sent: dict[int, _Sent] = {}  # by slot
        self._n_updates = 0
        self._newest: dict[int, int] = {}  # by link: the number that was taken last
        self._log = log.get("push")

    # -- a server -----------------------------------------------------------------------------

    def look(self) -> None:
        """Send each connected client what it is pushed, where that is not what it has."""
        for slot in list(self._links.by_slot):
            self.look_at(slot)

    def look_at(self, slot: int) -> None:
        """Do so for the peer of one slot."""
        link = self._links.by_slot.get(slot)
        if self._push_to is None or link is None:
            return
        if Ability.TAKES_PUSH_UPDATES not in link.abilities:
            return
        sent, push = self._sent.get(slot), self._push_to(link.slotted)
        is_under_way = sent is not None and sent.link is link
        before = sent.push if is_under_way and sent is not None else link.slotted.pushed
        if push != before:
            self._n_updates += 1
            self._sent[slot] = _Sent(link, push, self._n_updates)
            self._send(slot, self._sent[slot])

    def tick(self) -> None:
        """Repeat what was not answered."""
        now_s = clock.boottime_s()
        for slot, sent in list(self._sent.items()):
            if self._links.by_slot.get(slot) is not sent.link:
                del self._sent[slot]
            elif now_s >= sent.due_s:
                self._send(slot, sent)

    def _send(self, slot: int, sent: _Sent) -> None:
        if sent.n_times == TIMES_MAX:
            del self._sent[slot]
            self._log.debug("a push was not answered", peer=sent.link.peer_name)
            return
        sent.due_s = clock.boottime_s() + FIRST_PAUSE_S * 2**sent.n_times
        sent.n_times += 1
        content = TYPE + codec.pack(_Update(sent.push, sent.number))
        sent.link.lane.send("tun-reader", SendControl(slot, content))

    # -- what comes ---------------------------------------------------------------------------

    def receive(self, slot: int, message: bytes) -> bool:
        """Take a peer's control message; return whether it was about a push."""
        link = self._links.by_slot.get(slot)
        if (update := _decoded(message, _Update)) is not None:
            if link is not None and self._push_to is None:
                self._take_update(slot, link, update)
            return True
        if (taken := _decoded(message, _Taken)) is not None:
            sent = self._sent.get(slot)
            if sent is not None and sent.link is link and sent.number == taken.push_taken:
                sent.link.slotted.pushed = sent.push
                del self._sent[slot]
            return True
        return False

    def _take_update(self, slot: int, link: Link, update: _Update) -> None:
        """Take the newest: on UDP an older one may come behind it."""
        try:
            push_form.check(update.push_update)
        except ValueError as error:
            self._log.debug("push refused", peer=link.peer_name, error=str(error))
            return
        newest = self._newest.get(link.id, 0)
        if update.number > newest:
            self._newest = {**self._of_living_links(), link.id: update.number}
            self._take(link.peer_name, update.push_update)
        answer = TYPE + codec.pack(_Taken(update.number))
        link.lane.send("tun-reader", SendControl(slot, answer))

    def _of_living_links(self) -> dict[int, int]:
        living = {link.id for link in self._links.by_slot.values()}
        return {link_id: n for link_id, n in self._newest.items() if link_id in living}


def _decoded(message: bytes, kind: type[_Kind]) -> _Kind | None:
    try:
        return codec.unpack(message[len(TYPE) :], kind, HELLO_BYTES_MAX)
    except codec.CodecError:
        return None
