"""``fastun status``: what a running gateway is doing, in one look at 80 columns.

Text for a person, or with ``--json`` the keys of fastun.status.reply. What comes from the other
end of the link (its software's name) is shown with control characters escaped.
"""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING

import msgspec
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fastun.config.quantity import format_size as size
from fastun.errors import RuntimeFailure, one_line
from fastun.gateway.worker_state import FULL_FROM
from fastun.status import control, kill_switch

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from fastun.status.reply import Direction, DnsStatus, ForwardStatus, PeerStatus, Stage, Status

# The end of a peer's access is shown from a week before.
_END_SHOWN_S = 7 * 86400

# A quota is shown from this share of it on.
_QUOTA_SHOWN = 0.8

# Of peers that are not connected, so many get a line; the rest is counted.
_PEERS_SHOWN_DOWN_MAX = 10
_NETWORKS_SHOWN_MAX = 4


def show(
    interface: str | None, run_dir: Path, *, as_json: bool = False, shows_all: bool = False
) -> None:
    """Print the status of the gateway of ``interface``, or of all that run.

    ``shows_all``: each peer has a line. Raises RuntimeFailure when there is no gateway, or one does
    not answer; the others are printed before that.
    """
    sockets = [control.socket_path(run_dir, interface)] if interface else living(run_dir)
    answers, failures = [], []
    for path in sockets:
        try:
            answers.append(control.request(path, "status"))
        except RuntimeFailure as error:
            failures.append(str(error))
    if as_json and answers:
        values = msgspec.to_builtins(answers if len(sockets) > 1 else answers[0])
        sys.stdout.write(json.dumps(values, indent=2) + "\n")
    elif answers:
        _print(answers, shows_all=shows_all)
    if failures:
        raise RuntimeFailure("; ".join(failures))


