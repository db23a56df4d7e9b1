"""Security mutants of fastun/host: what is changed of the host, and what never is."""

# ruff: noqa: E501 (a table: what is replaced is in one piece)

from __future__ import annotations

from tests.mutation.security import SecurityMutant, table

MUTANTS: tuple[SecurityMutant, ...] = (
    *table(
        "unit/host/test_name_servers",
        ("NameServers.set", "an interface's name is a word",
         "            _check(_INTERFACE, [self._interface])\n", ""),
        ("NameServers.set", "a server is an address",
         "            _check(_SERVER, servers)\n", ""),
        ("NameServers.set", "a domain is a word",
         "            _check(_DOMAIN, domains)\n", ""),
    ),
    *table(
        "unit/host/test_full_tunnel",
        ("beside", "only private networks are reached beside a tunnel that takes everything",
         "        and any(is_inside(each.peer.network, private) for private in PRIVATE)\n", ""),
        ("beside", "the LAN is reached only where it is allowed",
         "(allow_lan or each.index not in uplinks)", "True"),
        ("apart", "what meets a network behind the tunnel is not beside it",
         "both[meets].append(network)", "both[0].append(network)"),
    ),
    *table(
        "unit/host/test_pushed unit/host/test_own_packets",
        ("OtherNetworks.holding", "an equal network is beaten",
         "if other.network == network or not is_all:", "if not is_all:"),
        ("pushed_routes", "a route does not beat a network of another interface",
         "elif (other := next(others.holding(network), None)) is not None:", "elif False:"),
        ("configured_routes", "a LAN's network is not replaced, whatever its metric",
         "if (other := others.equal_to(network)) is not None:", "if False and (other := others.equal_to(network)) is not None:"),
        ("placed", "a route that holds our server is not in the main table",
         "elif not needs_rules:", "elif True:"),
        ("placed", "addresses in use count",
         ".by(outer)", ".by(())"),
        ("_why_no_address", "an address of another interface is refused",
         "if others.equal_to(host) is not None:", "if False:"),
        ("Reconciler._present", "what others have made is not ours",
         "is_ours = each.is_ours or each.local in self._addresses", "is_ours = True"),
    ),
    *table(
        "unit/host/test_strong_host",
        ("_rules_of", "the device's own packets pass",
         'by_others = nft.match(interface, inputs[0], "!=")', "by_others = nft.match(interface, inputs[0])"),
        ("_rules_of", "a forged source of our own is dropped",
         "    yield by_wire, for_us, *drop\n", ""),
    ),
    *table(
        "unit/host/test_forward_table",
        ("_allowed", "peers do not reach each other",
         "if not forward.peers:", "if False:"),
        ("_allowed", "only what is allowed is forwarded",
         "    if forward.to:\n", "    if False:\n"),
        ("_not_forwarded", "a host is no router for its neighbours",
         "*way, nft.COUNTER, nft.DROP", "*way, nft.COUNTER"),
    ),
    *table(
        "unit/host/test_forwarding",
        ("Forwarding.follow", "nothing is forwarded without its rules",
         'return [Refusal("forwarding", name, str(error))], []', "pass"),
    ),
    *table(
        "unit/host/test_kill_switch_rules",
        ("_own", "the mark alone lets nothing pass",
         'match({"concat": place}, places), ACCEPT', "ACCEPT"),
        ("_beside", "the LAN is not reachable unasked",
         "allowed.has_lan or is_within", "True"),
        ("_beside", "no names are asked for in the LAN",
         "        yield (*names, COUNTER, DROP)\n", "        pass\n"),
        ("_beside", "a public network of the LAN is none of it",
         "is_wanted and is_private(network)", "is_wanted"),
        ("table", "what no rule accepts is dropped after all that changes packets",
         '_chain("postrouting", local, *own, *beside, dropped)', '_chain("postrouting", (ACCEPT,))'),
    ),
    *table(
        "unit/host/test_programs",
        ("_wait", "a program has a time limit",
         "if is_cut or time.monotonic() >= deadline:", "if is_cut:"),
    ),
    *table(
        "unit/host/test_journal_files",
        ("", "only settings of the network are written",
         'pattern=r"^net(/[^/\\s.][^/\\s]*)+\\Z"', 'pattern=r"^[^/]+(/[^/\\s.][^/\\s]*)+\\Z"'),
    ),
    *table(
        "unit/host/test_journal",
        ("Journal.changing", "nothing is changed once the end has begun",
         "if self._is_over or ending.is_asked():", "if self._is_over:"),
        ("Journal.changing", "a change is recorded before it is made",
         "                self._record(change)\n            yield\n", "                pass\n            yield\n            self._record(change)\n"),
    ),
    *table(
        "unit/host/test_journal_files",
        ("_read", "a journal that others can write is not read",
         "or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)", ""),
    ),
)  # fmt: skip
