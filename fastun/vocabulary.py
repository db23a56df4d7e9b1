"""Words that configuration, hellos, status and metrics have in common, as types."""

from typing import Literal

Role = Literal["serve", "connect"]
Mode = Literal["tun", "tap"]
Wire = Literal["wireguard", "plain", "simpletun"]
Transport = Literal["tcp", "udp"]
EndpointOrder = Literal["listed", "spread"]
WorkerRole = Literal["tun-reader", "link-writer", "link-reader", "tun-writer"]
LogFormat = Literal["console", "json"]
LogLevel = Literal["info", "debug"]
