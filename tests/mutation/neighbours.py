"""Mutants of the rule "neighbours" of SECURITY.md: what comes by another interface is dropped."""

# ruff: noqa: E501 (a table: what is replaced stands in one piece)

from __future__ import annotations

from tests.mutation.mutant import Suite, in_python

_MUTANTS = (
    *in_python(
        "host/strong_host", "unit/host/test_strong_host.py",
        ("the device's own packets pass", 'by_others = _match("!=", interface', 'by_others = _match("==", interface'),
        ("only packets for its addresses are dropped", 'for_us = _match("==", destination', 'for_us = _match("!=", destination'),
        ("the host's own packets pass", '_match("!=", source_type, "local")', '_match("==", source_type, "local")'),
        ("it is dropped", '[{"counter": None}, {"drop": None}]', '[{"counter": None}]'),
        ("a forged source of our own is dropped", "    yield [by_wire, for_us, *drop]\n", ""),
        ("the host's own packets pass by the loopback", '{"set": [inputs.device, inputs.loopback]}', '{"set": [inputs.device]}'),
        ("it is dropped before connections are tracked", "_RAW_PRIORITY: Final = -300", "_RAW_PRIORITY: Final = 0"),
        ("IPv6 has its own header", '6: "ip6"}', '6: "ip"}'),
        ("the table is replaced", '[{"add": whole}, {"delete": whole}]', "[]"),
        ("it may be switched off", "        if self._wanted is False:\n            return {}\n", ""),
        ("it may be asked for", "if self._wanted is True or not addresses:", "if not addresses:"),
        ("it is for a default route", "if not has_default(_routes(netlink, index)):", "if False:"),
        ("halves are a default route", "for merged in ipaddress.collapse_addresses(networks)", "for merged in networks"),
        ("where the host forwards it is off", "for version in addresses if not forwards(version)}", "for version in addresses}"),
        ("that is said", "if kept != addresses and not self._has_said_forwarding:", "if False:"),
        ("that is said once", "            self._has_said_forwarding = True\n", ""),
        ("one interface that forwards is enough", '.glob("*/forwarding")', '.glob("all/forwarding")'),
        ("what new interfaces will do does not count", 'path.parent.name != "default" and', ""),
        ("nothing is done twice", "        if guarded == self._guarded:\n            return\n", "        if not guarded:\n            return\n"),
        ("it is checked first", '            _nft(document, "-c")\n', ""),
        ("what failed is tried again", "                error=str(error),\n            )\n            return\n", "                error=str(error),\n            )\n"),
        ("a missing nft is named", 'if not programs.find("nft"):', "if False:"),
        ("an odd name is no pattern", "if _PLAIN_NAME.fullmatch(self._interface):", "if True:"),
        ("each interface has its own table", 'f"_{ord(odd.group()):02x}"', '"_"'),
    ),
    *in_python(
        "config/host", "unit/config/test_settings.py",
        ("auto is the only word", 'if value != "auto":', "if False:"),
    ),
)  # fmt: skip

SUITES: tuple[Suite, ...] = (
    Suite(name="neighbours", tests=("tests/unit/host/test_strong_host.py",), mutants=_MUTANTS),
)
