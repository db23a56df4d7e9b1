"""What a device does with pushed name servers: they are replaced as the rest is."""

from __future__ import annotations

from fastun.host.device import Device


class Names:
    """Takes down what it is said."""

    def __init__(self) -> None:
        self.given: list[object] = []

    def set(self, servers: tuple[str, ...], domains: tuple[str, ...]) -> None:
        self.given.append((servers, domains))

    def unset(self) -> None:
        self.given.append(None)


def test_name_servers_that_are_not_pushed_any_more_are_unset() -> None:
    device = Device.__new__(Device)  # without an interface
    device.name_servers = names = Names()  # type: ignore[assignment]
    device.apply_dns(("10.9.0.1",), ("example.net",))
    device.apply_dns((), ())
    assert names.given == [(("10.9.0.1",), ("example.net",)), None]
