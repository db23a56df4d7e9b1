"""Mutants of the rule "hints" of SECURITY.md."""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_c, in_python
from tests.mutation.testing import run_native

_PYTHON = (
    *in_python(
        "link/hints", "unit/link/test_hints.py",
        ("a hint has its code", "if icmp[:2] != bytes((_UNREACHABLE, _FRAGMENTATION_NEEDED)):", "if icmp[0] != _UNREACHABLE:"),
        ("a hint of IPv6 has its type", "or icmp[0] != _PACKET_TOO_BIG or", "or"),
        ("a later fragment quotes no ports", 'if int.from_bytes(quote[6:8], "big") & 0x1FFF:', "if False:"),
        ("a hint is about something longer", "if mtu >= length:", "if mtu > length:"),
        ("only data has a counter", "if kind not in _DATA_TYPES:", "if False:"),
        ("a short quote has none", "if len(udp) < _UDP_BYTES + _DATA.size:", "if len(udp) < _UDP_BYTES:"),
        ("a turn has an end", "for _ in range(HINTS_PER_TURN):", "while True:"),
        ("a turn has a pause behind it", "self._loop.call_later(TURN_S, self._wait, place)", "self._wait(place)"),
        ("the kernel compares the code", "        (_LOAD_BYTE, 1, _FRAGMENTATION_NEEDED),\n", ""),
        ("the kernel compares the port", "_INSTRUCTION.pack(_EQUAL, len(ports) - i, 0, port)", "_INSTRUCTION.pack(_EQUAL, len(ports) - i, len(ports) - i, port)"),
    ),
    *in_python(
        "link/hinted", "unit/link/test_hinted.py unit/link/test_path.py",
        ("what was not sent proves nothing", "self._older <= counter < sealed", "self._older <= counter"),
        ("what is old proves nothing", "self._older <= counter < sealed", "counter < sealed"),
        ("there is a floor", "max(mtu, FLOOR), (mtu", "mtu, (mtu"),
        ("below it datagrams may be fragmented", "(mtu if 0 < mtu < FLOOR else 0)", "0"),
        ("a hint is followed for some time", "if self.size == 0 or now_s < self._until_s:", "if True:"),
        ("the first hint's time holds", "        if self.size == 0:\n            is_again", "        if True:\n            is_again"),
        ("what is refuted at once is tried less often", "min(2 * self._hold_s, HOLD_MAX_S) if is_again else HOLD_S", "HOLD_S"),
        ("but is tried", "min(2 * self._hold_s, HOLD_MAX_S)", "2 * self._hold_s"),
    ),
    *in_python(
        "link/path", "unit/link/test_path.py",
        ("a hint has the peer's index", "counter is None or hint.index != keys.remote_index", "counter is None"),
        ("a control message is of late", "return 0 < correspondent.hello.next_counter - counter <= _RECENT_CONTROLS", "return 0 < correspondent.hello.next_counter - counter"),
        ("a control message was sent", "return 0 < correspondent.hello.next_counter - counter <= _RECENT_CONTROLS", "return True"),
        ("a counter is looked at", "return correspondent.recent.has(counter, sealed)", "return True"),
        ("only a verified hint is followed", "if is_verified and (not _answers_probes", "if (not _answers_probes"),
        ("who answers probes is asked", "(not _answers_probes(correspondent) or hint.mtu >= probe.LONGEST)", "True"),
        ("what cannot be asked for is followed", "(not _answers_probes(correspondent) or hint.mtu >= probe.LONGEST)", "not _answers_probes(correspondent)"),
        ("no path of IPv6 is below its least", "        if is_ipv6 and hint.mtu < _LEAST_MTU_IPV6:\n            return False\n", ""),
        ("another path has no hints", "            correspondent.path_hinted = HintedLimit()\n", ""),
        ("a hint's time has an end", "        if correspondent.path_hinted.expire(now_s):", "        if False:"),
        ("the kernel's cache is asked only in need", "        if not self.hears_hints:\n", "        if True:\n"),
    ),
    *in_python(
        "link/probe", "unit/link/test_probe.py",
        ("a hint decides nothing", "            self._ask(size)\n        return True", "            self.limit = size\n        return True"),
        ("a hint's size is not the end", "        elif size == self._hint:\n            self._ask(self._longest)\n", "        elif size == self._hint:\n            self._end(now_s)\n"),
        ("false hints are not searched for again at once", "  # it was false\n            self._be_deaf(now_s)\n", "\n            pass\n"),
        ("strangers' do not go for verified ones", "        if self._is_quick:\n            self._deaf_until_s", "        if True:\n            self._deaf_until_s"),
        ("hints that prove nothing are searched for now and then", "        if not is_verified:\n            self._deaf_until_s[False] = now_s + DEAF_S\n", ""),
        ("what is lost with its companion is asked for again", "elif self._n_companions >= TRIES:", "else:"),
        ("a hint of what is known is none", "has_news = size < (self.limit or self._longest) and", "has_news ="),
        ("a search goes on while hints come", "and (not is_busy or is_lower)", ""),
        ("a second router may say less", "(not is_busy or is_lower)", "not is_busy"),
        ("a verified hint goes before others", "(self._is_quick or not is_verified)", "True"),
        ("a hint without a size is not verified", "is_verified = is_verified and size > 0", "pass"),
    ),
    *in_python(
        "link/local_mtu", "unit/link/test_local_mtu.py",
        ("what ICMP has told does not count", ", flags=RTM_F_FIB_MATCH)", ")"),
        ("the administrator's route counts", "    if _RTAX_MTU in metrics:", "    if False:"),
        ("a router's advertisement counts", "    if is_ipv6:  #", "    if False:  #"),
    ),
    *in_python(
        "host/rtnetlink", "unit/link/test_local_mtu.py unit/host/test_route_lookup.py",
        ("all next hops count", 'return found + list(_next_hops(self.attributes.get(RTA_MULTIPATH, b"")))', "return found"),
        ("the mark counts", "((_RTA_MARK, self._fwmark), ", "("),
        ("the source counts", "            attributes += _attribute(_RTA_SRC, source.packed)\n", "            pass\n"),
        ("an answer is the question's", "if sequence == self._sequence:", "if True:"),
        ("changes are heard", "_netlink_socket(_GROUPS)", "_netlink_socket()"),
    ),
)  # fmt: skip

