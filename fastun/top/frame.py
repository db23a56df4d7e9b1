"""One frame of ``fastun top``: lines of text, made to fit 80 columns and as many rows as there are.

Columns are as wide as what they may have to hold, so that nothing moves from frame to frame. Where
rows are short, peers give way first, then drop reasons; what was left out is counted. ASCII only:
what a terminal at the other end of an ssh connection can show is unknown.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from rich.text import Text

from fastun.gateway.worker_state import FULL_FROM
from fastun.native import DIRECTIONS
from fastun.session.protocol import REJECT_AFTER_TIME_S
from fastun.status.peer_report import duration, remote_of
from fastun.top.rates import NETWORK, directions

if TYPE_CHECKING:
    from fastun.top.rates import DropRate, History, PeerRates, StageRates

# Of the rows of a terminal with 24; the rest is for peers.
_DROPS_SHOWN_MAX = 4
_PEERS_SHOWN_MIN = 2

# A narrower terminal shows the left of it; on a wider one the columns would only drift apart.
_WIDTH_MIN, _WIDTH_MAX = 80, 100

_BAR_CHARS = 40

# What is shown of a stage that limits the tunnel: where its work waits.
_WAITING = {
    "tun-reader": "packets queue in the device",
    "link-writer": "the ring before it fills",
    "link-reader": "bytes queue in the sockets",
    "tun-writer": "the ring before it fills",
}


def frame(history: History, width: int, height: int | None, now: float) -> list[Text]:
    """Return the lines, at most ``height`` of them and ``width`` columns wide.

    ``height`` None: all peers and reasons. ``now`` is the Unix time.
    """
    laid_out = max(_WIDTH_MIN, min(width, _WIDTH_MAX))
    lines = [_title(history, laid_out, now), _bottleneck(history), Text()]
    lines += _stages(history)
    drops, peers = history.drops(), history.peers()
    n_drops = len(drops) if height is None else min(len(drops), _DROPS_SHOWN_MAX)
    lines += [Text(), *_drops(drops, n_drops), Text()]
    n_peers = len(peers) if height is None else max(_PEERS_SHOWN_MIN, height - len(lines) - 1)
    lines += _peers(history, peers, n_peers, laid_out, now)
    for line in lines:
        line.truncate(width)
    return lines[:height]


# -- the gateway ------------------------------------------------------------------------------


def _title(history: History, width: int, now: float) -> Text:
    status = history.latest.status
    left = f"  {status.role}, {status.mode}, {status.wire} wire, up "
    left += duration(now - status.started_unix_seconds)
    title = Text.assemble((status.interface, "bold"), left)
    version = f"fastun {status.version}"
    title.append(version.rjust(max(len(version) + 2, width - len(title))))
    return title


def _bottleneck(history: History) -> Text:
    found = history.bottleneck()
    line = Text("bottleneck  ")
    if found is None:
        return line.append("none (every stage keeps up)", "dim")
    line.append(found.name, "bold yellow")
    line.append(f", {100 * found.share:.0f} % of the last {found.window_s:.0f} s: ")
    if found.name != NETWORK:
        return line.append(_WAITING[found.name])
    is_up = any(peer.up for peer in history.latest.status.peers)
    return line.append("the link is full" if is_up else "no peer is connected")


# -- the stages -------------------------------------------------------------------------------


def _stages(history: History) -> Iterator[Text]:
    stages = history.stages()
    for name in ("outbound", "inbound"):
        heading = f"{name:<13}{'packets/s':>10}{'bit/s':>11}{'frames/s':>11}{'CPU':>7}"
        yield Text(f"{heading}{'busy':>7}{'blocked':>9}{'restarts':>10}", "bold")
        reader, writer = (stage for role, stage in stages.items() if DIRECTIONS[role] == name)
        yield _stage(reader)
        yield _ring(history, name)
        yield _stage(writer)


def _stage(stage: StageRates) -> Text:
    line = Text(f"  {stage.role:<11}", "" if stage.is_up else "bold red")
    if not stage.is_up:
        return line.append(f"{'DOWN':>10}{'':>45}{stage.n_restarts:>10,}")
    line.append(f"{stage.packets:>10,.0f}{bit_rate(stage.bits):>11}{stage.frames:>11,.0f}")
    for share, width in (
        (stage.cpu_share, 7),
        (stage.busy_share, 7),
        (stage.blocked_share, 9),
    ):
        percent = f"{100 * share:.0f} %"
        line.append(percent.rjust(width), _style_of_share(share))
    return line.append(f"{stage.n_restarts:>10,}", "yellow" if stage.n_restarts else "")


def _ring(history: History, name: str) -> Text:
    rings = directions(history.latest, name)
    used = sum(ring.ring_used_bytes for ring in rings)
    capacity = sum(ring.ring_capacity_bytes for ring in rings)
    share = used / capacity
    bar = ("#" * round(share * _BAR_CHARS)).ljust(_BAR_CHARS, "-")
    line = Text("    ring     ", "dim").append(f"[{bar}]", "yellow" if share >= FULL_FROM else "")
    return line.append(f" {100 * share:3.0f} % of {capacity / 2**20:g} MiB")


def _style_of_share(share: float) -> str:
    return "yellow" if share >= FULL_FROM else "" if share >= 0.005 else "dim"  # noqa: PLR2004


# -- drops and peers --------------------------------------------------------------------------


def _drops(drops: list[DropRate], n_shown: int) -> Iterator[Text]:
    if not drops:
        yield Text("no drops", "dim")
        return
    yield Text(f"{'dropped packets':<31}{'a second':>10}{'so far':>15}", "bold")
    for drop in drops[:n_shown]:
        line = Text(f"  {drop.role:<12}{drop.reason:<17}", "yellow" if drop.packets else "")
        yield line.append(f"{drop.packets:>10,.0f}{drop.total:>15,}")
    if len(drops) > n_shown:
        yield Text(f"  ... and {len(drops) - n_shown} more reasons", "dim")


def _peers(
    history: History, peers: list[PeerRates], n_lines: int, width: int, now: float
) -> Iterator[Text]:
    """Yield a heading, and ``n_lines`` at most for the peers."""
    n_shown = len(peers) if len(peers) <= n_lines else n_lines - 1
    is_sealed = history.latest.status.wire == "wireguard"
    columns = f"{'received':>11}{'sent':>11}{'handshake' if is_sealed else '':>11}{'dropped':>9}"
    name_chars, remote_chars = _split(peers[:n_shown], width - len(columns) - len(" via "))
    n_up = sum(rates.peer.up for rates in peers)
    heading = f"peers, {n_up} of {len(peers)} connected"
    yield Text(heading.ljust(width - len(columns)) + columns, "bold")
    for rates in peers[:n_shown]:
        yield _peer(rates, name_chars, remote_chars, now, is_sealed=is_sealed)
    if n_shown < len(peers):
        n_more_up = sum(rates.peer.up for rates in peers[n_shown:])
        yield Text(f"... and {len(peers) - n_shown} more, {n_more_up} connected", "dim")


def _peer(
    rates: PeerRates, name_chars: int, remote_chars: int, now: float, *, is_sealed: bool
) -> Text:
    peer = rates.peer
    via = peer.link.transport if peer.link else ""
    line = f"{shortened(peer.name, name_chars):<{name_chars}} {via:<3} "
    line += f"{shortened(remote_of(rates.peer), remote_chars):<{remote_chars}}"
    line += f"{bit_rate(rates.receive_bits):>11}{bit_rate(rates.transmit_bits):>11}"
    handshake = _age(peer.last_handshake_unix_seconds, now) if is_sealed else ""
    line += f"{handshake:>11}"
    text = Text(line, "" if peer.up else "dim")
    dropped = count(peer.dropped_packets)
    return text.append(f"{dropped:>9}", "yellow" if peer.dropped_packets else "")


def _split(peers: list[PeerRates], chars: int) -> tuple[int, int]:
    """Return how wide names and remotes may be: what is short leaves its room to the other."""
    names = max((len(rates.peer.name) for rates in peers), default=0)
    remotes = max((len(remote_of(rates.peer)) for rates in peers), default=0)
    names = min(names, max(chars - remotes, chars // 3))
    return names, chars - names


# -- words and numbers ------------------------------------------------------------------------


def shortened(text: str, n_chars: int) -> str:
    """Return ``text`` without its middle where it is too long: its ends tell it apart."""
    if len(text) <= n_chars:
        return text
    n_last = (n_chars - 2) // 2
    return f"{text[: n_chars - 2 - n_last]}..{text[len(text) - n_last :]}"


def bit_rate(bits: float) -> str:
    """Return bits a second in at most ten characters, as in ``9.71 Gbit``."""
    value, units = bits, iter(("bit", "kbit", "Mbit", "Gbit", "Tbit"))
    unit = next(units)
    while value >= 999.5:  # noqa: PLR2004 (what would be rounded to four digits)
        value, unit = value / 1000, next(units)
    n_decimals = 0 if unit == "bit" or value >= 99.95 else 1 if value >= 9.995 else 2  # noqa: PLR2004
    return f"{value:.{n_decimals}f} {unit}"


def count(number: int) -> str:
    """Return a number in at most eight characters."""
    if number < 10**6:
        return f"{number:,}"
    return f"{number / 1e6:,.0f} M" if number < 10**10 else f"{number / 1e9:,.0f} G"


def _age(since_unix_seconds: float | None, now: float) -> str:
    """Return how long ago something was, in seconds as long as a session lasts."""
    if since_unix_seconds is None:
        return "never"
    age_s = max(0.0, now - since_unix_seconds)
    if age_s < REJECT_AFTER_TIME_S:
        return f"{age_s:.0f} s"
    return " ".join(duration(age_s).split()[:2])
