"""The collector: turns one look at a gateway into Prometheus's samples.

What is read together may be of slightly different instants, since nothing is stopped for a scrape;
a counter all the same never goes back.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING

from prometheus_client.core import Metric
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from fastun import _native
from fastun._native import Ring, Stats
from fastun.metric_families import FAMILIES, Family
from fastun.metric_readings import Histogram, LaneView, Source

if TYPE_CHECKING:
    from fastun.gateway import Gateway, Link


class GatewayCollector(Collector):
    """Reads all families from a gateway. Any thread; scrapes follow one another."""

    def __init__(self, gateway: Gateway) -> None:
        """Map the lane's shared memory once more: the lane may unmap its own during a scrape."""
        self._gateway = gateway
        lane = gateway.lane
        self._lane = LaneView(
            str(lane.index),
            Stats.attach(lane.stats.fd),
            {name: Ring.attach(ring.fd, ring.size_bytes) for name, ring in lane.rings.items()},
            lane.workers,
        )
        self._lock = threading.Lock()  # shared among scrapes only
        self._is_closed = False
        self._highest: dict[tuple[str, ...], float] = {}
        self._link_id = 0
        self._n_retransmits_of_link = 0
        self._n_retransmits_before = 0

    def collect(self) -> Iterable[Metric]:
        """Return all families with their samples of now."""
        with self._lock:
            if self._is_closed:
                return []
            source = self._source()
            return [self._metric(family, source) for family in FAMILIES]

    def describe(self) -> Iterable[Metric]:
        """Return nothing: registering is no reason to read anything."""
        return []

    def close(self) -> None:
        """Unmap, once no scrape runs; later ones are empty."""
        with self._lock:
            self._is_closed = True
            self._lane.stats.close()
            for ring in self._lane.rings.values():
                ring.close()

    def _source(self) -> Source:
        link = self._gateway.link
        tcp = _tcp_info(link)
        return Source(
            gateway=self._gateway,
            lanes=(self._lane,),
            link=link,
            tcp=tcp,
            n_retransmits=self._retransmits(link, tcp),
            device=self._gateway.device.statistics(),
        )

    def _retransmits(self, link: Link | None, tcp: _native.TcpInfo | None) -> int:
        """Return the retransmits of all links: the kernel begins at 0 with each."""
        if link is not None and tcp is not None:
            if link.id != self._link_id:
                self._n_retransmits_before += self._n_retransmits_of_link
                self._link_id = link.id
            self._n_retransmits_of_link = tcp.n_retransmits
        return self._n_retransmits_before + self._n_retransmits_of_link

    def _metric(self, family: Family, source: Source) -> Metric:
        metric = Metric(family.name.removesuffix("_total"), family.help, family.type)
        for values, value in family.read(source):
            labels = dict(zip(family.labels, values, strict=True))
            if isinstance(value, Histogram):
                _add_histogram(metric, labels, value)
            elif family.type == "counter":
                highest = self._not_back((family.name, *values), value)
                metric.add_sample(family.name, labels, highest)
            else:
                metric.add_sample(family.name, labels, value)
        return metric

    def _not_back(self, key: tuple[str, ...], value: float) -> float:
        """Return ``value``, or the highest reported so far.

        A sum of several reads can come out lower than before while its parts move, for instance
        between a worker's death and the booking of its processor time.
        """
        highest = self._highest[key] = max(value, self._highest.get(key, value))
        return highest


def _tcp_info(link: Link | None) -> _native.TcpInfo | None:
    if link is None:
        return None
    try:
        return _native.tcp_info(link.connection)
    except OSError:  # ended since
        return None


def _add_histogram(metric: Metric, labels: dict[str, str], histogram: Histogram) -> None:
    bounds = [*map(floatToGoString, histogram.upper_bounds), "+Inf"]
    cumulated = list(itertools.accumulate(histogram.counts))
    for bound, count in zip(bounds, cumulated, strict=True):
        metric.add_sample(f"{metric.name}_bucket", {**labels, "le": bound}, count)
    metric.add_sample(f"{metric.name}_count", labels, cumulated[-1])
    metric.add_sample(f"{metric.name}_sum", labels, histogram.sum)