_NATIVE = in_c(
    "datagram_writer", "test_datagram_mtu",
    ("a fresh link-writer forbids fragments", "return set_may_fragment(where, false);", "(void)where;\n    return 0;"),
    ("what is fragmented is so by the device's MTU", "may ? IP_PMTUDISC_OMIT", "may ? IP_PMTUDISC_PROBE"),
    ("fragments of IPv6 fit every path", "may ? IPV6_MTU_MIN : 0;", "0;"),
    ("and only fragments are so short", "may ? IPV6_MTU_MIN : 0;", "IPV6_MTU_MIN;"),
    ("without offload they go singly", "if (train->n_segments == 1 || !may_be_a_train(loop, train->slot))", "if (train->n_segments == 1)"),
    ("what fits goes as a train", "    if (send_whole(loop, trains, train))", "    if (false)"),
)  # fmt: skip

_OUTBOUND = in_c(
    "outbound", "test_path_mtu",
    ("below the floor routers may cut", "link->whole == 0 || type_length + length <= link->whole ?", "true ?"),
    ("what a router takes whole goes whole", "type_length + length <= link->whole", "false"),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    Suite(
        name="hints",
        tests=("tests/unit/link",),
        mutants=_PYTHON,
    ),
    Suite(
        name="hints-native",
        tests=("test_datagram_mtu", "test_path_mtu"),
        mutants=(*_NATIVE, *_OUTBOUND),
        run=run_native,
    ),
)
