"""pyroute2's IPRoute and its error, as one line too, without the rest of pyroute2.

The __init__.py of pyroute2 imports all of its parts (NDB, IPDB, conntrack, nl80211, ...): a hundred
modules, 6 MiB and 80 ms of a gateway that uses one class. What that one imports for mocks, other
processes, other network namespaces, TLS and traffic control is another 2.5 MiB and 15 ms.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from fastun import imports
from fastun.errors import RuntimeFailure

try:
    with (
        imports.deferred("pyroute2", "unittest"),
        imports.standing_in(
            "multiprocessing", "pyroute2.netlink.rtnl.tcmsg", "ssl", "unittest.mock"
        ),
        imports.standing_in("ctypes", "ctypes.util"),
        imports.standing_in("pyroute2.iproute.ipmock", "pyroute2.process"),
    ):
        from pyroute2.iproute import IPRoute
        from pyroute2.netlink.exceptions import NetlinkError
except ImportError:  # a version whose parts need the whole
    from pyroute2 import IPRoute, NetlinkError

__all__ = ["IPRoute", "NetlinkError", "explained"]


@contextmanager
def explained(what: str) -> Iterator[None]:
    """Turn the kernel's refusal into one line that begins with ``what``."""
    try:
        yield
    except NetlinkError as error:
        reason: Any = os.strerror(error.code) if error.code else error
        raise RuntimeFailure(f"{what}: the kernel refuses it: {reason}") from None
