"""Mutants of the rule "switches" of SECURITY.md.

Left out is what no test can tell from the code: how long what is refused is not tried again, beyond
its bounds; that "no room" is no fault of an offload, nor what a lone datagram was refused for and at
once no more, which no test can bring about.
"""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Mutant, Suite, in_c, in_python
from tests.mutation.testing import run_native

_REFUSALS = "test_refusals test_coalescing"


def _in_header(*changes: tuple[str, str, str]) -> tuple[Mutant, ...]:
    tests = tuple(_REFUSALS.split())
    return tuple(Mutant(claim, "csrc/refusals.h", old, new, tests) for claim, old, new in changes)


_NATIVE = (
    *_in_header(
        ("what is refused has an end", "return now_ns < refusals->off_until_ns;", "return refusals->off_until_ns != 0;"),
        ("a refusal is one of some", "    refusals->n++;\n", "    refusals->n = n_max;\n"),
        ("refusals turn it off", "    refusals->off_until_ns = now_ns + REFUSED_RETRY_NS;\n", ""),
        ("it is off for less than a minute", "now_ns + REFUSED_RETRY_NS;", "now_ns + 3 * REFUSED_RETRY_NS;"),
        ("a refused trial is no news", "    return was_on;", "    return true;"),
        ("success ends the count", "    refusals->n = 0;\n", ""),
        ("success turns it on", "    refusals->off_until_ns = 0;\n    return was_off;", "    return was_off;"),
        ("that it is on again is news", "    return was_off;", "    return false;"),
        ("a count's end is no news", "    return was_off;", "    return true;"),
    ),
    *in_c(
        "datagram_writer", "test_refusals test_datagram_writer",
        ("our address may have gone", "    if (!may_be_the_source(link, error))\n        return error;\n", "    return error;\n"),
        ("our address that has gone is not tried each time", "    link->sourceless_until_ns = clock_now_ns() + REFUSED_RETRY_NS;\n    error", "    link->sourceless_until_ns = 1;\n    error"),
        ("our address is not blamed for another fault", "        link->sourceless_until_ns = 0; /* the address was not the cause */\n", "        ;\n"),
        ("our address that is back is used", "        link->sourceless_until_ns = 0;\n    return link->sourceless", "        ;\n    return link->sourceless"),
        ("a new endpoint is answered from where it knows us", "        link->sourceless_until_ns = 0;\n}", "        ;\n}"),
        ("a train that goes without our address is no fault of the offload", "    if (refused == 0)\n        note_train_taken(loop, train);\n    else if", "    if"),
        ("a train that fails singly is no fault of the offload", "else if (n_failed == 0 && train->n_segments", "else if (train->n_segments"),
        ("a refused train is counted", "    stats_add(&loop->stats->counters[COUNTER_refused_offloads], 1);\n", ""),
        ("a kernel that refuses trains gets no more", "(refusals->off_until_ns == 0 || !refusals_is_off(refusals, clock_now_ns()))", "true"),
        ("trains are tried again", "!refusals_is_off(refusals, clock_now_ns())", "false"),
        ("a train that is taken ends the count", "refusals->n > 0 && refusals_end(refusals))", "0)"),
        ("a lone datagram that is taken shows nothing", "if (train->n_segments > 1 && refusals->n > 0", "if (refusals->n > 0"),
    ),
    *in_c(
        "link_writer", "test_refusals",
        ("news of a link that is gone are none", "    loop->n_news -= link->trains.is_news;\n", ""),
        ("news are told", "        if (loop->n_news > 0)\n            return report_news(loop);\n", ""),
    ),
    *in_c(
        "loop", "test_refusals test_coalescing",
        ("news are told once", "    loop_note_news(loop, refusals);\n    loop->event.index = kind;", "    loop->event.index = kind;"),
        ("an end has no error", "refusals->off_until_ns != 0 ? refusals->error : 0", "refusals->error"),
    ),
    *in_c(
        "frame_writer", "test_coalescing",
        ("refused super-packets are counted", "    if (!is_refused)\n        note_group_refused(loop, run, error);\n", ""),
        ("what is refused singly as well is no fault of the group", "    if (!is_refused)\n", ""),
        ("one that was taken ends the count", "    if (end == WRITE_DONE)\n        note_group_taken(loop, run);\n", ""),
        ("after some refusals no more are made", "return (refusals->off_until_ns == 0 || !refusals_is_off(refusals, clock_now_ns())) &&\n           ", "return "),
        ("refusals are their sender's", "[run->records[0]->slot % N_PEER_SLOTS]", "[0]"),
        ("what is refused of others does not count", "&loop->groups[slot % N_PEER_SLOTS][is_udp]", "&loop->groups[0][is_udp]"),
        ("a group is one peer's", "if (is_plain && is_of_the_peer && gro_extend", "if (is_plain && gro_extend"),
    ),
    *in_c(
        "endpoint", "test_endpoint",
        ("a broadcast address is not answered from", "&info->ipi_spec_dst", "&info->ipi_addr"),
        ("nor is it on a socket of IPv6", "!is_mapped(&info->ipi6_addr) && !IN6", "!IN6"),
        ("a multicast address is not answered from", " && !IN6_IS_ADDR_MULTICAST(&info->ipi6_addr))", ")"),
    ),
)  # fmt: skip

_PYTHON = (
    *in_python(
        "link/offloads", "unit/link/test_offloads.py",
        ("a change is logged once in a while", 'elif now_s - self._refused_s.get(key, float("-inf")) >= QUIET_S:', "else:"),
        ("an end is logged where the beginning was", "            if key in self._logged:\n", "            if True:\n"),
    ),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    Suite(name="switches", tests=("test_refusals",), mutants=_NATIVE, run=run_native),
    Suite(name="switches-log", tests=("tests/unit/link/test_offloads.py",), mutants=_PYTHON),
)
