"""Whether a stream still gets through: TCP itself knows when its segments are not acknowledged.

TCP goes on for 25 s before it gives up (sockets.py), on the one path that it has. A silent stream
does not prove that the path is dead, so it is only a reason to try others (dialler.py).
"""

from __future__ import annotations

import socket
import struct
from typing import Final

# Unanswered retransmissions in a row, and a time without an acknowledgement, that a path worth
# having does not reach: over one of 0.2 s the second is sent after some 1.2 s.
RETRANSMITS: Final = 2
SILENT_MS: Final = 2000

# Where there is another server to go to, TCP inside the tunnel is to find it by its third
# retransmission, after 1.4 s: the next is at 3 s. A slow link that is doubted in vain costs a
# connection, and stays.
SILENT_WITH_OTHERS_MS: Final = 600

# struct tcp_info, linux/tcp.h: tcpi_retransmits, tcpi_unacked, tcpi_last_ack_recv (milliseconds).
_INFO: Final = struct.Struct("=2xB5x16xI28xI")


def is_silent(connection: socket.socket, *, has_others: bool = False) -> bool:
    """Return whether what was sent has not been acknowledged for too long.

    ``has_others``: there are other servers to go to.
    """
    try:
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:  # it is ending
        return False
    if len(info) < _INFO.size:
        return False
    retransmits, unacknowledged, ago_ms = _INFO.unpack(info)
    limit_ms = SILENT_WITH_OTHERS_MS if has_others else SILENT_MS
    return bool(unacknowledged > 0 and retransmits >= RETRANSMITS and ago_ms >= limit_ms)
