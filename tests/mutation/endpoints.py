"""Mutants of the rule "endpoints" of SECURITY.md.

Left out is what only namespaces show: tests/attack/test_endpoints.py.
"""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_c, in_python
from tests.mutation.testing import run_native

_NATIVE = (
    *in_c(
        "datagram_reader", "test_datagram_reader",
        ("what comes by our device is dropped", "    if (is_from_inside(loop, arrival->endpoint)) {", "    if (0) {"),
        ("what comes by another interface is not", "sender->local_zone == loop->device_index;", "true;"),
        ("it is counted", "        inbound_drop(loop, DROP_link_reader_inside_tunnel, length);\n", ""),
    ),
    *in_c(
        "device", "test_device",
        ("the device is known by its index", "? 0 : if_nametoindex(request.ifr_name);", "? 0 : 0;"),
    ),
    *in_c(
        "own_packets", "test_own_packets",
        ("our own packets are known", "           seals_for(loop, session_receiver_index(frame + at));", "           false;"),
        ("others' are not ours", "if (key != NULL && key->receiver_index == index)", "if (key != NULL)"),
        ("a handshake's index is another's", "(type == MESSAGE_DATA_CHACHA || type == MESSAGE_DATA_AES) &&", ""),
        ("AES is ours, too", "type == MESSAGE_DATA_CHACHA || type == MESSAGE_DATA_AES", "type == MESSAGE_DATA_CHACHA"),
        ("a packet is looked at within its length", "length < at + DATA_HEADER || ", ""),
        ("a key that came or went is heard of", "        own->is_stale = true;\n", "        ;\n"),
        ("indices that share a place are found", "        while (own->places[place] != 0)\n", "        while (0)\n"),
        ("a table is made anew", "    memset(own->places, 0, sizeof own->places);\n", ""),
        ("TCP is not ours", "packet[IPV4_PROTOCOL] == PROTOCOL_UDP && is_first", "is_first"),
        ("a later fragment is not ours", "packet[IPV4_PROTOCOL] == PROTOCOL_UDP && is_first", "packet[IPV4_PROTOCOL] == PROTOCOL_UDP"),
        ("options stand before UDP", "(packet[0] & 15u) * 4u + UDP_HEADER", "IPV4_HEADER_MIN + UDP_HEADER"),
        ("IPv6 carries TCP as well", "return next == PROTOCOL_UDP ? header", "return true ? header"),
        ("a fragment of IPv6 carries UDP as well", "next = is_first ? fragment[0] : EXTENSION_FRAGMENT;", "next = EXTENSION_FRAGMENT;"),
        ("a later fragment of IPv6 is not ours", "next = is_first ? fragment[0] : EXTENSION_FRAGMENT;", "next = fragment[0];"),
        ("a fragment is looked at within its length", "next == EXTENSION_FRAGMENT && length >= IPV6_HEADER + FRAGMENT_HEADER", "next == EXTENSION_FRAGMENT"),
        ("a VLAN tag is passed over", "        at += VLAN_TAG;\n", ""),
        ("not every frame is IP", "return type == ETHERTYPE_IPV4 || type == ETHERTYPE_IPV6 ? at + 2 : length;", "return at + 2;"),
    ),
    *in_c(
        "outbound", "test_own_packets",
        ("our own packets are dropped", "    if (own_packets_has(loop, frame, frame_length)) {", "    if (0) {"),
    ),
    *in_c(
        "datagram_writer", "test_datagram_writer",
        ("to a peer inside nothing is sent", "            if (loop->links[records[next]->slot]->is_blocked) {", "            if (0) {"),
        ("nor is a message of the gateway's", "    if (loop->links[slot]->is_blocked)\n        return -ELOOP;\n", ""),
    ),
    *in_c(
        "loop", "test_datagram_writer",
        ("what was blocked is not for ever", "        link->is_blocked = is_blocked;\n", "        link->is_blocked |= is_blocked;\n"),
    ),
)  # fmt: skip

_PYTHON = (
    *in_python(
        "link/inside", "unit/link/test_inside.py",
        ("the device is where it leads", "        return found == self._device_index\n", "        return found != 0\n"),
        ("our address decides, where it is there", "found = self._lookup.interface_to(host, port, protocol, source)\n", "found = self._lookup.interface_to(host, port, protocol)\n"),
        ("our address may have gone", "        if not found and source is not None:  # it may have gone\n", "        if False:\n"),
        ("a zone decides", "            return address.zone == self._device_index\n", "            return False\n"),
        ("IPv4 on a socket of IPv6 is IPv4", "return (host.ipv4_mapped or host) if", "return host if"),
        ("who came by the device is inside", "return arrived_by == self._device_index or self.holds", "return self.holds"),
        ("who is answered by the device is inside", "return arrived_by == self._device_index or self.holds_stream(connection.getpeername())", "return arrived_by == self._device_index"),
        ("a warning comes once", "if is_inside and self._noted.get(peer) != remote:", "if is_inside:"),
    ),
    *in_python(
        "link/udp", "unit/link/test_inside.py",
        ("nothing is sent there", "if self._inside is not None and self._inside.holds(to):", "if False:"),
    ),
    *in_python(
        "link/tcp", "unit/link/test_inside.py",
        ("nothing is dialled there", "if inside is not None and inside.holds_stream(address):", "if False:"),
    ),
    *in_python(
        "link/tcp", "unit/link/test_tcp.py",
        ("what is accepted has the mark", "        if fwmark:  # net/ipv4", "        if False:  # net/ipv4"),
    ),
    *in_python(
        "link/datagram_handshakes", "unit/link/test_datagram_sessions.py",
        ("no handshake comes from there", "        if self._inside.holds(address):\n", "        if False:\n"),
    ),
    *in_python(
        "link/correspondents", "unit/link/test_datagram_sessions.py",
        ("no peer roams there", "if correspondent.address is not None and self._inside.holds(address):", "if False:"),
        ("the link-reader is told where the peer is", "            self.say_endpoint(correspondent)\n            return\n", "            return\n"),
    ),
    *in_python(
        "link/finding", "unit/link/test_finding.py",
        ("connections are asked for by the mark they have", "tcp.listen(endpoint, self._gateway.settings.fwmark)", "tcp.listen(endpoint)"),
        ("no connection comes from there", "if self._gateway.inside.holds_connection(connection):", "if False:"),
    ),
    *in_python(
        "link/endpoint_watch", "unit/link/test_endpoint_watch.py",
        ("the link-writer is told", "        if is_inside != (self._blocked.get(link.slot) == link.id):\n", "        if False:\n"),
        ("changes are looked at", "CHANGED_INTERVAL_S if self._has_changed else ALL_INTERVAL_S", "ALL_INTERVAL_S"),
        ("changes are not looked at each time", "interval_s = CHANGED_INTERVAL_S if", "interval_s = 0 if"),
        ("all are looked at now and then", "CHANGED_INTERVAL_S if self._has_changed else ALL_INTERVAL_S", "CHANGED_INTERVAL_S if self._has_changed else 1e9"),
        ("a peer that moved is looked at", "if address is None or (not is_due and self._seen", "if address is None or not is_due or (self._seen"),
        ("a new link-writer knows nothing", "        self._seen.clear()\n        self._blocked.clear()\n", ""),
        ("a stream that leads inside ends", "        if is_inside:\n            self._links.end(", "        if False:\n            self._links.end("),
    ),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    Suite(name="endpoints", tests=("test_own_packets",), mutants=_NATIVE, run=run_native),
    Suite(name="endpoints-gateway", tests=("tests/unit/link/test_inside.py",), mutants=_PYTHON),
)
