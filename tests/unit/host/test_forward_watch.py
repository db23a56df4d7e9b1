"""What is said of a host that does not forward as it is to: once, and when it does again."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from fastun import log
from fastun.config.forward import Forward
from fastun.host.condition import Condition
from fastun.host.firewall import forward_check, forward_watch, nft
from fastun.host.firewall.forward_check import Obstacle
from fastun.host.firewall.forward_watch import ForwardWatch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastun.host.firewall.forwarding import Forwarding

DROPS = "ip filter FORWARD drops what is to be forwarded; run 'iptables -I'"


class Watched:
    """A watch whose host a test changes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.obstacles: list[Obstacle] = []
        self.interfaces = ["lo", "eth0"]
        self.now_s = 0.0
        self.n_read = 0
        self.forwarding = SimpleNamespace(
            interface="ft0", wanted=Forward(), ways={4: ["eth0"], 6: []}
        )
        self.condition = Condition("ft0")
        self.watch = ForwardWatch(cast("Forwarding", self.forwarding), self.condition)
        monkeypatch.setattr(forward_check, "find", self._find)
        monkeypatch.setattr(forward_watch.time, "monotonic", lambda: self.now_s)
        monkeypatch.setattr(
            forward_watch.socket, "if_nameindex", lambda: list(enumerate(self.interfaces))
        )

    def _find(self, interface: str, ways: dict[int, list[str]]) -> list[Obstacle]:
        assert (interface, ways) == ("ft0", self.forwarding.ways)
        self.n_read += 1
        self.now_s += 0.1
        return self.obstacles

    def look(self, *, have_rules_changed: bool = True, refused: tuple[str, ...] = ()) -> bool:
        return self.watch.look(have_rules_changed=have_rules_changed, refused=refused)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Iterator[Watched]:
    log.configure("console", 0)
    yield Watched(monkeypatch)
    structlog.reset_defaults()


def test_an_obstacle_is_said_once_and_so_is_its_end(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.obstacles = [Obstacle("ip filter FORWARD", "iptables -I")]
    for _ in range(3):
        watched.look()
        watched.now_s += 10
    assert watched.condition.fault() == DROPS
    assert capsys.readouterr().err.count(DROPS) == 1
    watched.obstacles = []
    watched.look()
    assert watched.condition.fault() == ""
    assert "nothing is in the way of forwarding any more" in capsys.readouterr().err


def test_rules_are_read_when_they_change_and_once_a_minute(watched: Watched) -> None:
    assert not watched.look()
    assert not watched.look(have_rules_changed=False)
    assert watched.n_read == 1
    watched.now_s += 61
    watched.look(have_rules_changed=False)
    assert watched.n_read == 2
    watched.forwarding.ways = {4: ["eth1"], 6: []}
    watched.now_s += 5
    watched.look(have_rules_changed=False)
    assert watched.n_read == 3


def test_rules_that_change_all_the_time_cost_a_twentieth_of_it(watched: Watched) -> None:
    assert not watched.look()
    assert watched.look(), "they are still to be read"
    watched.now_s += 1
    assert watched.look()
    watched.now_s += 1
    assert not watched.look()
    assert watched.n_read == 2


def test_an_interface_is_waited_for(watched: Watched) -> None:
    watched.forwarding.wanted = Forward(masquerade=("eth0", "ppp0"))
    watched.look()
    waiting = "forward.masquerade: waiting for interface ppp0, which this host does not have"
    assert watched.condition.forwarding == (waiting,)
    watched.interfaces.append("ppp0")
    watched.look(have_rules_changed=False)
    assert watched.condition.forwarding == ()


def test_what_is_refused_comes_first_and_is_said_elsewhere(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    watched.look(refused=("ft0: nft is missing",))
    assert watched.condition.fault() == "ft0: nft is missing"
    assert capsys.readouterr().err == ""


def test_a_gateway_that_does_not_forward_reads_nothing(watched: Watched) -> None:
    watched.forwarding.wanted = None
    assert not watched.look()
    assert watched.n_read == 0


KEYS = [
    "match",
    "left",
    "right",
    "op",
    "meta",
    "key",
    "ct",
    "vmap",
    "data",
    "jump",
    "target",
    "xt",
    "name",
    "payload",
    "field",
    "set",
    "accept",
    "drop",
]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["ft0", "accept", "drop", "x"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=3,
        )
    ),
    max_leaves=12,
)


@given(st.lists(JSON, max_size=4))
def test_rules_of_an_unknown_form_end_no_gateway(expressions: list[Any]) -> None:
    chain = {"family": "ip", "table": "filter", "name": "FORWARD"}
    rule = {"family": "ip", "table": "filter", "chain": "FORWARD", "expr": expressions}
    items: list[dict[str, Any]] = [
        {"chain": chain | {"hook": "forward", "policy": "drop"}},
        {"rule": rule},
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nft, "ruleset", lambda: items)
        patch.setattr(forward_check, "_has_legacy", lambda _: False)
        found = forward_check.find("ft0", {4: ["eth0"], 6: []})
    assert all(isinstance(each, Obstacle) for each in found)
