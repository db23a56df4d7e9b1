"""The collector: makes prometheus_client's metric families of a view of the gateway.

The parts of a view may be of slightly different moments, since nothing is stopped for a scrape; a
counter all the same never goes back.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator

import msgspec

from fastun.gateway.view import Histogram, LinkView, PeerView, TakeView, ViewClosedError
from fastun.metrics.families import FAMILIES
from fastun.metrics.family import Family
from fastun.metrics.library import (
    Collector,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    Sample,
)
from fastun.metrics.readings import ScrapedPeer, Source
from fastun.metrics.software import SoftwareLabels


class CumulativeCount(msgspec.Struct):
    """A count that the kernel begins at 0 with each link of a peer."""

    link_id: int = 0
    of_link: int = 0
    before: int = 0

    def see(self, link_id: int, n: int) -> None:
        """Record the kernel's count for a link."""
        if link_id != self.link_id:
            self.before += self.of_link
            self.link_id = link_id
        self.of_link = n

    def total(self) -> int:
        """Return the sum over all links so far."""
        return self.before + self.of_link


class PeerCounts(msgspec.Struct):
    """What is remembered between scrapes of a peer that was on TCP."""

    retransmits: CumulativeCount = msgspec.field(default_factory=CumulativeCount)
    drops: CumulativeCount = msgspec.field(default_factory=CumulativeCount)

    def see(self, link: LinkView) -> None:
        """Record the kernel's counts for the peer's link."""
        if link.tcp is not None:
            self.retransmits.see(link.id, link.tcp.n_retransmits)
        if link.socket is not None:
            self.drops.see(link.id, link.socket.n_drops)


class GatewayCollector(Collector):
    """Collects all families. Any thread."""

    def __init__(self, take_view: TakeView) -> None:
        """``take_view`` returns the gateway as it is now, or raises ViewClosedError."""
        self._take_view = take_view
        self._lock = threading.Lock()  # of what is remembered; shared among scrapes only
        self._highest: dict[tuple[str, ...], float] = {}
        self._counts: dict[str, PeerCounts] = {}  # by peer
        self._software = SoftwareLabels()

    def collect(self) -> Iterator[Metric]:
        """Yield all families with their samples of now; none once the gateway has ended.

        One after the other: the samples of all families for 1,000 peers would take 4 MB.
        """
        with self._lock:
            try:
                view = self._take_view()
            except ViewClosedError:
                return
            source = Source(view, self._peers(view.peers))
        for family in FAMILIES:
            with self._lock:
                metric = self._metric(family, source)
            yield metric

    def describe(self) -> list[Metric]:
        """Return the families without samples: they are registered before there is a view."""
        return [_empty(family) for family in FAMILIES]

    def _peers(self, peers: tuple[PeerView, ...]) -> tuple[ScrapedPeer, ...]:
        # By name: the same series twice would cost Prometheus the whole scrape.
        by_name = {peer.name: peer for peer in peers}
        self._counts = {name: each for name, each in self._counts.items() if name in by_name}
        self._software.keep(by_name)
        return tuple(map(self._peer, by_name.values()))

    def _peer(self, peer: PeerView) -> ScrapedPeer:
        link, counts, software = peer.link, self._counts.get(peer.name), ""
        if link is not None:
            software = self._software.of(peer.name, link.software)
            if counts is None and (link.tcp is not None or link.socket is not None):
                counts = self._counts[peer.name] = PeerCounts()
            if counts is not None:
                counts.see(link)
        totals = (0, 0) if counts is None else (counts.retransmits.total(), counts.drops.total())
        return ScrapedPeer(peer, *totals, software)

    def _metric(self, family: Family, source: Source) -> Metric:
        metric = _empty(family)
        if "peer" in family.labels:
            metric.samples = _one_by_one(family, source)  # type: ignore[assignment] # read once
            return metric
        for labels, value in family.read(source):
            if isinstance(metric, HistogramMetricFamily):
                assert isinstance(value, Histogram)  # noqa: S101 (a test collects every family)
                metric.add_metric(labels, _buckets(value), value.sum)
                continue
            assert not isinstance(value, Histogram)  # noqa: S101 (as above)
            may_lag = family.type == "counter"
            shown = self._monotonic((family.name, *labels), value) if may_lag else value
            metric.add_metric(labels, shown)
        return metric

    def _monotonic(self, key: tuple[str, ...], value: float) -> float:
        """Return ``value``, or the highest reported so far.

        A sum of several reads can come out lower than before while its parts move, for instance
        between a worker's death and the booking of its processor time. Those of a peer are no such
        sums, and begin anew when the peer is changed.
        """
        highest = self._highest[key] = max(value, self._highest.get(key, value))
        return highest


def _one_by_one(family: Family, source: Source) -> Iterator[Sample]:
    """Yield the samples of a family of peers, of which a thousand at once would be 0.4 MiB."""
    metric = _empty(family)
    for labels, value in family.read(source):
        assert not isinstance(metric, HistogramMetricFamily)  # noqa: S101 (none is of peers)
        assert not isinstance(value, Histogram)  # noqa: S101 (as above)
        metric.add_metric(labels, value)
        yield metric.samples.pop()


def _empty(
    family: Family,
) -> CounterMetricFamily | GaugeMetricFamily | HistogramMetricFamily:
    """Return a family without samples."""
    match family.type:
        case "counter":
            return CounterMetricFamily(family.name, family.help, labels=family.labels)
        case "gauge":
            return GaugeMetricFamily(family.name, family.help, labels=family.labels)
        case "histogram":
            return HistogramMetricFamily(family.name, family.help, labels=family.labels)


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    """Return each bucket's upper bound and its count, those of the buckets below included."""
    bounds = [*map(str, histogram.upper_bounds), "+Inf"]
    return list(zip(bounds, itertools.accumulate(histogram.counts), strict=True))
