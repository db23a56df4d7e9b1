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
from fastun.errors import RuntimeFailure
from fastun.gateway.worker_state import FULL_FROM
from fastun.status import confinement, control, kill_switch, peer_report
from fastun.status.peer_report import duration

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from fastun.status.reply import (
        Confinement,
        Direction,
        DnsStatus,
        DrainStatus,
        EndpointStatus,
        FleetStatus,
        ForwardStatus,
        LaneStatus,
        Stage,
        Status,
    )

# Of peers that are not connected, so many get a line; the rest is counted.
_PEERS_SHOWN_DOWN_MAX = 10
_NETWORKS_SHOWN_MAX = 4

_FINE = ("used", "ready")
_ENDPOINT_WORDS = {
    "used": "used",
    "ready": "ready",
    "silent": "did not answer",
    "drained": "is drained",
    "unresolved": "has no address yet",
}


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
            f"--run-dir {run_dir}: cannot be read ({error.strerror or error}); "
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
        is_sealed = status.wire == "wireguard"
        yield from peer_report.lines(status.peers, now, n_down_max, is_sealed=is_sealed)
        yield ""
    for lane in status.lanes:
        title = f"lane {lane.lane}" if len(status.lanes) > 1 else ""
        yield _stages(title, {"outbound": lane.outbound, "inbound": lane.inbound})


def _host_process(status: Status) -> str:
    return "" if status.host_pid is None else f", host process {status.host_pid}"


def _summary(status: Status, now: float) -> Table:
    table = Table.grid(padding=(0, 2))
    age = duration(now - status.started_unix_seconds)
    table.add_row(
        Text(status.interface, style="bold"),
        Text(
            f"{status.role}, {status.mode}, {status.wire} wire, MTU {status.mtu_bytes}, up {age}, "
            f"pid {status.pid}{_host_process(status)}"
        ),
    )
    if status.public_key:
        table.add_row("key", f"{status.public_key} (public)")
    table.add_row("address", Text("  ".join(status.addresses) or "none"))
    for label, said in _around(status, now):
        table.add_row(label, said)
    table.add_row("peers", _connected(status))
    links = status.links
    table.add_row(
        "links",
        f"{links.established} so far, {links.reconnects} reconnects, {links.refused} refused, "
        f"{links.hello_failures} failed hellos",
    )
    if links.refused_handshakes:
        table.add_row("handshakes", Text(f"{links.refused_handshakes} refused", style="yellow"))
    table.add_row("workers", _waiting(status.lanes[0]))
    if status.confinement is not None:
        table.add_row("sandbox", _confined(status.confinement))
        if status.confinement.gateway is not None:
            table.add_row("", Text("gateway: ").append(_confined(status.confinement.gateway)))
    if status.fleet is not None and status.fleet.confinement is not None:
        table.add_row("", Text("fleet: ").append(_confined(status.fleet.confinement)))
    table.add_row("metrics", Text(f"http://{status.metrics}/metrics" if status.metrics else "off"))
    return table


def _around(status: Status, now: float) -> Iterator[tuple[str, Text | str]]:
    """Yield what the gateway has of its host and its fleet, a line each, where there is any."""
    if status.dns is not None:
        yield "DNS", _dns(status.dns)
    if status.reload_error:
        since = duration(now - status.configured_unix_seconds)
        yield (
            "config",
            Text(f"not reloaded: {status.reload_error}; as it was read {since} ago", "yellow"),
        )
    if status.endpoints:
        yield "endpoints", _endpoints(status.endpoints, now)
    if status.drain is not None:
        yield "drain", Text(drained(status.drain, now), style="yellow")
    if said := _host(status):
        yield "host", said
    if status.fleet is not None:
        yield "fleet", _fleet(status.fleet, now)
    if status.forward is not None:
        yield "forward", _forwarding(status.forward)
    if status.kill_switch != "off":
        yield "kill switch", kill_switch.WORDS[status.kill_switch]


def _endpoints(endpoints: Iterable[EndpointStatus], now: float) -> Text:
    """Return which is used, and why each other is not."""
    said = Text()
    for each in endpoints:
        is_name = bool(each.address) and not each.endpoint.endswith(f"//{each.address}")
        where = f"{each.endpoint} {each.address}" if is_name else each.endpoint
        word = _ENDPOINT_WORDS.get(each.state, each.state)
        last = f", tried last for {duration(each.until_unix_seconds - now)}"
        is_late = each.until_unix_seconds > now
        line = f"{where}: {word}{last if is_late else ''}"
        said.append(("\n" if said else "") + line, style="" if each.state in _FINE else "yellow")
    return said


def drained(drain: DrainStatus, now: float) -> str:
    """Return how far it is, in words."""
    said = f"{drain.connected} of {drain.before} peers left"
    if drain.staying:
        said += f"; {drain.staying} with no other endpoint"
    if drain.unaware:
        said += f"; {drain.unaware} that cannot be asked"
    return f"{said}; ends in {max(0, round(drain.until_unix_seconds - now))} s at the latest"


def _confined(what: Confinement) -> Text:
    said = confinement.describe(what.user, what.landlock, has_filter=what.seccomp, lacks=what.lacks)
    return Text(said, style="yellow" if what.lacks else "")


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


def _fleet(fleet: FleetStatus, now: float) -> Text:
    """Return where the peers come from, and what keeps changes of them from coming."""
    said = Text(f"{fleet.name} of {fleet.directory}")
    if fleet.fault:
        looked = fleet.looked_unix_seconds
        since = f"as {duration(now - looked)} ago" if looked else "those of the last time"
        said.append(f"\nnot followed: {fleet.fault}; peers are {since}", style="yellow")
    for line in fleet.why_left_out:
        said.append(f"\nleft out: {line}", style="yellow")
    return said


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


def _waiting(lane: LaneStatus) -> str:
    """Return how the workers wait for one another."""
    hand_over = "single packets handed over in place" if lane.hand_over else "no hand-over in place"
    spin = lane.spin_microseconds
    return hand_over + (f", writers spin for {spin} µs" if spin else ", no spinning")


def _connected(status: Status) -> Text:
    n_up = sum(peer.up for peer in status.peers)
    n_peers = len(status.peers)
    said = f"{n_up} connected" + (f", {n_peers - n_up} not" if n_peers > n_up else "")
    if n_up == 0:
        where = ", ".join(status.listen)
        said += f", dialling {status.endpoint}" if status.endpoint else f", listening on {where}"
    return Text(said, style="green" if n_up else "yellow")


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
