"""The ranges of numbers in the configuration, for checks, errors and the reference."""

from __future__ import annotations

from typing import Final

# The kernel's own limit for IPv4 is 68, but what carries less than 576 (RFC 791 section 3.2) is a
# slip of the pen. 65000 and an Ethernet header fit the u16 length of a stream frame.
MTU: Final = range(576, 65000 + 1)

PORT_MAX: Final = 65535
MARK_MAX: Final = 2**32 - 1  # The kernel's mark of a packet and number of a table have 32 bits.
# linux/rtnetlink.h: the rules' last resort, and local addresses.
KERNEL_TABLES: Final = (253, 255)
KEEPALIVE_MAX_S: Final = 65535  # WireGuard's field has 16 bits (wg(8), PersistentKeepalive).

# Long enough for a look-up of a name that fails; at the end fastun waits as long at most.
HOOK_TIMEOUTS_S: Final = (0.1, 300.0)

# Each is a line of a rule, and a route of every client.
FORWARDED_NETWORKS_MAX: Final = 256
MASQUERADED_INTERFACES_MAX: Final = 32

# A gateway is asked twice in it, at least 20 s apart: one that is asked sooner asks back.
FAIL_BACK_S: Final = (40, 86_400)
