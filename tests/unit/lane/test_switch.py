"""What the switch of a TAP device shares with its workers."""

from __future__ import annotations

from fastun.lane.switch import HAIRPIN_BYTES, Switch, attach_switch
from fastun.native import MacTable, Ring


def test_a_worker_attaches_to_the_addresses_and_the_hairpin() -> None:
    switch = Switch()
    macs, hairpin = attach_switch(switch.descriptors(), HAIRPIN_BYTES)
    assert isinstance(macs, MacTable)
    assert isinstance(hairpin, Ring)
    assert hairpin.size_bytes == switch.hairpin.size_bytes == HAIRPIN_BYTES
    assert macs.behind(3, 4) == (0, [])
    switch.set_own([bytes(6)] * 9)  # more than there is room for
    switch.set_own([])
    macs.close()
    hairpin.close()
    switch.close()


def test_without_a_switch_there_is_nothing_to_attach_to() -> None:
    assert attach_switch([], 0) == ()
