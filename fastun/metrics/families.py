"""The metric families: name, type, labels, help and what reads them, in three tables.

What /metrics, docs/metrics.md (``python -m fastun.metrics``) and the tests know of a metric comes
from there. Names are Prometheus's: base units, ``_total`` for counters, timestamps and not ages.
"""

from __future__ import annotations

from fastun.metrics.family import Family
from fastun.metrics.gateway_families import GATEWAY_FAMILIES
from fastun.metrics.peer_families import PEER_FAMILIES
from fastun.metrics.peer_terms import PEER_TERMS

FAMILIES: tuple[Family, ...] = (*GATEWAY_FAMILIES, *PEER_FAMILIES, *PEER_TERMS)
