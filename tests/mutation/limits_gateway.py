"""Mutants of the rule "limits are per source first, then overall", as the gateway keeps it.

Left out, because no test can tell:
- source_limits.py: which of two sources is forgotten first, when both have been silent as long.
- finding.py: that whoever is over its limit is closed; a socket that nobody holds is, too.
- arrivals.py: that one of several crowds is chosen at random, and not by a rule nobody knows.
"""
# ruff: noqa: E501 (a mutant is a line)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_c, in_python
from tests.mutation.testing import run_native

# fmt: off
_MUTANTS = (
    *in_python(
        "link/source_limits", "unit/link/test_source_limits.py",
        ("a bucket can be empty", "        if full_at_ns > now_ns + self._burst_ns:\n            return False\n", ""),
        ("a burst is exact", "if full_at_ns > now_ns + self._burst_ns:", "if full_at_ns >= now_ns + self._burst_ns:"),
        ("a token is used up", "        self._full_at_ns = full_at_ns\n", ""),
        ("an idle source saves up no more than a burst", "max(self._full_at_ns, now_ns)", "self._full_at_ns"),
        ("a source takes nothing of another", "bucket = self._buckets.get(source)", "bucket = self._buckets.get(next(iter(self._buckets), source))"),
        ("so many sources are remembered", "if len(self._buckets) < SOURCES_MAX and not", "if not"),
        ("a source is not forgotten while it counts", "SOURCES_MAX and not bucket.is_full(now_s):", "0:"),
        ("a source that goes on is not forgotten", "            self._buckets.move_to_end(source)\n", "            pass\n"),
        ("the rate is that of UDP", "HANDSHAKES_PER_SECOND = 20", "HANDSHAKES_PER_SECOND = 200"),
        ("so is the burst", "HANDSHAKES_BURST = 100", "HANDSHAKES_BURST = 1000"),
    ),
    *in_python(
        "link/listener_filter", "unit/link/test_listener_filter.py",
        ("IPv4 sources are turned away", "(_JUMP_EQUAL, 0, 1, int.from_bytes(source)), (_RETURN, 0, 0, _DROP)", "(_JUMP_EQUAL, 0, 1, int.from_bytes(source)), (_RETURN, 0, 0, _PASS)"),
        ("all of a /64 counts, and no more", "            (_JUMP_EQUAL, 0, 1, int.from_bytes(source[4:])),\n", "            (_JUMP_EQUAL, 0, 1, 1),\n"),
        ("each IP version has its part", "(_JUMP_EQUAL, 0, 1, 6),", "(_JUMP_EQUAL, 0, 1, 4),"),
        ("others pass", "    ipv4.append(_PASS_ALL)\n", "    ipv4.append((_RETURN, 0, 0, _DROP))\n"),
        ("a source may be refused sometimes", "if source in self._until_s or self._refusals.take(source, now_s):", "if source in self._until_s:"),
        ("they come back", "if at_s > now_s}", "if True}"),
        ("they do not come back at once", "if at_s > now_s}", "if False}"),
        ("so many are turned away", "            del self._until_s[next(iter(self._until_s))]\n", "            pass\n"),
        ("of none, all are heard", "    if not sources:\n        detach(listener)\n        return\n", "    if not sources:\n        return\n"),
        ("a link is free of the filter", "        connection.setsockopt(socket.SOL_SOCKET, _SO_DETACH_FILTER, 0)", "        pass"),
    ),
    *in_python(
        "link/arrivals", "unit/link/test_arrivals.py unit/link/test_finding.py",
        ("a source has its part", "if len(mine) >= ARRIVALS_PER_SOURCE_MAX:", "if False:"),
        ("that part is exact", "if len(mine) >= ARRIVALS_PER_SOURCE_MAX:", "if len(mine) > ARRIVALS_PER_SOURCE_MAX:"),
        ("all have a limit", "elif self._n >= ARRIVALS_MAX:", "elif False:"),
        ("that limit is exact", "elif self._n >= ARRIVALS_MAX:", "elif self._n > ARRIVALS_MAX:"),
        ("the source that has most loses one", "most = max(map", "most = min(map"),
        ("of several any", "random.choice(crowds)", "crowds[0]"),
        ("the oldest of them goes", "self._let_go(next(iter(crowd)))", "self._let_go(list(crowd)[-1])"),
        ("one that goes is counted", "        self._on_refused()\n", ""),
        ("one that has gone makes room", "        self._n -= 1\n", ""),
        ("whoever greets is no arrival", "                self.leave(arrival)\n                self._on_opening", "                self._on_opening"),
        ("what cannot be is closed", "        self._greeter.check_opening(arrival.opening)\n", ""),
        ("nothing behind a first message is read", "arrival.connection.recv(n_missing)", "arrival.connection.recv(4096)"),
        ("one that hangs up is closed", "        if not piece:\n", "        if False:\n"),
        ("bytes do not wake us one by one", "            frames.wake_for(arrival.connection, n_of_head if n_of_head > 0 else n_missing)\n", ""),
        ("a link wakes for each byte", "                frames.wake_for(arrival.connection, 1)\n", ""),
        ("silence has an end", "is_late = now_s - arrival.since_s > silent_s", "is_late = False"),
        ("it is short in a crowd", "PRESSED_TIMEOUT_S if is_pressed else HELLO_TIMEOUT_S", "HELLO_TIMEOUT_S"),
        ("and only there", "is_pressed = self._n > ARRIVALS_MAX // 2", "is_pressed = True"),
        ("a message has an end", "is_late = now_s - first_byte_s > REST_TIMEOUT_S", "is_late = False"),
        ("time is looked at again", "loop.call_later(_SWEEP_S, self._sweep) if self._n else None", "None"),
    ),
    *in_python(
        "link/finding", "unit/link/test_finding.py",
        ("a source has a rate", "elif not self._limits.take(source, now_s):", "elif False:"),
        ("that is counted", "        self._counts.refused += 1\n        self._turned_away.refuse", "        self._turned_away.refuse"),
        ("it is said once", "            self._warned_s = now_s\n", ""),
        ("a task is for those who have spoken", "            if not self._greeter.opening_bytes:\n                self._greet(arrival)\n", "            self._greet(arrival)\n"),
        ("what was read is handed on", "self._greeter.welcome(connection, arrival.opening)", "self._greeter.welcome(connection)"),
    ),
    *in_python(
        "link/greeting", "unit/link/test_greeting.py",
        ("one length is right", "if opening[:2] != _INITIATION_HEAD[: len(opening)][:2]:", "if False:"),
        ("one type is right", "if opening[: frames.HEAD_BYTES] != _INITIATION_HEAD[: len(opening)]:", "if False:"),
        ("mac1 is looked at before a DH", "if not cookies.has_valid_mac1(frames.message_of(opening), self._own.public):", "if False:"),
        ("all together have a rate", "if not self._proven.take(clock.boottime_s()):", "if False:"),
        ("a member greets once at a time", "            last.cancel()\n", "            pass\n"),
        ("a TAP's place is looked at", "            self._check_room(member)\n            return member, consumed", "            return member, consumed"),
        ("a client on a TAP is told of it", 'is_tap = self.hello_for(member).mode == "tap"', "is_tap = False"),
    ),
    *in_python(
        "link/tap_place", "unit/link/test_tap_place.py",
        ("a TAP carries one", "if not self._is_tap or not others:", "if True:"),
        ("a TUN carries many", "if not self._is_tap or not others:", "if not others:"),
        ("a peer may come again", "if link.slot != member.slot]", "]"),
        ("it is said once a minute", "            self._warned_s = now_s\n", ""),
    ),
    *in_python(
        "link/datagram_handshakes", "unit/link/test_tap_place.py",
        ("one that dials asks for the place", "        self._greeter.check_still_room(correspondent.member)\n", ""),
    ),
    *in_python(
        "link/datagram_sessions", "unit/link/test_tap_place.py",
        ("the place is looked at again at the end", "            self._greeter.check_still_room(correspondent.member)\n", "            pass\n"),
        ("a key that came too late is forgotten", '            self._lane.send("link-reader", ForgetReceivingKeys(slot))\n            return\n', "            return\n"),
    ),
    *in_python(
        "link/handshake_queue", "unit/link/test_handshake_queue.py",
        ("a source has its part of the queue", " or self._n_of_source[source] >= QUEUE_PER_SOURCE_MAX:", ":"),
        ("it gets it back", "            self._count_down(source_of_address(address.host))\n", ""),
    ),
    *in_python(
        "metrics/software", "unit/metrics/test_metrics.py",
        ("a peer has a few names", "len(self._seen) >= VALUES_MAX or ", ""),
        ("a name is known", " or not _KNOWN.fullmatch(software):", ":"),
        ("a name is whole", "_KNOWN.fullmatch(software)", "_KNOWN.match(software)"),
    ),
    *in_python(
        "metrics/server", "unit/metrics/test_metrics.py",
        ("the source that has most loses one", "if source == most)", "if True)"),
        ("other hosts have a rate", "return is_loopback or self._limits.take(", "return True or self._limits.take("),
        ("this host has none", "return is_loopback or", "return"),
    ),
)

_NATIVE_MUTANTS = in_c(
    "loop", "test_tun_reader",
    ("a TAP's frames go to the link that came last", "    loop->last_slot = slot;\n", ""),
) + in_c(
    "outbound", "test_tun_reader",
    ("they go nowhere else", "return (int)loop->last_slot;", "return 0;"),
)
# fmt: on

SUITES = (
    Suite("limits-gateway", ("tests/unit/link",), _MUTANTS),
    Suite("limits-gateway-native", ("test_tun_reader",), _NATIVE_MUTANTS, run_native),
)
