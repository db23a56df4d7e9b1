"""Metrics: what Prometheus and fastun status are told, read without asking a worker.

server         the metrics address: /metrics, /healthz, /readyz
collector      one look at a gateway, as Prometheus reads it
families       name, type, labels and help of each metric, and what reads it
readings       the functions that read
sockets        what the kernel tells of a link's socket
worker_states  idle, busy or blocked, at the instant of a look
tables         README's tables: `python -m fastun.metrics` prints them
"""
