"""All fuzz targets of Python code, by name."""

from tests.fuzz import of_files, of_fleet, of_gateway, of_host, of_kernel, of_peers, of_workers
from tests.fuzz.target import TARGETS

__all__ = [
    "TARGETS",
    "of_files",
    "of_fleet",
    "of_gateway",
    "of_host",
    "of_kernel",
    "of_peers",
    "of_workers",
]