def _print(answers: list[Status], *, shows_all: bool) -> None:
    console = Console(highlight=False)
    n_down_max = sys.maxsize if shows_all else _PEERS_SHOWN_DOWN_MAX
    with console.capture() as capture:
        for number, status in enumerate(answers):
            if number > 0:
                console.print()
            console.print(*_render(status, time.time(), n_down_max), sep="\n")
    # rich fills every line up to the table's width.
    sys.stdout.writelines(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def socket_of(interface: str | None, run_dir: Path) -> Path:
    """Return the socket of the gateway of ``interface``, or of the only one. RuntimeFailure."""
    if interface:
        return control.socket_path(run_dir, interface)
    found = living(run_dir)
    if len(found) > 1:
        names = ", ".join(path.name.removesuffix(".sock") for path in found)
        raise RuntimeFailure(f"several gateways run; choose one with --interface: {names}")
    return found[0]


def living(run_dir: Path) -> list[Path]:
    """Return the sockets of the gateways that run, in the order of their names; RuntimeFailure."""
    try:
        sockets = sorted(run_dir.iterdir()) if run_dir.exists() else []
        found = [path for path in sockets if path.suffix == ".sock" and control.is_alive(path)]
    except OSError as error:
        raise RuntimeFailure(
            f"--run-dir {run_dir}: cannot be read ({error.strerror}); "
            "run as root, or as the user that runs the gateway"
        ) from None
    if not found:
        raise RuntimeFailure(
            f"no gateway is running (none listens in {run_dir}); start one, or give its --run-dir"
            f"{kill_switch.left_over()}"
        )
    return found


# -- rendering --------------------------------------------------------------------------------


def _render(status: Status, now: float, n_down_max: int) -> Iterable[Table | Text | str]:
    yield _summary(status, now)
    yield ""
    if status.peers:
        shown, n_more = _shown(status.peers, n_down_max)
        if shown:
            yield _peers(shown, now, status)
        if n_more:
            yield f"and {n_more:,} more, not connected; 'fastun status --all' shows them"
        yield from _last_errors(status.peers, now, n_down_max)
        yield from _ends(status.peers, now)
        yield from _quotas(status.peers)
        yield ""
    for lane in status.lanes:
        title = f"lane {lane.lane}" if len(status.lanes) > 1 else ""
        yield _stages(title, {"outbound": lane.outbound, "inbound": lane.inbound})


def _summary(status: Status, now: float) -> Table:
    table = Table.grid(padding=(0, 2))
    age = duration(now - status.started_unix_seconds)
    table.add_row(
        Text(status.interface, style="bold"),
        Text(
            f"{status.role}, {status.mode}, {status.wire} wire, MTU {status.mtu_bytes}, up {age}, "
            f"pid {status.pid}"
        ),
    )
    if status.public_key:
        table.add_row("key", f"{status.public_key} (public)")
    table.add_row("address", Text("  ".join(status.addresses) or "none"))
    if status.dns is not None:
        table.add_row("DNS", _dns(status.dns))
    if said := _host(status):
        table.add_row("host", said)
    if status.forward is not None:
        table.add_row("forward", _forwarding(status.forward))
    if status.kill_switch != "off":
        table.add_row("kill switch", kill_switch.WORDS[status.kill_switch])
    table.add_row("peers", _connected(status))
    links = status.links
    table.add_row(
        "links",
        f"{links.established} so far, {links.reconnects} reconnects, {links.refused} refused, "
        f"{links.hello_failures} failed hellos",
    )
    if links.refused_handshakes:
        table.add_row("handshakes", Text(f"{links.refused_handshakes} refused", style="yellow"))
    table.add_row("metrics", Text(f"http://{status.metrics}/metrics" if status.metrics else "off"))
    return table


def _dns(dns: DnsStatus) -> Text:
    """Return where names are looked up, and whether that works."""
    said = f"{' '.join((*dns.servers, *dns.domains))} by {dns.manager}"
    if dns.fault:
        return Text(f"{said}: {dns.fault}", style="yellow")
    return Text(f"{said}, {'answers' if dns.is_checked else 'not checked yet'}")


def _host(status: Status) -> Text | None:
    """Return what other programs do to the device, None where they leave it alone."""
    n_repairs = sum(status.host_repairs.values())
    obstacles = status.forward.obstacles if status.forward is not None else []
    if status.device_fault and status.device_fault not in obstacles:
        return Text(status.device_fault, style="yellow")
    if n_repairs:
        return Text(f"{n_repairs} items were removed by other programs and made again")
    return None


def _forwarding(forward: ForwardStatus) -> Text:
    """Return what is forwarded, and what is in its way."""
    to = " ".join(forward.to[:_NETWORKS_SHOWN_MAX]) or "all networks"
    n_more = len(forward.to) - _NETWORKS_SHOWN_MAX
    words = [f"to {to}" + (f" and {n_more} more" if n_more > 0 else "")]
    if forward.masquerade:
        names = "" if forward.masquerade is True else f" on {' '.join(forward.masquerade)}"
        words.append(f"masquerading{names}")
    if not forward.peers:
        words.append("not from peer to peer")
    said = Text(", ".join(words))
    for obstacle in forward.obstacles:
        said.append(f"\n{obstacle}", style="yellow")
    return said


def _connected(status: Status) -> Text:
    n_up = sum(peer.up for peer in status.peers)
    n_peers = len(status.peers)
    said = f"{n_up} connected" + (f", {n_peers - n_up} not" if n_peers > n_up else "")
    if n_up == 0:
        where = ", ".join(status.listen)
        said += f", dialling {status.endpoint}" if status.endpoint else f", listening on {where}"
    return Text(said, style="green" if n_up else "yellow")


def _shown(peers: list[PeerStatus], n_down_max: int) -> tuple[list[PeerStatus], int]:
    """Return the connected peers and some others, those first, and how many are left out.

    Of those that are not connected, the ones whose last handshake is the most recent come first.
    """
    up = [peer for peer in peers if peer.up]
    down = [peer for peer in peers if not peer.up]
    down.sort(key=lambda peer: -(peer.last_handshake_unix_seconds or 0))
    return up + down[:n_down_max], max(0, len(down) - n_down_max)


def _peers(peers: list[PeerStatus], now: float, status: Status) -> Table:
    """Return a line a peer."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("peer", overflow="fold")
    table.add_column("via", no_wrap=True)
    table.add_column("remote", overflow="fold")
    is_sealed = status.wire == "wireguard"
    headings = ["up", "RTT", "received", "sent", *(["handshake"] if is_sealed else [])]
    if any(peer.mac_address_count is not None for peer in peers):
        headings.append("MACs")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for peer in peers:
        cells = _peer_cells(peer, now)
        table.add_row(*cells[: 3 + len(headings)], style="" if peer.up else "dim")
    return table


def _last_errors(peers: list[PeerStatus], now: float, n_max: int) -> Iterable[Text]:
    """Yield why peers are not connected, the newest first."""
    found = [(peer, peer.last_error) for peer in peers if peer.last_error is not None]
    found.sort(key=lambda each: each[1].unix_seconds, reverse=True)
    for peer, error in found[:n_max]:
        age = _age(error.unix_seconds, now, "")
        yield Text(f"{one_line(peer.name)}: {one_line(error.text)} ({age} ago)", style="yellow")


def _ends(peers: list[PeerStatus], now: float) -> Iterable[Text]:
    """Yield whose access ends within a week, the next first."""
    found = [(peer.expires_unix_seconds or 0, peer) for peer in peers]
    for expires, peer in sorted(found, key=lambda each: each[0]):
        if now < expires < now + _END_SHOWN_S:
            text = f"{one_line(peer.name)}: its access ends in {duration(expires - now)}"
            yield Text(text, style="yellow")


def _quotas(peers: list[PeerStatus]) -> Iterable[Text]:
    """Yield whose quota is nearly used up, or is."""
    for peer in peers:
        terms = peer.terms
        if terms is None or not terms.quota_bytes:
            continue
        if terms.quota_used_bytes >= _QUOTA_SHOWN * terms.quota_bytes:
            used, all_of_it = size(terms.quota_used_bytes), size(terms.quota_bytes)
            text = f"{one_line(peer.name)}: {used} of its quota of {all_of_it} a month used"
            yield Text(text, style="yellow")


def _peer_cells(peer: PeerStatus, now: float) -> list[Text]:
    tcp = None if peer.link is None else peer.link.tcp
    return [
        Text(peer.name),
        Text("" if peer.link is None else peer.link.transport),
        Text(remote_of(peer)),
        Text(_age(peer.since_unix_seconds, now, "")),
        Text("" if tcp is None else f"{tcp.rtt_seconds * 1e3:.2f} ms"),
        Text(size(peer.receive_bytes)),
        Text(size(peer.transmit_bytes)),
        Text(_age(peer.last_handshake_unix_seconds, now, "never")),
        Text("" if peer.mac_address_count is None else f"{peer.mac_address_count:,}"),
    ]


def _age(since_unix_seconds: float | None, now: float, if_none: str) -> str:
    """Return how long ago something was, in its largest unit."""
    if since_unix_seconds is None:
        return if_none
    return " ".join(duration(now - since_unix_seconds).split()[:2])


def _stages(title: str, directions: dict[str, Direction]) -> Table:
    """Return the stages in the order in which a packet meets them, each followed by its drops."""
    table = Table(box=None, title=title or None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("", no_wrap=True)
    for heading in ("packets", "bytes", "CPU", "restarts"):
        table.add_column(heading, justify="right", no_wrap=True)
    for name, direction in directions.items():
        reader, writer = direction.reader, direction.writer
        n_dropped = sum(reader.drops.values()) + sum(writer.drops.values())
        table.add_row(Text(f"{name}, {n_dropped:,} dropped", style="bold"))
        _add_stage(table, reader)
        used = direction.ring_used_bytes / direction.ring_capacity_bytes
        fill = f"{100 * used:.0f} % of {direction.ring_capacity_bytes / 2**20:g} MiB"
        style = "yellow" if used >= FULL_FROM else "dim"  # its writer does not keep up
        table.add_row(Text("    ring", style="dim"), "", Text(fill, style=style))
        _add_stage(table, writer)
    return table


def _add_stage(table: Table, stage: Stage) -> None:
    table.add_row(
        Text(f"  {stage.role}") if stage.up else Text(f"  {stage.role} DOWN", style="red"),
        f"{stage.packets:,}",
        size(stage.bytes),
        f"{stage.cpu_seconds:,.1f} s",
        Text(f"{stage.restarts:,}", style="yellow" if stage.restarts else ""),
    )
    for reason, n_packets in stage.drops.items():
        if n_packets:
            table.add_row(Text(f"    dropped: {reason}"), f"{n_packets:,}", style="yellow")


def remote_of(peer: PeerStatus) -> str:
    """Return host and port; that of a peer that was dialled comes as a URL."""
    return "not connected" if peer.remote is None else one_line(peer.remote).rpartition("//")[2]


def duration(seconds: float) -> str:
    """Return the two largest units of a time span."""
    whole = max(0, int(seconds))
    parts = (
        (whole // 86400, "d"),
        (whole // 3600 % 24, "h"),
        (whole // 60 % 60, "min"),
        (whole % 60, "s"),
    )
    first = next((i for i, (count, _) in enumerate(parts) if count), len(parts) - 1)
    return " ".join(f"{count} {unit}" for count, unit in parts[first : first + 2])
