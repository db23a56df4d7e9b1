"""What the metrics have of prometheus_client and of Python's HTTP server.

Not its client, TLS, the types of files and the names of HTML's characters: 2 MiB of a gateway.
"""

from fastun import imports

with (
    imports.deferred("prometheus_client"),
    imports.standing_in("html.entities", "mimetypes", "ssl", "urllib.request"),
):
    from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

    from prometheus_client.exposition import choose_encoder, gzip_accepted
    from prometheus_client.metrics_core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        HistogramMetricFamily,
        Metric,
    )
    from prometheus_client.openmetrics import exposition as openmetrics
    from prometheus_client.process_collector import ProcessCollector
    from prometheus_client.registry import Collector, CollectorRegistry
    from prometheus_client.samples import Sample

__all__ = [
    "Collector",
    "CollectorRegistry",
    "CounterMetricFamily",
    "GaugeMetricFamily",
    "HistogramMetricFamily",
    "Metric",
    "ProcessCollector",
    "Sample",
    "WSGIRequestHandler",
    "WSGIServer",
    "choose_encoder",
    "gzip_accepted",
    "openmetrics",
]
