"""Metrics: what Prometheus reads, taken from a view of the gateway without asking a worker.

server     the metrics address: /metrics, /healthz, /readyz
collector  makes prometheus_client's families of a view
families   name, type, labels and help of each metric, and what reads it: those of the gateway
           (gateway_families) and of its peers (peer_families)
readings   the functions that read
software   a peer's software name as a label
tables     the tables of the documentation: `python -m fastun.metrics` prints them
"""
