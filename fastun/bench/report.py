"""The tables of ``fastun bench`` for a person: 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable
from statistics import mean
from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from fastun.bench.machine import title
from fastun.bench.stages import RECEIVING, SENDING
from fastun.native import ROLES

if TYPE_CHECKING:
    from fastun.bench.figures import Live, LiveOneWay, Machine, OneWay, WireFigures

_COLUMNS = 80
_NOTES = """
- secure: the wireguard wire, which is encrypted. plain and simpletun are not.

- x veth: of the bare veth pair, measured before and after. Of two runs only these ratios can be
compared.

- ping: with nothing else to carry. ACKs: the other two workers of each end, which carry TCP's
answers.

- What more cores would carry: fastun bench --model. Through a live tunnel: fastun bench --serve on
one host, fastun bench --peer NAME on the other.
"""
# Of its cores, before the run: more, and others take a noticeable part.
_LOAD_MAX = 0.5


def of_machine(figures: Machine) -> Iterable[Table | str]:
    """Return what is printed of `fastun bench`."""
    yield f"fastun {figures.version}, Linux {figures.kernel}, {_cores(figures.cores)} for both ends"
    if figures.load_average > _LOAD_MAX * figures.cores:
        yield filled(
            f"This machine was busy (load {figures.load_average:.1f}), so these figures are low; "
            "run it again when it has nothing else to do."
        )
    yield ""
    yield _goodput(figures)
    yield ""
    yield "processor time of the workers of both ends, µs per MiB that they carry"
    yield _stages(figures)
    yield ""
    yield f"One TCP stream, {figures.congestion_control}, {figures.seconds:g} s a direction."
    yield from map(filled, _NOTES.strip().split("\n\n"))


def filled(text: str) -> str:
    """Return a paragraph, or what begins with "- ", in lines of 80 columns."""
    return textwrap.fill(text, _COLUMNS, subsequent_indent="  " * text.startswith("- "))


def _cores(n: int) -> str:
    return f"{n} core{'s' * (n > 1)}"


def _goodput(figures: Machine) -> Table:
    wires = figures.wires
    table = _table("wire", "to server", "x veth", "to client", "x veth", "ping")
    ways: tuple[Callable[[WireFigures], OneWay], ...] = (
        lambda wire: wire.to_server,
        lambda wire: wire.to_client,
    )
    ceiling = [mean(way(wire).veth_bits_per_second for wire in wires) for way in ways]
    table.add_row(
        "bare veth", _gbit(ceiling[0]), "", _gbit(ceiling[1]), "", _ms(figures.veth_ping_ms)
    )
    for wire in wires:
        cells = [cell for way in ways for cell in _with_ratio(way(wire))]
        table.add_row(_title(wire), *cells, _ms(wire.ping_ms))
    return table


def _with_ratio(way: OneWay) -> tuple[str, str]:
    return _gbit(way.bits_per_second), f"{way.ratio:.2f}"


def _stages(figures: Machine) -> Table:
    """Return the stages in the order in which data meets them; what the others took is for ACKs."""
    table = _table("wire", *SENDING, *RECEIVING, "ACKs", "sum")
    for wire in figures.wires:
        ways = (wire.to_server, wire.to_client)
        data = [mean(way.sender_cpu_us_per_mebibyte[role] for way in ways) for role in SENDING]
        data += [mean(way.receiver_cpu_us_per_mebibyte[role] for way in ways) for role in RECEIVING]
        total = mean(_total(way) for way in ways)
        table.add_row(_title(wire), *(f"{us:.0f}" for us in (*data, total - sum(data), total)))
    return table


def _total(way: OneWay) -> float:
    both = (way.sender_cpu_us_per_mebibyte, way.receiver_cpu_us_per_mebibyte)
    return sum(sum(cpu.values()) for cpu in both)


def _title(wire: WireFigures) -> str:
    return title(wire.wire, wire.transport)


def of_peer(figures: Live) -> Iterable[Table | Text | str]:
    """Return what is printed of `fastun bench --peer`."""
    over = f" over {figures.transport}" if figures.transport else ""
    yield Text(
        f"{figures.interface} to {figures.peer} ({figures.address}), {figures.wire} wire{over}"
    )
    yield ""
    yield _live(figures)
    yield ""
    yield (
        f"round trip, idle: {figures.round_trip_median_ms:.2f} ms "
        f"({figures.round_trip_min_ms:.2f} to {figures.round_trip_max_ms:.2f})"
    )
    yield ""
    yield (
        f"One TCP stream, {figures.seconds:g} s a direction. Under the names of the workers: the "
        "processor\ntime of this host's gateway, µs per MiB."
    )


def _live(figures: Live) -> Table:
    table = _table("direction", "goodput", *ROLES)
    ways = {f"to {figures.peer}": figures.sending, f"from {figures.peer}": figures.receiving}
    for direction, way in ways.items():
        if way is not None:
            table.add_row(Text(direction), *_live_cells(way))
    return table


def _live_cells(way: LiveOneWay) -> list[str]:
    cpu = [f"{way.cpu_us_per_mebibyte[role]:.0f}" for role in ROLES]
    return [_gbit(way.bits_per_second), *cpu]


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column(first, overflow="fold", max_width=_COLUMNS // 4)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _gbit(bits_per_second: float) -> str:
    if bits_per_second < 1e9:  # noqa: PLR2004 (a Gbit)
        return f"{bits_per_second / 1e6:.1f} Mbit/s"
    return f"{bits_per_second / 1e9:.2f} Gbit/s"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.2f} ms"
