"""Metrics: what Prometheus reads, taken from a view of the gateway without asking a worker.

server     the metrics address: /metrics, /healthz, /readyz
collector  makes prometheus_client's families of a view
families   each metric (family): name, type, labels, help, and what reads it; those of the gateway
           (gateway_families), of its peers (peer_families) and of their terms (peer_terms)
readings   the functions that read; peer_readings: of peers
library    what there is of prometheus_client and of http.server
software   a peer's software name as a label
tables     the tables of the documentation: `python -m fastun.metrics` prints them
"""
