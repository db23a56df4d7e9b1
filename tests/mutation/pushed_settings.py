"""Mutants of the rule "pushed settings" of SECURITY.md: what a push may do, and what it replaces.

Also of whose the files are that hold keys, and of the timestamps of our initiations.
"""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_python

_MUTANTS = (
    *in_python(
        "host/other_networks", "unit/host/test_pushed.py",
        ("an equal network is beaten", "        if other.network == network:\n", "        if False:\n"),
        ("what lies inside a network beats it", "if not is_all and is_inside(network, other.network):", "if False:"),
        ("what covers a network does not", "inner.subnet_of(outer)", "(inner.subnet_of(outer) or inner.supernet_of(outer))"),
        ("half of a default route is no network to lie in", "if not is_all and is_inside", "if is_inside"),
        ("a default route is no network", "        if network.prefixlen and not", "        if not"),
        ("networks of our own device do not count", "== MAIN_TABLE and indices != {but}:", "== MAIN_TABLE:"),
        ("addresses of our own device do not count", '        if address["index"] == but:\n            continue\n', ""),
        ("addresses count like routes", "[*_routes(netlink, but), *_addresses(netlink, but)]", "[*_routes(netlink, but)]"),
        ("routes count like addresses", "[*_routes(netlink, but), *_addresses(netlink, but)]", "[*_addresses(netlink, but)]"),
        ("both ends of a point-to-point link count", '("IFA_ADDRESS", "IFA_LOCAL")', '("IFA_LOCAL",)'),
        ("each of several ways counts", '{hop["oif"] for hop in hops} if hops else {', '{hops[0]["oif"]} if hops else {'),
    ),
    *in_python(
        "host/pushed", "unit/host/test_pushed.py",
        ("a route does not beat a network of another interface", "            elif other is not None:\n", "            elif False:\n"),
        ("a route that is named does", "            if network in self._named:\n", "            if False:\n"),
        ("what is never routed is refused", "elif network.is_multicast or network.is_link_local or network.is_loopback:", "elif False:"),
        ("endpoints of the configuration count", "outer_addresses.of_settings(self._settings)[0] | set(in_use)", "set(in_use)"),
        ("addresses in use count", "outer_addresses.of_settings(self._settings)[0] | set(in_use)", "outer_addresses.of_settings(self._settings)[0]"),
        ("an address brings no route to our server", "        if outer_addresses.catches(address.network, outer):\n", "        if False:\n"),
        ("an address is no other interface's", "        if any(other.network == host for other in others):\n", "        if False:\n"),
        ("an address takes no packets from others", "if not is_meant and other_networks.beaten_by(host, [other]):", "if False:"),
        ("one that is named may", '            return ""\n        is_named', "            pass\n        is_named"),
        ("one whose network is named may", "is_named = address.network in self._named", "is_named = False"),
        ("but not from a network inside that", "is_meant = is_named and other_networks.is_inside(address.network, other.network)", "is_meant = is_named"),
        ("addresses of the last push go", "for address in self._addresses - set(wanted):", "for address in ():"),
        ("those of others stay", "for address in self._addresses - set(wanted):", 'for address in map(__import__("ipaddress").ip_interface, ("10.9.0.1/24",)):'),
        ("what others have made is not ours", "            if _key(address) in present:\n                continue\n", "            if _key(address) in present:\n                self._addresses.add(address)\n                continue\n"),
        ("an address that has gone is no fault", "            with contextlib.suppress(NetlinkError):  # removed", "            if True:  # removed"),
        ("the MTU goes back", "wanted = mtu or (self._settings.mtu if is_now == self._mtu else is_now)", "wanted = mtu or is_now"),
        ("only where it is as it was pushed", "(self._settings.mtu if is_now == self._mtu else is_now)", "self._settings.mtu"),
        ("what is refused again is not said again", "if said and said != self._said.get(what):", "if said:"),
    ),
    *in_python(
        "host/routes", "unit/host/test_pushed.py",
        ("our own packets are kept out of half of everything", "is_default = network.prefixlen <= HALF_PREFIX", "is_default = network.prefixlen == 0"),
        ("they are kept out of what has our server", "return is_default or outer_addresses.catches(network, outer)", "return is_default"),
        ("without a mark there is no such route", "if place.table == MAIN_TABLE and self._needs_rules(network, outer):", "if False:"),
        ("such a route has its rules", "        if self._is_led(table):\n", "        if False:\n"),
        ("a table of the user's own has none", "        return is_ours and mark != 0", "        return mark != 0"),
        ("routes of the last push go", "self._remove_pushed(netlink, index, self._pushed - set(wanted))", "pass"),
        ("those of both pushes stay", "self._remove_pushed(netlink, index, self._pushed - set(wanted))", "self._remove_pushed(netlink, index, set(self._pushed))"),
        ("those of others are not ours", "                    if self._add_one(netlink, index, place):\n", "                    if self._add_one(netlink, index, place) or True:\n"),
        ("only what is as we made it goes", 'as_made = {"oif": index, "proto": PROTOCOL, "table": place.table}', 'as_made = {"oif": index, "proto": 3, "table": place.table}'),
        ("rules go with their last route", "        if any(self._is_led(place.table) for place in gone):\n", "        if False:\n"),
        ("one route that is refused stops no other", "                except RuntimeFailure as error:\n", "                except ZeroDivisionError as error:\n"),
        ("our packets have a mark where a route may catch them", "needs_mark = takes_all or _may_catch_ourselves(settings)", "needs_mark = takes_all"),
        ("they have one where nothing can be known", "return not is_complete or any(", "return any("),
        ("they have none where no route can", "return not is_complete or any(outer_addresses.catches(prefix, outer) for prefix in prefixes)", "return True"),
        ("half of everything may take names as well", "any(prefix.prefixlen <= HALF_PREFIX for prefix", "any(prefix.prefixlen == 0 for prefix"),
    ),
    *in_python(
        "host/outer_addresses", "unit/host/test_pushed.py",
        ("IPv4 in IPv6 is IPv4", "return mapped or address", "return address"),
        ("a name that is not resolved is known as such", "return set(found), resolved == names", "return set(found), True"),
        ("a resolver is not waited for", "thread.join(_LOOKUP_S)", "thread.join()"),
    ),
    *in_python(
        "host/device", "unit/host/test_device_pushes.py",
        ("name servers of the last push go", "            self._name_servers.unset()\n\n    def statistics", "            pass\n\n    def statistics"),
    ),
    *in_python(
        "link/push", "unit/link/test_push.py",
        ("a client takes so many", "        if len(getattr(push, name)) > most:\n", "        if False:\n"),
        ("a datagram is shorter than a hello", "(DATAGRAM_HELLO_BYTES_MAX if has_udp else HELLO_BYTES_MAX)", "HELLO_BYTES_MAX"),
        ("a datagram fits a path of 1280", "1280 - 40 - 8 - 16 - 16", "1420 - 40 - 8 - 16 - 16"),
        ("the rest of the hello has its room", " - _REST_BYTES\n", "\n"),
        ("routes are looked at", "    if fits(push, room):\n        return\n", "    return\n"),
        ("what fits is counted", "key=lambda some: not is_so(some)) - 1)", "key=lambda some: not is_so(some)))"),
        ("a network is pushed once", "map(str, dict.fromkeys((*(address.network for address in own), *more)))", "map(str, (*(address.network for address in own), *more))"),
    ),
    *in_python(
        "peers/membership", "unit/link/test_push.py",
        ("addresses are cut to what fits", "while push.addresses and not push_form.fits(push, room):", "while False:"),
        ("that is said once", "            self._cut_short.add(peer.name)\n", ""),
    ),
    *in_python(
        "session/timestamps", "unit/session/test_timestamps.py",
        ("timestamps grow", "max(self._last_ns + STEP_NS, self._now_ns())", "self._now_ns()"),
        ("they follow the clock", "max(self._last_ns + STEP_NS, self._now_ns())", "self._last_ns + STEP_NS"),
        ("a step outlives the whitening", "STEP_NS: Final = 2**24", "STEP_NS: Final = 2**23"),
        ("a restart goes on", "self._reserved_ns = self._read()", "self._reserved_ns = 0"),
        ("what is used was kept before", "        if self._last_ns > self._reserved_ns:\n", "        if self._last_ns > self._reserved_ns + 2**31:\n"),
        ("the file is not written each time", "        if self._last_ns > self._reserved_ns:\n", "        if True:\n"),
        ("what is kept is not far ahead", "RESERVED_NS: Final = 10**9", "RESERVED_NS: Final = 600 * 10**9"),
        ("each key has its own", "blake2s(public_key,", "blake2s(bytes(32),"),
        ("a damaged file is not believed", "if not 0 < kept_ns < _LATEST_NS:", "if False:"),
        ("a far future is not believed", "0 < kept_ns < _LATEST_NS", "0 < kept_ns"),
        ("a FIFO is not waited for", " | os.O_NONBLOCK)", ")"),
        ("one warning is enough", "            self._has_warned = True\n", ""),
    ),
    *in_python(
        "link/greeting", "unit/link/test_greeting.py",
        ("initiations have timestamps that grow", "cookie=cookie, timestamp=timestamp", "cookie=cookie"),
        ("those on streams as well", "initiation, state = self.initiate(member)\n", "initiation, state = noise.initiate(self._own, member.peer.public_key)\n"),
    ),
    *in_python(
        "private_file", "unit/test_private_file.py",
        ("a key is its owner's", '    if status.st_uid not in trusted_users():\n        raise ConfigError(f"{name} belongs', '    if False:\n        raise ConfigError(f"{name} belongs'),
        ("a group may not read", "_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO", "_OTHERS: Final = stat.S_IRWXO"),
        ("others may not read", "_OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO", "_OTHERS: Final = stat.S_IRWXG"),
        ("the directory is looked at", "    check_directory(path, name)\n", ""),
        ("a directory is its owner's", "        if status.st_uid not in trusted_users():\n            raise", "        if False:\n            raise"),
        ("a group may not write there", "_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH", "_OTHERS_WRITE: Final = stat.S_IWOTH"),
        ("others may not write there", "_OTHERS_WRITE: Final = stat.S_IWGRP | stat.S_IWOTH", "_OTHERS_WRITE: Final = stat.S_IWGRP"),
        ("a sticky directory is as good", " and not status.st_mode & stat.S_ISVTX:", ":"),
        ("a link's target has a directory, too", "(path.absolute().parent, path.resolve().parent)", "(path.absolute().parent,)"),
        ("a link stands in one", "(path.absolute().parent, path.resolve().parent)", "(path.resolve().parent,)"),
        ("sudo counts for root alone", "if os.geteuid() == 0 and by_sudo", "if by_sudo"),
    ),
    *in_python(
        "peers/store", "unit/test_private_file.py",
        ("what SQLite has beside it is looked at", "            private_file.check(beside, beside.stat(), quote(str(beside)))\n", "            pass\n"),
    ),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    Suite(
        name="pushed-settings",
        tests=("tests/unit/host", "tests/unit/link/test_push.py", "tests/unit/peers"),
        mutants=_MUTANTS,
    ),
)
